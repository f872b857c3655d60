/** The page's own sounds, made by oscillators: the ring of an incoming call and the tones of the keys. */

const KEY_TONES = {
  1: [697, 1209], 2: [697, 1336], 3: [697, 1477], A: [697, 1633],
  4: [770, 1209], 5: [770, 1336], 6: [770, 1477], B: [770, 1633],
  7: [852, 1209], 8: [852, 1336], 9: [852, 1477], C: [852, 1633],
  '*': [941, 1209], 0: [941, 1336], '#': [941, 1477], D: [941, 1633],
};
/** A friendly three-note figure, then a rest: [start s, length s, Hz]. */
const RING = [[0, 0.16, 659], [0.18, 0.16, 831], [0.36, 0.42, 988]];
const RING_EVERY_MS = 2200;

export class Sounds {
  #context = null; #ringing = null;

  /** A click or key was seen: from now on browsers let us sound. */
  unlock() {
    this.#context ??= new AudioContext();
    if (this.#context.state === 'suspended') this.#context.resume().catch(() => {});
  }

  key(digit) {
    if (!this.#context || !KEY_TONES[digit]) return;
    for (const hz of KEY_TONES[digit]) this.#tone(hz, this.#context.currentTime, 0.11, 0.05);
  }

  ring() {
    this.silence();
    const figure = () => {
      if (this.#context?.state !== 'running') return;
      const now = this.#context.currentTime;
      for (const [start, length, hz] of RING) this.#tone(hz, now + start, length, 0.09);
    };
    figure();
    this.#ringing = setInterval(figure, RING_EVERY_MS);
    navigator.vibrate?.([200, 120, 200]);
  }

  silence() {
    clearInterval(this.#ringing);
    this.#ringing = null;
  }

  #tone(hz, start, length, loudness) {
    const oscillator = this.#context.createOscillator();
    const gain = this.#context.createGain();
    oscillator.frequency.value = hz;
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(loudness, start + 0.01);
    gain.gain.setValueAtTime(loudness, start + length - 0.03);
    gain.gain.linearRampToValueAtTime(0, start + length);
    oscillator.connect(gain).connect(this.#context.destination);
    oscillator.start(start);
    oscillator.stop(start + length);
  }
}
