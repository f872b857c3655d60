/** Microphones, loudspeakers and the phone's own sounds, which are made by oscillators unless the page has files. */

import { Meter, microphoneAllowed, openMicrophone, stopStream } from './microphone.js';
import { PhoneError } from './texts.js';

const LEVEL_EVERY_MS = 50;
const WARM_MS = 15_000;
const RING_EVERY_MS = 2200;
const LOUDNESS = 0.07;
const KEYS = '123A456B789C*0#D';
const ROWS = [697, 770, 852, 941];
const COLUMNS = [1209, 1336, 1477, 1633];
/** [start s, length s, Hz...]: a friendly figure of three notes, the busy tone, two notes down. */
const FIGURES = {
  ring: [[0, 0.16, 659], [0.18, 0.16, 831], [0.36, 0.42, 988]],
  busy: [0, 0.75, 1.5, 2.25].map((start) => [start, 0.375, 400]),
  end: [[0, 0.09, 659], [0.11, 0.14, 494]],
};

export class AudioDevices {
  #options; #changed; #warned = false; #onBlocked; #context = null; #loop = null; #ringElement = null; #elements = new Set(); #microphones = new Set();
  #volume = 1; #warm = null; #warming = null; #choice = 0; #warmTimer; #known = '';
  inputs = []; outputs = [];
  input = null; output = null; ringer = null;
  #onDevices = () => this._refresh();
  #onGesture = () => this.unlock();

  constructor(options, { changed, blocked }) {
    this.#options = options;
    this.#changed = changed;
    this.#onBlocked = blocked;
    navigator.mediaDevices?.addEventListener?.('devicechange', this.#onDevices);
    for (const gesture of ['pointerdown', 'keydown']) addEventListener(gesture, this.#onGesture, true);
    this._refresh();
  }

  // -- devices

  async _refresh() {
    const all = await navigator.mediaDevices?.enumerateDevices?.().catch(() => []) ?? [];
    const known = JSON.stringify(all);
    if (known === this.#known) return;
    this.#known = known;
    this.inputs = all.filter(({ kind }) => kind === 'audioinput');
    this.outputs = all.filter(({ kind }) => kind === 'audiooutput');
    this.#changed({ inputs: this.inputs, outputs: this.outputs });
    for (const microphone of this.#microphones) microphone.devicesChanged();
  }

  async useInput(id) {
    this.input = id;
    this.#letGo();
    await Promise.all([...this.#microphones].map((microphone) => microphone.reopen()));
  }

  async useOutput(id) {
    await this.#route(id, this.#context, ...this.#elements);
    this.output = id;
  }

  async useRinger(id) {
    await this.#route(id, this.#ringElement);
    this.ringer = id;
  }

  /** What plays does so at the system's choice unless another was made; not every browser can. */
  async #route(id, ...players) {
    try {
      await Promise.all(players.map((player) => player?.setSinkId?.(id ?? '')));
    } catch (error) {
      throw new PhoneError('output-failed', { detail: error });
    }
  }

  get volume() { return this.#volume; }

  set volume(volume) {
    this.#volume = Math.min(1, Math.max(0, volume));
    for (const element of this.#elements) element.volume = this.#volume;
  }

  async unlock() {
    await this._context().resume?.();
    await Promise.all([...this.#elements, this.#ringElement].map((element) => element?.paused && element.srcObject && element.play()));
    this.#warned = false;
  }

  // -- microphones of calls: `reopen()` and `devicesChanged()` are theirs

  async _open(wanted) {
    const warm = this.#warm;
    if (wanted === undefined && warm) {
      this.#warm = null;
      clearTimeout(this.#warmTimer);
      return warm;
    }
    const { input } = this;
    const stream = await this.#open(wanted);
    if (input === this.input) return stream;
    stopStream(stream); // another was chosen meanwhile
    return this._open(wanted);
  }

  async #open(wanted) {
    const stream = await openMicrophone(wanted ?? this.#options.audio ?? true, this.input);
    this._refresh(); // where it is allowed the devices have names
    return stream;
  }

  /** Opens the microphone for the next call, where no question comes of it. */
  _warmUp() { return this.#warming ??= this.#warmed().finally(() => { this.#warming = null; }); }

  async #warmed() {
    const choice = this.#choice;
    if (!(await microphoneAllowed())) return;
    const stream = this.#warm ?? await this.#open().catch(() => null);
    if (choice !== this.#choice) return stopStream(stream); // closed meanwhile, or another was chosen
    clearTimeout(this.#warmTimer);
    this.#warm = stream;
    this.#warmTimer = setTimeout(() => this.#letGo(), WARM_MS);
  }

  #letGo() {
    this.#choice++;
    clearTimeout(this.#warmTimer);
    stopStream(this.#warm);
    this.#warm = null;
  }

  _join(microphone) { this.#microphones.add(microphone); }
  _leave(microphone) { this.#microphones.delete(microphone); }

  async testInput(onLevel) {
    const stream = await this._open();
    const meter = new Meter(this._context(), stream);
    const timer = setInterval(() => onLevel(meter.read()), LEVEL_EVERY_MS);
    return () => {
      clearInterval(timer);
      meter.close();
      stopStream(stream);
    };
  }

  // -- what is heard

  /** One context for all: browsers allow few, and the first one is slow to make. */
  _context() {
    if (!this.#context) {
      this.#context = new AudioContext({ latencyHint: 'interactive' });
      if (this.output) this.#route(this.output, this.#context).catch(() => {});
    }
    if (this.#context.state === 'suspended') this.#context.resume().catch(() => {});
    return this.#context;
  }

  /** Plays the far end. */
  _play(stream) {
    const element = new Audio();
    element.srcObject = stream;
    element.volume = this.#volume;
    this.#elements.add(element);
    if (this.output) this.#route(this.output, element).catch(() => {});
    this.#begin(element);
    return element;
  }

  #begin(element) {
    element.play().catch((error) => { if (error.name === 'NotAllowedError') this.#blocked(); });
  }

  _silence(element) {
    this.#elements.delete(element);
    if (element) element.srcObject = null;
  }

  #blocked() {
    if (!this.#warned) this.#onBlocked(new PhoneError('sound-blocked'));
    this.#warned = true;
  }

  play(sound, digit) { this.#sound(sound, digit, false); }

  /** Rings, or sounds like ringing, until told otherwise. `null`: nothing. */
  _loop(sound) {
    if (this.#loop?.sound === sound || !this.#loop && !sound) return;
    clearInterval(this.#loop?.timer);
    this.#loop?.file?.pause();
    this.#loop = null;
    if (!sound) return;
    this.#loop = { sound, file: this.#sound(sound, undefined, true) };
    if (!this.#options.sounds?.[sound]) this.#loop.timer = setInterval(() => this.#sound(sound), RING_EVERY_MS);
  }

  /** Plays a file where the page has one (and returns it), or the figure. */
  #sound(sound, digit, loop = false) {
    const file = this.#options.sounds?.[sound];
    if (file === null) return;
    if (file === undefined) {
      try { this.#figure(sound, digit); } catch { /* no call fails for want of a tone */ }
      return;
    }
    const element = new Audio(file);
    element.loop = loop;
    const sink = sound === 'ring' ? this.ringer : this.output;
    if (sink) this.#route(sink, element).catch(() => {});
    this.#begin(element);
    return element;
  }

  #figure(sound, digit) {
    const context = this._context();
    if (context.state !== 'running') {
      if (sound === 'ring') this.#blocked();
      return;
    }
    const key = KEYS.indexOf(digit);
    const figure = sound !== 'dtmf' ? FIGURES[sound] : key < 0 ? [] : [[0, 0.11, ROWS[key >> 2], COLUMNS[key & 3]]];
    const out = sound === 'ring' ? this.#bell(context) : context.destination;
    for (const [start, length, ...tones] of figure) {
      for (const hz of tones) tone(context, out, hz, context.currentTime + start, length);
    }
  }

  /** The ring may have a loudspeaker of its own. */
  #bell(context) {
    if (!this.ringer) return context.destination;
    if (!this.#ringElement) {
      const bell = context.createMediaStreamDestination();
      this.#ringElement = Object.assign(new Audio(), { srcObject: bell.stream, bell });
      this.#route(this.ringer, this.#ringElement).catch(() => {});
      this.#ringElement.play().catch(() => {});
    }
    return this.#ringElement.bell;
  }

  async _close() {
    navigator.mediaDevices?.removeEventListener?.('devicechange', this.#onDevices);
    for (const gesture of ['pointerdown', 'keydown']) removeEventListener(gesture, this.#onGesture, true);
    this._loop(null);
    this.#letGo();
    this._silence(this.#ringElement);
    this.#ringElement = null;
    await this.#context?.close();
    this.#context = null;
  }
}

function tone(context, out, hz, start, length) {
  const oscillator = context.createOscillator();
  const gain = context.createGain();
  oscillator.frequency.value = hz;
  gain.gain.setValueAtTime(0, start);
  gain.gain.linearRampToValueAtTime(LOUDNESS, start + 0.01);
  gain.gain.setValueAtTime(LOUDNESS, start + length - 0.03);
  gain.gain.linearRampToValueAtTime(0, start + length);
  oscillator.connect(gain).connect(out);
  oscillator.start(start);
  oscillator.stop(start + length);
}
