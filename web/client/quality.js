/** How a call sounds: what the gateway measures, what only the browser knows, and what is worth a warning. */

import { HELP, warning } from './texts.js';

/** Above `limit` for `raise` seconds in a row a warning is due, at or below `calm` for `clear` seconds it is over. */
const RULES = [
  { code: 'high-loss', limit: 5, calm: 2, raise: 3, clear: 5, read: (q) => Math.max(...[q.down, q.up, q.trunkDown, q.trunkUp].map((leg) => leg?.lossPct ?? 0)) },
  { code: 'high-delay', limit: 400, calm: 300, raise: 3, clear: 5, read: (q) => q.delayMs ?? 0 },
];
/** How long sound has to show itself once we are not muted any more, before its absence is told. */
const UNMUTED_MS = 2000;

/** What only the browser knows of the sound it plays, since it was last asked. */
export class Hearing {
  #before = { all: 0, concealed: 0, delay: 0, emitted: 0 };

  async read(pc) {
    const stats = await pc?.getStats?.().catch(() => null);
    const stream = [...(stats?.values() ?? [])].find(({ type, kind }) => type === 'inbound-rtp' && kind === 'audio');
    if (!stream?.totalSamplesReceived) return {};
    const { totalSamplesReceived: all, concealedSamples = 0, silentConcealedSamples: silent = 0, jitterBufferDelay: delay = 0, jitterBufferEmittedCount: emitted = 0 } = stream;
    const now = { all, concealed: concealedSamples - silent, delay, emitted };
    const before = this.#before;
    this.#before = now;
    const part = (value, whole) => (whole > 0 ? value / whole : 0);
    return {
      concealedPct: Math.round(1000 * Math.max(0, part(now.concealed - before.concealed, all - before.all))) / 10,
      bufferMs: Math.round(1000 * part(delay - before.delay, emitted - before.emitted)),
    };
  }
}

/** Notices what stays bad for a while, and what has been well again for a while. */
class Watch {
  #rule; #bad = 0; #well = 0; #on = false;

  constructor(rule) { this.#rule = rule; }

  /** Takes one second; a warning while it is due, else `null`. */
  look(quality) {
    const { code, limit, calm, raise, clear, read } = this.#rule;
    const value = read(quality);
    this.#bad = value > limit ? this.#bad + 1 : 0;
    this.#well = value <= calm ? this.#well + 1 : 0;
    this.#on = this.#on ? this.#well < clear : this.#bad >= raise;
    return this.#on ? warning(code, { value, limit }) : null;
  }
}

/** The warnings of one call: which hold at present. */
export class Warnings {
  #raised; #cleared; #quiet; #present = new Map(); #missing = new Map(); #unmuted = 0;
  #watches = RULES.map((rule) => [rule.code, new Watch(rule)]);

  /** `raised(warning)` and `cleared(code)` tell changes; `quiet()` says whether we mean to send silence. */
  constructor({ raised, cleared, quiet }) {
    this.#raised = raised;
    this.#cleared = cleared;
    this.#quiet = quiet;
  }

  get list() { return [...this.#present.values()]; }

  look(quality) {
    for (const [code, watch] of this.#watches) this.set(code, watch.look(quality));
  }

  noAudio({ way, at, cause, text }) {
    this.#missing.set(way, { way, at, cause, text });
    this.#judge();
  }

  audio({ way }) {
    this.#missing.delete(way);
    this.#judge();
  }

  /** We have begun or ceased to mean silence. */
  quietChanged() {
    this.#unmuted = Date.now();
    this.#judge();
    setTimeout(() => this.#judge(), UNMUTED_MS);
  }

  /** Who mutes himself knows why he is not heard, and is given a moment to be heard afterwards. */
  #isExpected({ way, cause }) {
    return way === 'up' && cause === 'silent' && (this.#quiet() || Date.now() - this.#unmuted < UNMUTED_MS);
  }

  #judge() {
    for (const way of ['down', 'up']) {
      const missing = this.#missing.get(way);
      const present = missing && !this.#isExpected(missing) ? missing : null;
      const code = present && `${way}-${present.cause}`;
      for (const known of [...this.#present.keys()]) {
        if (known.startsWith(`${way}-`) && known !== code) this.set(known, null);
      }
      if (present) this.set(code, withoutAudio(code, present));
    }
  }

  /** Raises a warning, or with `null` clears it. */
  set(code, what) {
    const before = this.#present.has(code);
    if (what) this.#present.set(code, Object.freeze(what));
    else this.#present.delete(code);
    if (what && !before) this.#raised(what);
    if (!what && before) this.#cleared(code);
  }
}

function withoutAudio(code, { way, at, cause, text }) {
  const known = `${cause}-${at}`;
  return HELP[known] ? warning(known, { code, way, cause }) : warning('no-audio', { code, text, way, cause });
}
