/** A web server of somebody else's, with a page for each library: its origin is not the gateway's. */

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';

const require = createRequire(import.meta.url);
const SCRIPTS = {
  jssip: ['/bundle/jssip.js'],
  sipjs: ['/bundle/sipjs.js'],
  ringback: ['/bundle/ringback.js'],
  sipml5: ['/sipml.js', '/bundle/sipml5.js'],
};

/** What a page's own build would do: the library and its user in one script. */
function bundle(name) {
  const { outputFiles } = buildSync({
    entryPoints: [fileURLToPath(new URL(`page/${name}.js`, import.meta.url))],
    bundle: true, format: 'iife', write: false, define: { global: 'globalThis' }, logLevel: 'error',
  });
  return outputFiles[0].text;
}

export class Pages {
  #files = new Map();

  static async start() {
    const pages = new Pages();
    for (const [name, scripts] of Object.entries(SCRIPTS)) {
      pages.#files.set(`/bundle/${name}.js`, bundle(name));
      pages.#show(name, scripts);
    }
    pages.#files.set('/sipml.js', readFileSync(require.resolve('sipml/SIPml-api.js'), 'utf8'));
    pages.server = http.createServer((request, response) => pages.#serve(request, response)).listen(0, '127.0.0.1');
    await once(pages.server, 'listening');
    pages.origin = `http://localhost:${pages.server.address().port}`;
    return pages;
  }

  /** A page of the test's own: `script` may import what npm has, and runs after the plain scripts `before`. */
  put(name, script, before = []) {
    const { outputFiles } = buildSync({
      stdin: { contents: script, resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
      bundle: true, format: 'iife', write: false, define: { global: 'globalThis' }, logLevel: 'error',
    });
    this.#files.set(`/bundle/${name}.js`, outputFiles[0].text);
    this.#show(name, [...before, `/bundle/${name}.js`]);
  }

  #show(name, scripts) {
    const tags = scripts.map((path) => `<script src="${path}"></script>`).join('');
    this.#files.set(`/${name}.html`, `<!doctype html><meta charset="utf-8"><title>${name}</title><audio autoplay></audio>${tags}`);
  }

  #serve(request, response) {
    const file = this.#files.get(new URL(request.url, 'http://localhost').pathname);
    const type = request.url.includes('.js') ? 'text/javascript' : 'text/html';
    response.writeHead(file === undefined ? 404 : 200, { 'Content-Type': `${type}; charset=utf-8` }).end(file);
  }

  url(library) { return `${this.origin}/${library}.html`; }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
