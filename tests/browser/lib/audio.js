/** Sound as Float32Array samples: made, coded, compared. Everything a judgement on audio in these tests rests on. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

// ---- speech -----------------------------------------------------------------------------------------------

/** Three speakers with three texts: who is heard is told apart by rhythm alone. */
const SPEAKERS = {
  caller: { voice: 'en-gb+m3', speed: 150, text: 'Good morning. I am calling about the blue bicycle, the one with two bells. Is it still for sale? I could come on Tuesday at nine.' },
  callee: { voice: 'en-us+f2', speed: 165, text: 'Thank you for waiting. Seventeen ships left the harbour before dawn; not one of them, however, has so far reached the northern islands.' },
  other: { voice: 'en-gb-scotland+m7', speed: 140, text: 'Yes. No. Stop there! Rain, then wind, and afterwards a very long evening without any light whatsoever in all of the houses.' },
};
export const SPEECH_SECONDS = 8;
const SPEECH_RATE = 48_000;

/** Makes the speech files below `dir`; each lasts SPEECH_SECONDS, so that they can be played in a loop. */
export function makeSpeech(dir) {
  mkdirSync(dir, { recursive: true });
  const speech = {};
  for (const [name, { voice, speed, text }] of Object.entries(SPEAKERS)) {
    const spoken = path.join(mkdtempSync(path.join(dir, 'speech-')), 'spoken.wav');
    const file = path.join(dir, `${name}.wav`);
    execFileSync('espeak-ng', ['-v', voice, '-s', String(speed), '-w', spoken, text]);
    execFileSync('sox', [spoken, '-r', String(SPEECH_RATE), '-c', '1', '-b', '16', file,
      'norm', '-6', 'pad', '0', String(SPEECH_SECONDS), 'trim', '0', String(SPEECH_SECONDS)], { stdio: ['ignore', 'ignore', 'pipe'] });
    speech[name] = { file, ...readWav(file) };
  }
  return speech;
}

export function readWav(file) {
  const data = readFileSync(file);
  let at = 12;
  let rate = 0;
  while (at + 8 <= data.length) {
    const id = data.toString('latin1', at, at + 4);
    const length = data.readUInt32LE(at + 4);
    if (id === 'fmt ') rate = data.readUInt32LE(at + 12);
    if (id === 'data') {
      const end = Math.min(at + 8 + length, data.length - (data.length % 2));
      const samples = new Float32Array((end - at - 8) >> 1);
      for (let i = 0; i < samples.length; i++) samples[i] = data.readInt16LE(at + 8 + 2 * i) / 32768;
      return { rate, samples };
    }
    at += 8 + length + (length & 1);
  }
  throw new Error(`${file} has no sound in it`);
}

export function writeWav(file, { rate, samples }) {
  const data = Buffer.alloc(44 + 2 * samples.length);
  data.write('RIFF', 0); data.writeUInt32LE(36 + 2 * samples.length, 4); data.write('WAVEfmt ', 8);
  data.writeUInt32LE(16, 16); data.writeUInt16LE(1, 20); data.writeUInt16LE(1, 22); data.writeUInt32LE(rate, 24);
  data.writeUInt32LE(2 * rate, 28); data.writeUInt16LE(2, 32); data.writeUInt16LE(16, 34);
  data.write('data', 36); data.writeUInt32LE(2 * samples.length, 40);
  samples.forEach((x, i) => data.writeInt16LE(Math.round(Math.max(-1, Math.min(0.99997, x)) * 32768), 44 + 2 * i));
  writeFileSync(file, data);
}

/** By averaging whole groups of samples: plain, and good enough below a quarter of the new rate. */
export function downsample({ rate, samples }, to) {
  const factor = rate / to;
  if (!Number.isInteger(factor)) throw new Error(`${rate} Hz is no multiple of ${to} Hz`);
  const out = new Float32Array(Math.floor(samples.length / factor));
  for (let i = 0; i < out.length; i++) {
    let sum = 0;
    for (let j = 0; j < factor; j++) sum += samples[i * factor + j];
    out[i] = sum / factor;
  }
  return { rate: to, samples: out };
}

// ---- G.711 mu-law (ITU-T G.711) ---------------------------------------------------------------------------

export function muLawDecode(byte) {
  const bits = ~byte & 0xff;
  const magnitude = ((((bits & 0x0f) << 3) + 0x84) << ((bits >> 4) & 7)) - 0x84;
  return (bits & 0x80 ? -magnitude : magnitude) / 32768;
}

export function muLawEncode(sample) {
  const value = Math.round(Math.max(-1, Math.min(1, sample)) * 32635);
  const magnitude = Math.min(32635, Math.abs(value)) + 0x84;
  const exponent = Math.max(0, 31 - Math.clz32(magnitude) - 7);
  const mantissa = (magnitude >> (exponent + 3)) & 0x0f;
  return ~((value < 0 ? 0x80 : 0) | (exponent << 4) | mantissa) & 0xff;
}

// ---- level ------------------------------------------------------------------------------------------------

/** Level as RMS in dB relative to full scale. */
export function level({ samples }) {
  let sum = 0;
  for (const x of samples) sum += x * x;
  return 10 * Math.log10(sum / Math.max(1, samples.length) + 1e-12);
}

// ---- DTMF (ITU-T Q.23), found by Goertzel -----------------------------------------------------------------

const ROWS = [697, 770, 852, 941];
const COLUMNS = [1209, 1336, 1477, 1633];
const KEYS = ['123A', '456B', '789C', '*0#D'];

export function goertzel(samples, from, length, rate, hz) {
  const k = 2 * Math.cos((2 * Math.PI * hz) / rate);
  let [s1, s2] = [0, 0];
  for (let i = from; i < from + length; i++) [s1, s2] = [samples[i] + k * s1 - s2, s1];
  return (2 * (s1 * s1 + s2 * s2 - k * s1 * s2)) / (length * length);
}

function loudest(samples, from, length, rate, frequencies) {
  const powers = frequencies.map((hz) => goertzel(samples, from, length, rate, hz));
  const best = Math.max(...powers);
  return { index: powers.indexOf(best), power: best, alone: powers.filter((p) => p > best / 8).length === 1 };
}

function keyAt(samples, from, length, rate) {
  let energy = 0;
  for (let i = from; i < from + length; i++) energy += samples[i] * samples[i];
  energy /= length;
  const row = loudest(samples, from, length, rate, ROWS);
  const column = loudest(samples, from, length, rate, COLUMNS);
  // Nearly all of the energy in one tone of each group; speech never has that for long.
  const pure = energy > 1e-5 && row.power + column.power > 0.7 * energy;
  return pure && row.alone && column.alone ? KEYS[row.index][column.index] : null;
}

/** The keys whose tones are in a recording, in order; a tone counts from 40 ms on. */
export function dtmfDigits({ rate, samples }) {
  const length = Math.round(rate * 0.02);
  let digits = '';
  let [current, run] = [null, 0];
  for (let from = 0; from + length <= samples.length; from += length) {
    const key = keyAt(samples, from, length, rate);
    run = key === current ? run + 1 : 1;
    current = key;
    if (key !== null && run === 2) digits += key;
  }
  return digits;
}

export function dtmfTone(digits, rate, { ms = 120, gapMs = 80, loudness = 0.2 } = {}) {
  const [on, off] = [Math.round((rate * ms) / 1000), Math.round((rate * gapMs) / 1000)];
  const samples = new Float32Array(digits.length * (on + off));
  [...digits].forEach((digit, n) => {
    const row = KEYS.findIndex((keys) => keys.includes(digit));
    const tones = [ROWS[row], COLUMNS[KEYS[row].indexOf(digit)]];
    for (let i = 0; i < on; i++) {
      for (const hz of tones) samples[n * (on + off) + i] += loudness * Math.sin((2 * Math.PI * hz * i) / rate);
    }
  });
  return { rate, samples };
}
