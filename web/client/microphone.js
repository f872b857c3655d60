/** Opening microphones, and how loud a stream is. */

import { PhoneError } from './texts.js';

export const SILENCE_DB = -100;

const ERRORS = {
  NotFoundError: 'microphone-missing', OverconstrainedError: 'microphone-missing',
  NotReadableError: 'microphone-busy', AbortError: 'microphone-busy', SecurityError: 'microphone-denied',
};

/** Why this browser or page can make no calls: a code; `undefined` where it can. */
export function unsupported() {
  if (typeof RTCPeerConnection !== 'function' || typeof WebSocket !== 'function') return 'unsupported';
  return navigator.mediaDevices?.getUserMedia ? undefined : 'insecure-page';
}

/** Opens what `audio` (constraints, or `true`) asks for; the device `id` where there is one still. */
export async function openMicrophone(audio, id) {
  try {
    if (!id) return await navigator.mediaDevices.getUserMedia({ audio });
    const chosen = { ...(audio === true ? {} : audio), deviceId: { exact: id } };
    return await navigator.mediaDevices.getUserMedia({ audio: chosen });
  } catch (error) {
    const gone = id && (error.name === 'OverconstrainedError' || error.name === 'NotFoundError');
    if (gone) return openMicrophone(audio, null);
    const dismissed = error.name === 'NotAllowedError' && /dismissed/i.test(error.message);
    const denied = error.name === 'NotAllowedError' ? 'microphone-denied' : 'microphone-failed';
    throw new PhoneError(dismissed ? 'microphone-dismissed' : ERRORS[error.name] ?? denied, { detail: error });
  }
}

/** Whether the microphone will open without a question. */
export async function microphoneAllowed() {
  try {
    return (await navigator.permissions.query({ name: 'microphone' })).state === 'granted';
  } catch {
    return false; // the browser does not tell
  }
}

export function stopStream(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** Loudness of a stream as RMS in dB relative to full scale, over the last 43 ms at 48 kHz. */
export class Meter {
  #source; #analyser; #samples;

  constructor(context, stream) {
    this.#source = context.createMediaStreamSource(stream);
    this.#analyser = context.createAnalyser();
    this.#analyser.fftSize = 2048;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    this.#source.connect(this.#analyser);
  }

  read() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const x of this.#samples) sum += x * x;
    return Math.max(SILENCE_DB, 10 * Math.log10(sum / this.#samples.length));
  }

  close() { this.#source.disconnect(); }
}
