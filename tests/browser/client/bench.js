/** Our client in a page of somebody else's, as a test uses it. */

import { until } from '../lib/processes.js';
import { Softphone } from '../lib/softphone.js';

const SETTLE_MS = 15_000;

export class Bench extends Softphone {
  /** Opens the page in a browser. */
  static async open(browser, pages, options) {
    const page = await browser.open(`${pages.origin}/bench.html`, options);
    const bench = new Bench(page.driver, page.name);
    bench.page = page.page;
    bench.problems = page.problems;
    await until(() => bench.run(() => Boolean(globalThis.bench)), 'the page’s script');
    return bench;
  }

  run(fn, ...args) { return this.driver.evaluate(fn, ...args); }

  /** Makes a phone and starts it; `again`: the page does so by itself when it is loaded anew. */
  async start(options, { again = false } = {}) {
    await this.run((wanted, keep) => {
      if (keep) sessionStorage.setItem('bench options', JSON.stringify(wanted));
      return globalThis.bench.open(wanted).start();
    }, options, again);
  }

  call(to, options) { return this.run((number, more) => globalThis.bench.call(number, more), to, options); }

  /** Does something with a call: the last one, or number `n`. */
  do(method, args = [], n) {
    return this.run(async (name, words, index) => {
      const { calls } = globalThis.bench;
      try {
        return { value: await calls[index ?? calls.length - 1][name](...words) };
      } catch ({ code, text, message, causes, remedies }) {
        return { code, text: text ?? message, causes, remedies };
      }
    }, method, args, n);
  }

  seen(n) { return this.run((index) => JSON.parse(JSON.stringify(globalThis.bench.seen(index ?? undefined))), n ?? null); }
  told() { return this.run(() => JSON.parse(JSON.stringify(globalThis.bench.told))); }
  errors() { return this.run(() => globalThis.bench.errors); }

  /** Waits until a call is in a state, and gives it. */
  async until(state, { n, withinMs = SETTLE_MS } = {}) {
    let seen;
    await until(async () => (seen = await this.seen(n)).state === state || seen.state === 'ended', () => `${this.name} to have a call ${state}; it is ${JSON.stringify(seen)}`, withinMs);
    if (seen.state !== state) throw new Error(`a call of ${this.name} was to be ${state}: ${JSON.stringify(seen)}; ${JSON.stringify(await this.errors())}`);
    return seen;
  }

  /** Waits until an event was told. */
  async tells(fits, what, withinMs = SETTLE_MS) {
    let told;
    await until(async () => (told = await this.told()).some(fits), () => `${this.name} to tell ${what}; it told ${JSON.stringify(told)}`, withinMs);
    return told.find(fits);
  }
}
