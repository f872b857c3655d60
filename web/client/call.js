/** One call: what the page may do with it, what the gateway tells of it, and how it outlives a lost connection. */

import { Digits } from './digits.js';
import { Emitter } from './emitter.js';
import { microphoneAllowed } from './microphone.js';
import { Hearing, Warnings } from './quality.js';
import { SoundPath } from './sound-path.js';
import { help, PhoneError, warning } from './texts.js';

/** What came of a call that the gateway does not list any more follows at once; if not, nothing will. */
const FOLLOWS_MS = 1000;
/** No two attempts at a new path follow closer. */
const RESTART_EVERY_MS = 1000;
/** Ends that a caller hears as the busy tone. */
const BUSY = new Set(['busy', 'congestion', 'declined', 'unavailable', 'too-many-calls', 'no-answer']);

export class Call extends Emitter {
  #phone; #state = 'new'; #before = null; #away = false; #patience = null; #restarting = false; #restartedAt = -RESTART_EVERY_MS;
  #sdp; #dialled = null; #sound; #clicked = performance.now();
  #muted = false; #held = false; #heldByThem = false; #holding = []; #transfer = null; #digits;
  #quality = null; #hearing = new Hearing(); #warnings;
  #ended = null; #giveUp; #over = new Promise((_, reject) => { this.#giveUp = reject; });

  constructor(phone, { key, direction, id, sdp, to, remote, params }) {
    super();
    this.#phone = phone;
    this.#sdp = sdp;
    this._key = key;
    /** The gateway's id of the call, in its log, CDR and metrics; empty until the gateway has taken the call. */
    this.id = id ?? '';
    this.direction = direction;
    this.to = to ?? remote.number;
    this.remote = Object.freeze({ ...remote });
    this.params = Object.freeze({ ...params });
    /** Milliseconds from the click, each at its first time: click, mic, offer, answer, ice, dtls, ringing, early, accept, sound. */
    this.timings = { click: 0 };
    this.startedAt = Date.now();
    this.answeredAt = undefined;
    this.#sound = new SoundPath(phone.audio, {
      mark: (name) => this.#mark(name),
      up: () => this.#onConnected(),
      down: (failed) => this.#onDisconnected(failed),
      level: (heard, said) => this._emit('level', heard, said),
      unplugged: (gone) => this.#warnings.set('microphone-unplugged', gone && warning('microphone-unplugged')),
    });
    this.#warnings = new Warnings({
      raised: (what) => { if (!this.#ended) this._emit('warning', what); },
      cleared: (code) => { if (!this.#ended) this._emit('cleared', code); },
      quiet: () => this.#muted || this.#held,
    });
    this.#digits = new Digits((digits, ms) => this.#sendDigits(digits, ms), (digit) => phone.audio.play('dtmf', digit));
    if (direction === 'in') this.#state = 'ringing';
    this.#over.catch(() => {}); // waited for only beside the microphone
    phone._add(this);
  }

  get state() { return this.#state; }
  get muted() { return this.#muted; }
  get held() { return this.#held; }
  get heldByThem() { return this.#heldByThem; }
  get ended() { return this.#ended; }
  get quality() { return this.#quality; }
  get warnings() { return this.#warnings.list; }
  get remoteStream() { return this.#sound.stream; }
  get peerConnection() { return this.#sound.pc; }
  /** Answered, and the gateway in reach. */
  get #talking() { return this.answeredAt !== undefined && !this.#ended && !this.#away; }

  // -- going out

  /** `type`: a `call`, or a `probe` of the way with nobody on the other side. */
  async _dial(type, options) {
    options.signal?.addEventListener('abort', () => this.hangup(), { once: true });
    this.#setState('connecting');
    try {
      const microphone = this.#sound.open(options.audio);
      // Nobody's phone rings for a caller who may not be allowed to speak; but a microphone that is
      // sure to open opens while the call is under way.
      if (!(await microphoneAllowed())) await Promise.race([microphone, this.#over]);
      this.#alive(options.signal);
      await this.#connect();
      const sdp = await this.#sound.offer(this.#phone._options.codecs);
      this.#alive(options.signal);
      const what = type === 'call' ? { to: this.to, from: options.from, params: options.params } : {};
      this.#phone._send({ type, call: this._key, ...what, sdp });
      this.#mark('offer');
      this.#sound.listen(this.#clicked);
      microphone.then((stream) => this.#sound.speak(stream)).catch((error) => this.#fail(error));
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #alive(signal) {
    if (this.#ended) throw new PhoneError(this.#ended.cause, { text: this.#ended.text });
    signal?.throwIfAborted();
  }

  /** No connection is made for a call that ended while its configuration was awaited. */
  async #connect() {
    const configuration = await this.#phone._configuration();
    this.#alive();
    this.#sound.connect(configuration);
  }

  #failed(error) {
    const problem = error instanceof PhoneError ? error : new PhoneError('failed', { detail: error });
    this.#fail(problem);
    return problem;
  }

  // -- coming in

  /** Answers an incoming call. */
  async accept(options = {}) {
    if (this.direction !== 'in' || this.#state !== 'ringing') return;
    this.#clicked = performance.now();
    this.#setState('connecting');
    try {
      const microphone = this.#sound.open(options.audio);
      await this.#connect();
      await this.#sound.answer(this.#sdp, this.#phone._options.codecs, Promise.race([microphone, this.#over]));
      this.#alive();
      if (!this.#away) this.#sendAccept();
      this.#mark('offer');
      this.#sound.listen(this.#clicked);
    } catch (error) {
      if (!this.#ended) throw this.#failed(error);
    }
  }

  /** Refuses an incoming call: 486 busy, 603 declined, 480 not available. */
  reject(code = 603) {
    if (this.direction !== 'in' || this.#state !== 'ringing') return;
    this.#phone._send({ type: 'reject', call: this._key, code });
    this._end({ by: 'us', cause: 'declined', sip: code });
  }

  /** Leaves an incoming call to ring for others. */
  ignore() {
    if (this.direction !== 'in' || this.#state !== 'ringing') return;
    this.#phone._ignore(this._key);
    this._end({ by: 'us', cause: 'ignored' });
  }

  // -- during the call

  /** Ends the call, whatever its state. */
  hangup() {
    if (this.#ended) return;
    if (this.direction === 'in' && this.#state === 'ringing') return this.reject(603);
    if (this.timings.offer !== undefined) this.#phone._send({ type: 'hangup', call: this._key });
    this._end({ by: 'us', cause: this.answeredAt ? 'normal' : 'cancelled' });
  }

  mute(on = true) {
    if (this.#ended || this.#muted === on) return;
    this.#muted = on;
    this.#quietChanged();
    this._emit('mute', on);
  }

  #quietChanged() {
    this.#sound.quiet(this.#muted || this.#held);
    this.#warnings.quietChanged();
  }

  /** Puts the other side on hold, or takes it back. Resolves when the phone network has agreed. */
  async hold(on = true) {
    if (!this.#talking) throw new PhoneError('not-answered');
    this.#phone._send({ type: 'hold', call: this._key, on });
    return new Promise((resolve, reject) => this.#holding.push({ on, resolve, reject }));
  }

  /**
   * Connects the other side with a number, or with the other side of another answered call of this phone, and leaves.
   * Resolves when they are connected; rejects where it came to nothing, and then this call goes on.
   */
  async transfer(to) {
    if (!this.#talking) throw new PhoneError('not-answered');
    if (this.#transfer) throw new PhoneError('failed', { text: 'A transfer of this call is under way.' });
    const whom = to instanceof Call ? { with: to._key } : { to: String(to) };
    this.#phone._send({ type: 'transfer', call: this._key, ...whom });
    return new Promise((resolve, reject) => { this.#transfer = { resolve, reject }; });
  }

  /** Sends digits 0-9 * # A-D in an answered call; `w` waits half a second. Resolves when the last has been played. */
  async digits(digits, options) {
    if (!this.#talking) throw new PhoneError('not-answered');
    return this.#digits.play(digits, options);
  }

  #sendDigits(digits, ms) {
    if (!this.#talking) throw new PhoneError(this.#ended ? 'normal' : 'connection-lost');
    this.#phone._send({ type: 'digits', call: this._key, digits, ms });
  }

  /** How it sounded in the last second. */
  async stats() {
    if (!this.#quality) throw new PhoneError('not-answered');
    return this.#quality;
  }

  /** What the user thought of it; also after its end. */
  feedback(score, issue) {
    if (this.id) this.#phone._send({ type: 'feedback', id: this.id, score, issue });
  }

  // -- messages from the gateway

  _receive(message) {
    switch (message.type) {
      case 'answer': return this.#onAnswer(message);
      case 'ringing': return this.#onRinging('ringing', false);
      case 'early': return this.#onRinging('early', true);
      case 'answered': return this.#onAnswered();
      case 'held': return this.#onHeld(message);
      case 'digit': return this._emit('digit', message.digit);
      case 'transfer': return this.#onTransfer(message);
      case 'transferred': return this.#onTransferred(message);
      case 'quality': return this.#onQuality(message);
      case 'no-audio': return this.#warnings.noAudio(message);
      case 'audio': return this.#warnings.audio(message);
      case 'ended': return this._end(message);
      default: return this.#phone._log('debug', `unknown message ${message.type}`, this.id);
    }
  }

  async #onAnswer({ id, sdp }) {
    const first = !this.id;
    this.id = id;
    this.#restarting = false;
    this.#mark('answer');
    if (first) this._emit('id', id);
    try {
      await this.#sound.accepted(sdp);
      this.#settle();
    } catch (error) {
      if (!this.#ended) this.#fail(new PhoneError('media-failed', { detail: error }));
    }
  }

  #onRinging(state, earlyMedia) {
    if (this.answeredAt) return;
    this.#mark(state);
    this.#advance(state);
    this._emit('ringing', earlyMedia);
  }

  #onAnswered() {
    if (this.#ended || this.answeredAt) return;
    this.#mark('accept');
    this.answeredAt = Date.now();
    this.#advance('active');
    this._emit('accept');
  }

  #onHeld({ by, on }) {
    if (by === 'us') {
      this.#held = on;
      this.#quietChanged();
      // Of a hold and its end asked for at once each is told of its own; wishes that the last one undid, with that one.
      const last = this.#holding.findLastIndex((waiting) => waiting.on === on);
      for (const waiting of this.#holding.splice(0, last + 1)) waiting.resolve();
    } else {
      this.#heldByThem = on;
    }
    this._emit('hold', by, on);
  }

  #onTransfer({ state, sip, text }) {
    this._emit('transfer', state, sip);
    if (state === 'done') this.#transferred();
    if (state === 'failed') this.#transferred(new PhoneError('transfer-failed', { text }));
  }

  #transferred(error) {
    const waiting = this.#transfer;
    this.#transfer = null;
    if (error) waiting?.reject(error);
    else waiting?.resolve();
  }

  #onTransferred({ remote }) {
    this.remote = Object.freeze({ number: remote });
    this._emit('transferred', this.remote);
  }

  async #onQuality({ type, call, ...quality }) {
    if (quality.down) Object.assign(quality.down, await this.#hearing.read(this.peerConnection));
    if (this.#ended) return;
    this.#quality = Object.freeze(quality);
    this._emit('quality', this.#quality);
    this.#warnings.look(quality);
  }

  /** A message of ours, of the type `re`, was refused: no call ends by it, except one that has not begun, or has no way. */
  _refused(re, error) {
    if (/call|probe/.test(re)) return this._end({ by: 'gateway', cause: error.code, text: error.text });
    if (re === 'restart') return this.#fail(new PhoneError('media-lost', { detail: error }));
    if (re === 'accept' && error.code !== 'wrong-state') return this.#fail(error, false); // it still rings there
    if (re === 'hold') this.#notHeld(error);
    if (re === 'transfer') this.#transferred(error);
    this.#phone._emit('error', error);
  }

  #notHeld(error) { for (const waiting of this.#holding.splice(0)) waiting.reject(error); }

  // -- a way that is lost and found

  #onConnected() {
    this.#mark('dtls');
    // An accepted call is up when its sound path is: the gateway need not tell us what we know.
    if (this.direction === 'in') this.#onAnswered();
    this.#settle();
  }

  #onDisconnected(failed) {
    if (this.#ended || this.#away) return;
    if (!this.#phone._graceMs || this.timings.dtls === undefined) {
      if (failed) this.#fail(new PhoneError(this.timings.dtls === undefined ? 'media-failed' : 'media-lost'));
      return;
    }
    this.#seek();
    this.#phone._doubt(); // with the network the gateway may be out of reach too
    setTimeout(() => this.#restart(), this.#restartedAt + RESTART_EVERY_MS - performance.now());
  }

  /** The grace time begins: then the call is given up. */
  #wait() {
    this.#patience ??= setTimeout(() => this.#fail(new PhoneError('media-lost')), this.#phone._graceMs);
  }

  #seek() {
    this.#wait();
    if (this.#state === 'reconnecting') return;
    this.#before = this.#state;
    this.#setState('reconnecting');
  }

  #found() {
    clearTimeout(this.#patience);
    this.#patience = null;
    if (this.#state === 'reconnecting') this.#setState(this.#before);
  }

  #settle() {
    if (!this.#away && !this.#restarting && this.#sound.up) this.#found();
  }

  async #restart() {
    if (this.#restarting || this.#away || this.#ended) return;
    this.#restarting = true;
    this.#restartedAt = performance.now();
    try {
      const sdp = await this.#sound.restart(await this.#phone._configuration());
      if (this.#away || this.#ended) return void (this.#restarting = false);
      this.#phone._send({ type: 'restart', call: this._key, sdp });
    } catch (error) {
      this.#restarting = false;
      if (!this.#ended) this.#fail(new PhoneError('media-failed', { detail: error }));
    }
  }

  /** The gateway is out of reach. Says whether the call may outlive that; else its end is at hand. */
  _lose() {
    if (this.timings.offer === undefined && this.direction === 'out') return false; // nobody knows of it yet
    this.#away = true;
    this.#restarting = false;
    const error = new PhoneError('connection-lost');
    this.#notHeld(error);
    this.#transferred(error);
    this.#wait();
    // What rings here can be accepted meanwhile: that is sent when there is a way again.
    if (this.#state !== 'ringing' || this.direction === 'out') this.#seek();
    return true;
  }

  get _isAway() { return this.#away; }

  /** The gateway says how the call stands. Where it has no such call, what became of it `follows`, or nothing does. */
  _back(entry, follows) {
    this.#away = false;
    if (!entry) {
      setTimeout(() => this._end({ by: 'network', cause: 'connection-lost' }), follows ? FOLLOWS_MS : 0);
      return;
    }
    const { id, state, heldByUs: held, heldByThem } = entry;
    if (!this.id) this._emit('id', this.id = id);
    if (state === 'incoming') return this.#stillRings();
    if (state === 'ringing' || state === 'early') this.#onRinging(state, state === 'early');
    if (state === 'answered') this.#onAnswered();
    if (held !== this.#held) this.#onHeld({ by: 'us', on: held });
    if (heldByThem !== this.#heldByThem) this.#onHeld({ by: 'them', on: heldByThem });
    this.#restart();
  }

  /** It rings, and the gateway knows of nobody who has accepted it: the word of that was lost, or waits for this. */
  #stillRings() {
    this.#found();
    if (this.timings.offer !== undefined) this.#sendAccept();
  }

  #sendAccept() { this.#phone._send({ type: 'accept', call: this._key, sdp: this.#sound.description }); }

  /** The page was loaded anew and its call stands: it gets another connection and the microphone again. */
  async _resume({ state, heldByUs: held, heldByThem, sinceMs }, { muted = false, answeredAt } = {}) {
    this.#before = { answered: 'active', calling: 'connecting' }[state] ?? state;
    this.#state = 'reconnecting';
    this.startedAt = Date.now() - sinceMs;
    if (state === 'answered') this.answeredAt = answeredAt ?? this.startedAt;
    this.#held = held;
    this.#heldByThem = heldByThem;
    this.#muted = muted;
    this.#sound.quiet(muted || held);
    this.#seek();
    try {
      const microphone = this.#sound.open();
      await this.#connect();
      const sdp = await this.#sound.offer(this.#phone._options.codecs);
      this.#alive();
      this.#restarting = true;
      this.#phone._send({ type: 'restart', call: this._key, sdp });
      this.#mark('offer');
      this.#sound.listen(this.#clicked);
      await this.#sound.speak(await microphone);
    } catch (error) {
      if (!this.#ended) this.#failed(error);
    }
  }

  /** What a page that is loaded anew cannot know from the gateway. */
  get _memory() {
    const { direction, to, remote, params, answeredAt } = this;
    return { direction, to, remote, params, answeredAt, muted: this.#muted };
  }

  // -- its end

  /** Something of ours failed: the call ends, and its end says why. `taken`: the gateway has our `call` or `accept`. */
  #fail(error, taken = this.timings.offer !== undefined || this.#state === 'reconnecting') {
    if (this.#ended) return;
    if (taken) this.#phone._send({ type: 'hangup', call: this._key });
    else if (this.direction === 'in') this.#phone._send({ type: 'reject', call: this._key, code: 480 });
    this.#phone._log('error', error.text, this.id);
    this._end({ by: error.code === 'media-lost' ? 'network' : 'us', cause: error.code ?? 'failed', text: error.text });
  }

  _end({ by, cause, sip, q850, text }) {
    if (this.#ended) return;
    const known = help(cause);
    this.#ended = Object.freeze({
      by, cause, sip, q850, ...known, text: text || known.text,
      durationMs: this.answeredAt ? Date.now() - this.answeredAt : 0, quality: this.#quality ?? undefined,
    });
    clearTimeout(this.#patience);
    this.#giveUp(new PhoneError('normal'));
    this.#sound.close();
    this.#phone._remove(this);
    this.#setState('ended');
    this.#notHeld(new PhoneError('normal'));
    this.#transferred(cause === 'transferred' ? undefined : new PhoneError(cause));
    if (by !== 'us' && this.answeredAt) this.#phone.audio.play('end');
    else if (by !== 'us' && this.direction === 'out' && BUSY.has(cause)) this.#phone.audio.play('busy');
    this._emit('end', this.#ended);
  }

  #mark(name) {
    this.timings[name] ??= Math.round((performance.now() - this.#clicked) * 10) / 10;
  }

  /** Further in the call; while the way is sought it stays `reconnecting` for now. */
  #advance(state) {
    if (this.#state === 'reconnecting') this.#before = state;
    else this.#setState(state);
  }

  #setState(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#phone._sounds();
    // A sound of the page's own instead of what the network plays while it rings.
    this.#sound.hear(state !== 'ringing' || this.#phone._options.sounds?.ringback === undefined);
    this._emit('state', state);
  }
}
