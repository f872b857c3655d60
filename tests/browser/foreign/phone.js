/** A foreign library's phone in a browser, as a test uses it. What is heard of it is recorded as of our own page. */

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { level } from '../lib/audio.js';
import { until } from '../lib/processes.js';
import { Softphone } from '../lib/softphone.js';

const SETTLE_MS = 15_000;
const LISTEN_MS = 500;
const SILENCE_DB = -60;

export class ForeignPhone extends Softphone {
  /** Opens the library's page and has it register; `account` is what its page takes. */
  static async registered(page, account) {
    const phone = new ForeignPhone(page.driver, page.name);
    phone.page = page.page;
    await phone.do('start', account);
    await phone.sees((seen) => seen.registration !== 'none', 'to register');
    assert.equal((await phone.seen()).registration, 'registered');
    return phone;
  }

  /** Calls a method of the page's: it is over when the library says so. */
  do(method, ...args) { return this.driver.evaluate(async (name, words) => { await globalThis.foreign[name](...words); }, method, args); }

  /** Listens for a while: whether there was silence, or no sound at all, as where a library does not receive while it holds. */
  async hearsNothing() {
    const from = await this.recorded();
    await pause(LISTEN_MS);
    const to = await this.recorded();
    return to === from || level(await this.recording(from, to)) < SILENCE_DB;
  }

  seen() { return this.driver.evaluate(() => JSON.parse(JSON.stringify(globalThis.foreign))); }

  /** Waits until what the library has told fits. */
  async sees(fits, what, withinMs = SETTLE_MS) {
    let seen;
    await until(async () => fits(seen = await this.seen()), () => `${this.name} ${what}; it told: ${JSON.stringify(seen, null, 1)}`, withinMs);
    return seen;
  }

  /** Waits until its call number `n` is in a state, and gives the call. */
  async call(n, state, withinMs) {
    const { calls } = await this.sees((seen) => seen.calls[n]?.state === state || seen.calls[n]?.state === 'ended', `to have call ${n} ${state}`, withinMs);
    if (calls[n].state !== state) assert.fail(`call ${n} of ${this.name} was to be ${state}: ${JSON.stringify(await this.seen(), null, 1)}`);
    return calls[n];
  }
}
