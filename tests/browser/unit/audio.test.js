/** The judges themselves: what they find in sounds of which the content is known. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { downsample, dtmfDigits, dtmfTone, likeness, makeSpeech, muLawDecode, muLawEncode, readWav, writeWav } from '../lib/audio.js';

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

test('speech is like itself at any position, and unlike the others', () => {
  const said = Object.keys(speech);
  for (const name of said) {
    for (const seconds of [3, 5]) {
      const heard = throughMuLaw(cut(downsample(speech[name], 8000), 2, 2 + seconds));
      for (const other of said) {
        const score = likeness(heard, speech[other]);
        if (name === other) assert.ok(score > 0.9, `${seconds} s of ${name} itself: ${score}`);
        else assert.ok(score < 0.6, `${seconds} s of ${name} against ${other}: ${score}`);
      }
    }
  }
});

test('dtmf tones are read, speech holds none', () => {
  assert.equal(dtmfDigits(dtmfTone('159D*0#2266', 8000)), '159D*0#2266');
  assert.equal(dtmfDigits(throughMuLaw(dtmfTone('147', 8000))), '147');
  for (const name of Object.keys(speech)) assert.equal(dtmfDigits(speech[name]), '', name);
});
