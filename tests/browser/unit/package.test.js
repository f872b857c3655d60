/** web/ is an npm package: what it holds, and that it is imported by its name. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const quiet = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] };

test('npm pack holds the client and its types, and nothing else', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'ringback-pack-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const [packed] = JSON.parse(execFileSync('npm', ['pack', '--json', '--pack-destination', dir, path.join(ROOT, 'web')], quiet));
  assert.deepEqual(packed.files.map(({ path: name }) => name).sort(), ['package.json', 'ringback-call.d.ts', 'ringback-call.js', 'ringback.d.ts', 'ringback.js']);
  const [, version] = readFileSync(path.join(ROOT, 'Cargo.toml'), 'utf8').match(/^version = "(.*)"$/m);
  assert.equal(packed.version, version, 'the version is the gateway’s');

  execFileSync('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--offline', path.join(dir, packed.filename)], { ...quiet, cwd: dir });
  writeFileSync(path.join(dir, 'page.js'), "import { Phone } from 'ringback';\nimport { RingbackCall } from 'ringback/call';\nconsole.log(Phone, RingbackCall);\n");
  const { outputFiles } = await build({ entryPoints: [path.join(dir, 'page.js')], bundle: true, format: 'esm', write: false, logLevel: 'error' });
  assert.match(outputFiles[0].text, /customElements\.define\("ringback-call"/);
});
