/** The softphone page as a person uses it: what is pressed, what is shown, what is heard. Both browsers look alike from here. */

import { until } from './processes.js';

const SETTLE_MS = 15_000;

export class Softphone {
  /** @param driver { evaluate(fn, ...args), fill, press, click, screenshot, close } of one page */
  constructor(driver, name) {
    this.driver = driver;
    this.name = name;
  }

  ready() { return this.shows('#status[data-state="ready"]'); }

  /** Waits for an element that is there and not hidden. */
  shows(selector, withinMs = SETTLE_MS) {
    const visible = (css) => [...document.querySelectorAll(css)].some((element) => element.checkVisibility());
    return until(() => this.driver.evaluate(visible, selector), () => `${this.name} to show ${selector}`, withinMs)
      .catch(async (error) => { throw new Error(`${error.message}; the page shows: ${(await this.text('body')).replace(/\s+/g, ' ')}`); });
  }

  text(selector) { return this.driver.evaluate((css) => document.querySelector(css)?.innerText ?? '', selector); }

  /** Dials by typing and Enter. */
  async dial(number) {
    await this.driver.fill('#number', number);
    await this.driver.press('Enter');
  }

  inCall(withinMs) { return this.shows('#call[data-state="active"]', withinMs); }
  click(selector) { return this.driver.click(selector); }
  press(key) { return this.driver.press(key); }

  /** Waits until the call is over, and gives what the page then says of it. */
  async outcome(withinMs) {
    await this.shows('#outcome', withinMs);
    return this.driver.evaluate(() => ({
      kind: document.querySelector('#outcome').dataset.kind,
      code: document.querySelector('#outcome').dataset.code,
      title: document.querySelector('#outcome-title').innerText,
      detail: document.querySelector('#outcome-detail').innerText,
      remedies: [...document.querySelectorAll('#outcome-remedies li')].map((li) => li.innerText),
      callId: document.querySelector('#call-id').innerText,
    }));
  }

  /** Waits until the far end's meter shows sound. */
  sounds() {
    const loud = () => parseInt(document.querySelector('#meter-in').style.getPropertyValue('--level'), 10) > 10;
    return until(() => this.driver.evaluate(loud), () => `${this.name} to show sound`, SETTLE_MS);
  }

  /** The gateway's id of the call that is up. */
  callId() { return this.driver.evaluate(() => document.querySelector('#call').dataset.id); }

  /** Seconds of the far end that were recorded in this page so far. */
  recorded() { return this.driver.evaluate(() => globalThis.ringbackTest.seconds()); }

  /** Waits until `seconds` more of it were recorded, and gives just those. */
  async hear(seconds) {
    await until(() => this.recorded(), () => `${this.name} to hear anything`, SETTLE_MS);
    const from = await this.recorded();
    await until(async () => (await this.recorded()) >= from + seconds, () => `${seconds} s of sound in ${this.name}`, (seconds + 15) * 1000);
    return this.recording(from, from + seconds);
  }

  async recording(from, to) {
    const { rate, base64 } = await this.driver.evaluate((a, b) => globalThis.ringbackTest.take(a, b), from, to);
    const bytes = Buffer.from(base64, 'base64');
    const samples = new Float32Array(bytes.length >> 1);
    for (let i = 0; i < samples.length; i++) samples[i] = bytes.readInt16LE(2 * i) / 32768;
    return { rate, samples };
  }

  close() { return this.driver.close(); }
}
