/** The judges themselves: what they find in sounds of which the content is known. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { downsample, dtmfDigits, dtmfTone, makeSpeech, muLawDecode, muLawEncode, readWav, writeWav } from '../lib/audio.js';
import { LIKE, likeness, UNLIKE } from '../lib/likeness.js';

let dir;
let speech;
before(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'ringback-speech-'));
  speech = makeSpeech(dir);
});
after(() => rmSync(dir, { recursive: true }));

const cut = ({ rate, samples }, from, to) => ({ rate, samples: samples.slice(from * rate, to * rate) });
const throughMuLaw = ({ rate, samples }) => ({ rate, samples: samples.map((x) => muLawDecode(muLawEncode(x))) });

test('mu-law: silence, full scale and every code back to itself', () => {
  assert.equal(muLawDecode(0xff), 0);
  assert.equal(muLawEncode(0), 0xff);
  assert.equal(Math.round(muLawDecode(0x80) * 32768), 32124);
  for (let code = 0; code < 256; code++) {
    if (code !== 0x7f) assert.equal(muLawEncode(muLawDecode(code)), code, `code ${code}`);
  }
});

test('a wav file reads as it was written', () => {
  const file = path.join(dir, 'tone.wav');
  const tone = dtmfTone('5', 8000);
  writeWav(file, tone);
  const read = readWav(file);
  assert.equal(read.rate, 8000);
  assert.ok(read.samples.every((x, i) => Math.abs(x - tone.samples[i]) < 1e-4));
});

/** Who is found in a sound, by the bounds of the tests. */
function assertHeard(heard, names, what) {
  const scores = Object.keys(speech).map((name) => [name, likeness(heard, speech[name])]);
  const text = `${what}: ${scores.map(([name, score]) => `${name} ${score.toFixed(3)}`).join(', ')}`;
  for (const [name, score] of scores) assert.ok(names.includes(name) ? score > LIKE : score < UNLIKE, text);
}

test('speech is like itself at any position, and unlike the others', () => {
  for (const name of Object.keys(speech)) {
    for (const seconds of [3, 5]) {
      for (const from of [0, 1, 2, 3]) {
        const heard = throughMuLaw(cut(downsample(speech[name], 8000), from, from + seconds));
        assertHeard(heard, [name], `${seconds} s of ${name} from ${from} s on`);
        assert.ok(likeness(heard, speech[name]) > 0.9, 'nothing was lost');
      }
    }
  }
});

/** As on a machine that stands still now and then: of each period nothing is heard for `gap` ms, and `lost` ms are skipped. */
function interrupted({ rate, samples }, { periods, gap, lost }) {
  const out = [];
  for (let at = 0, n = 0; at < samples.length; n++) {
    const sound = Math.round((rate * periods[n % periods.length]) / 1000);
    for (const x of samples.slice(at, at + sound)) out.push(x);
    for (let i = 0; i < (rate * gap) / 1000; i++) out.push(0);
    at += sound + Math.round((rate * lost) / 1000);
  }
  return { rate, samples: Float32Array.from(out) };
}

test('speech is known in spite of gaps and slips, but not where most of it is lost', () => {
  for (const name of Object.keys(speech)) {
    const heard = throughMuLaw(cut(downsample(speech[name], 8000), 1, 6));
    assertHeard(interrupted(heard, { periods: [900, 700, 1300], gap: 60, lost: 130 }), [name], `${name}, interrupted`);
    assertHeard(interrupted(heard, { periods: [110, 130, 90], gap: 200, lost: 200 }), [], `${name}, in shreds`);
  }
});

test('two who speak at once are not taken for one of them', () => {
  const [one, other] = [speech.caller, speech.callee].map((sound) => cut(downsample(sound, 8000), 1, 6));
  assertHeard(throughMuLaw({ rate: 8000, samples: one.samples.map((x, i) => (x + other.samples[i]) / 2) }), [], 'both');
});

test('dtmf tones are read, speech holds none', () => {
  assert.equal(dtmfDigits(dtmfTone('159D*0#2266', 8000)), '159D*0#2266');
  assert.equal(dtmfDigits(throughMuLaw(dtmfTone('147', 8000))), '147');
  for (const name of Object.keys(speech)) assert.equal(dtmfDigits(speech[name]), '', name);
});
