/** Digits with their pauses, one run after another. */

import { PhoneError } from './texts.js';

/** What one digit takes, and what the gateway leaves between two. */
const MS = { least: 40, usual: 100, most: 1000 };
const GAP_MS = 80;
const PAUSE_MS = 500;
/** What one `digits` message takes. */
const MOST = 64;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Digits {
  #send; #beep; #queue = Promise.resolve();

  /** `send(digits, ms)` sends some, or throws where there is no way; `beep(digit)` lets one be heard here. */
  constructor(send, beep) {
    this.#send = send;
    this.#beep = beep;
  }

  /** Resolves when the last has been played; rejects where the way was lost before. */
  play(text, { ms = MS.usual, gap } = {}) {
    if (!/^[0-9*#A-Dw]+$/i.test(text)) return Promise.reject(new PhoneError('bad-digits'));
    const length = Math.min(MS.most, Math.max(MS.least, Math.round(ms)));
    // A gap of the page's own is ours to keep: the digits go one by one.
    const parts = text.toUpperCase().match(new RegExp(`W+|[^W]{1,${gap > GAP_MS ? 1 : MOST}}`, 'g'));
    const played = this.#queue.then(() => this.#play(parts, length, Math.max(GAP_MS, gap ?? 0)));
    this.#queue = played.catch(() => {}); // the next ones are tried all the same
    return played;
  }

  async #play(parts, ms, gap) {
    for (const part of parts) {
      if (part.startsWith('W')) {
        await wait(part.length * PAUSE_MS);
      } else {
        this.#send(part, ms);
        for (const digit of part) {
          this.#beep(digit);
          await wait(ms + gap);
        }
      }
    }
  }
}
