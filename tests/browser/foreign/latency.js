/** From the click to the first sound, of our client and of another, as a browser hears it. */

import assert from 'node:assert/strict';
import { dtmfTone } from '../lib/audio.js';
import { RtpPhone } from '../lib/rtp.js';
import { Sipp } from '../lib/sipp.js';
import { OUT } from '../lib/stage.js';

const CALLS = 7;
/** Generous, as a machine that runs tests is busy; the figures are printed. */
const SOUND_WITHIN_MS = 1000;

/** SIPp that answers at once; its RTP begins as soon as it hears from us, for SIPp's own may take 100 ms to begin. */
export async function phoneAtOnce(t, network) {
  const rtp = await RtpPhone.open(dtmfTone('1', 8000, { ms: 8000, gapMs: 0 }));
  const sipp = await Sipp.start({ scenario: 'callee-at-once', port: network.sippPort, out: OUT, calls: CALLS, keys: { rtp_port: rtp.port } });
  t.after(async () => {
    await sipp.end();
    rtp.close();
  });
}

/** Calls again and again, and gives the middle time in ms. */
export async function clickToSound(phone, target, bar) {
  const times = [];
  const steps = [];
  for (let n = 0; n < CALLS; n++) {
    await phone.driver.evaluate(() => globalThis.foreign.prepare?.());
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
