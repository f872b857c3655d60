/** Somebody's own web site, with our client in it: its origin is not the gateway's. It signs tokens for its visitors. */

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
/** What may be fetched of the repository. */
const SERVED = /^(web|examples)\/[\w./-]+$/;
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.wav': 'audio/wav' };
/** As strict as it can be: scripts of this origin only, no eval, nothing inline. */
const POLICY = "default-src 'self'; connect-src 'self' ws:; style-src 'self'; object-src 'none'; base-uri 'none'";

export class Pages {
  #made = new Map();
  #answers = new Map();

  static async start() {
    const pages = new Pages();
    pages.server = http.createServer((request, response) => pages.#serve(request, response)).listen(0, '127.0.0.1');
    await once(pages.server, 'listening');
    pages.origin = `http://localhost:${pages.server.address().port}`;
    pages.put('/bench.html', '<!doctype html><meta charset="utf-8"><title>bench</title><script type="module" src="/bench.js"></script>');
    pages.put('/bench.js', await readFile(new URL('page/bench.js', import.meta.url), 'utf8'));
    return pages;
  }

  /** A file of the test's own. */
  put(name, text) { this.#made.set(name, text); }

  /** What `name` answers: `answer(url)` gives the text, or the bytes. */
  answer(name, answer) { this.#answers.set(name, answer); }

  async #serve(request, response) {
    const url = new URL(request.url, this.origin);
    try {
      const answer = this.#answers.get(url.pathname);
      const text = answer ? await answer(url) : this.#made.get(url.pathname) ?? await this.#read(url.pathname.slice(1));
      response.writeHead(200, { 'Content-Type': `${TYPES[path.extname(url.pathname)] ?? 'text/plain'}; charset=utf-8`, 'Content-Security-Policy': POLICY }).end(text);
    } catch (error) {
      response.writeHead(error.status ?? 404).end();
    }
  }

  #read(name) {
    if (!SERVED.test(name) || name.includes('..')) throw new Error(`${name} is not served`);
    return readFile(path.join(ROOT, name), 'utf8');
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
