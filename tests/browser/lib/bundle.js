/**
 * Makes web/ringback.js, the one module that pages load, of web/client/. `node tests/browser/lib/bundle.js` writes it; a unit
 * test says when that was forgotten.
 */

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const WEB = new URL('../../../web/', import.meta.url);
export const BUNDLE = new URL('ringback.js', WEB);

const BANNER = '/*! Ringback, MIT or Apache-2.0. Guide: docs/browser-client.md. Made of web/client/: change it there. */';

export async function bundle() {
  const made = await build({
    entryPoints: [fileURLToPath(new URL('client/index.js', WEB))],
    bundle: true, minify: true, mangleProps: /^_/, format: 'esm', target: 'es2022', charset: 'utf8', legalComments: 'none',
    banner: { js: BANNER }, write: false,
  });
  return made.outputFiles[0].text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(BUNDLE, await bundle());
