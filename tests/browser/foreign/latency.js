/** From the click to the first sound, of our client and of another, as a browser hears it. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { dtmfTone, muLawEncode } from '../lib/audio.js';
import { Sipp } from '../lib/sipp.js';
import { OUT } from '../lib/stage.js';

const CALLS = 7;
/** Generous, as a machine that runs tests is busy; the figures are printed. */
const SOUND_WITHIN_MS = 1000;

/** SIPp that answers at once and plays at once, for so many calls. */
export async function phoneAtOnce(t, port, calls = CALLS) {
  const tone = dtmfTone('1', 8000, { ms: 8000, gapMs: 0 });
  writeFileSync(path.join(OUT, 'tone.ulaw'), Uint8Array.from(tone.samples, muLawEncode));
  const sipp = await Sipp.start({ scenario: 'callee-at-once', port, out: OUT, cwd: OUT, calls, args: ['-mi', '127.0.0.1'] });
  t.after(() => sipp.end());
  return sipp;
}

/** Calls again and again, and gives the middle time in ms. */
export async function clickToSound(phone, target, bar) {
  const times = [];
  const steps = [];
  for (let n = 0; n < CALLS; n++) {
    await phone.do('clickAndCall', target);
    const { firstSound, timings } = await phone.sees((seen) => seen.firstSound > 0, 'to hear something');
    times.push(Math.round(firstSound));
    steps.push(timings);
    await phone.call(n, 'active');
    await phone.do('hangup', n);
    await phone.call(n, 'ended');
  }
  const middle = median(times);
  console.log(`  ${phone.name}: click to first sound ${times.join(', ')} ms; ${middle} in the middle${bar ? ` (the bar is ${bar})` : ''}`);
  if (steps[0]) console.log(`    ${Object.keys(steps[0]).map((step) => `${step} ${Math.round(median(steps.map((times) => times[step])))}`).join(', ')}`);
  assert.ok(middle < SOUND_WITHIN_MS, `${times}`);
  return middle;
}

function median(values) { return values.toSorted((a, b) => a - b)[values.length >> 1]; }
