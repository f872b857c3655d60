/** The phone: one session with the gateway, its calls, and the way back to it. */

import { AudioDevices } from './audio.js';
import { Call } from './call.js';
import { Emitter } from './emitter.js';
import { Link } from './link.js';
import { unsupported } from './microphone.js';
import { preflight } from './preflight.js';
import { HELP, PhoneError } from './texts.js';

/** The wait before another attempt: the longest is shorter while calls are at stake. */
const RECONNECT = { firstMs: 500, longestMs: 15_000, longestInCallMs: 2000 };
const ANSWERED_WITHIN_MS = 10_000;
const TOKEN_WITHIN_MS = 10_000;
/** A page that is loaded anew is back within this time; the calls of a closed one end after it. */
const RELOADED_WITHIN_MS = 6000;
/** A token is renewed when a tenth of its life is left, and within these bounds. */
const RENEW = { soonestMs: 5000, latestMs: 300_000 };
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const STOPPED = 'This phone was stopped.';
const LEVELS = ['silent', 'error', 'warn', 'info', 'debug'];

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return Array.from(bytes, (b) => b.toString(36).padStart(2, '0')).join('');
}

export class Phone extends Emitter {
  #options; #link; #state = 'offline'; #user = null;
  #calls = new Map(); #ignored = new Set(); #started = false; #stopped = false; #welcomed = false; #waiting = [];
  #retry = null; #attempts = 0; #secret = null; #memory = {}; #away = false; #iceServers; #renewing = []; #expiry;
  #asked = new Map(); #questions = 0; #certificate = null;
  #parting = null; #expires; #renewedAt = -Infinity;
  #pageEvents = {
    pagehide: () => this.#leavePage(),
    pageshow: (event) => { if (event.persisted) this.#comeToPage(); },
    online: () => this.#networkChanged(),
  };
  #onNetwork = () => this.#networkChanged();

  /** `true`, or why this browser cannot make calls. */
  static get supported() { return HELP[unsupported()]?.[0] ?? true; }

  /** Tries everything that a call needs, without calling anybody. */
  static preflight(options) { return preflight(Phone, options); }

  constructor(options) {
    super();
    if (!options?.url) throw new TypeError('url: wss://gw.example/phone');
    this.#options = { whileBusy: 'offer', ...options };
    this.audio = new AudioDevices(this.#options, {
      changed: (devices) => this._emit('devices', devices),
      blocked: (error) => this._emit('error', error),
    });
    this.#link = new Link(options.url, { onMessage: (message) => this.#receive(message), onLost: (error) => this.#lost(error) });
    // Only where it is wanted: some browsers keep no page that listens to it.
    if (options.guardPage) this.#pageEvents.beforeunload = (event) => { if (this.#calls.size > 0) event.preventDefault(); };
    for (const [event, listener] of Object.entries(this.#pageEvents)) addEventListener(event, listener);
    navigator.connection?.addEventListener?.('change', this.#onNetwork);
  }

  get state() { return this.#state; }
  get user() { return this.#user; }
  get calls() { return [...this.#calls.values()]; }

  /** Connects and stays connected, so that incoming calls ring. Resolves when the gateway has let us in. */
  async start() {
    this.#alive();
    this.#started = true;
    await this.#reach();
  }

  #reach() {
    this.#connect();
    if (this.#welcomed) return undefined;
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Before the click: certificate, connection, and the microphone where that needs no question. */
  async warmUp({ microphone = true } = {}) {
    this.#alive();
    this.#connect();
    const opened = microphone ? this.audio._warmUp() : undefined;
    this.#certificate ??= await RTCPeerConnection.generateCertificate({ name: 'ECDSA', namedCurve: 'P-256' });
    await opened;
  }

  /** Calls a number. Resolves when the offer is on its way; rejects with a PhoneError where it could not be. */
  call(to, options = {}) { return this._place('call', { remote: { number: to }, params: options.params }, options); }

  async _place(type, call, options) {
    const never = unsupported();
    if (never) throw new PhoneError(never);
    this.#alive();
    const placed = new Call(this, { ...call, key: randomId(), direction: 'out' });
    this.#connect();
    await placed._dial(type, options);
    return placed;
  }

  /** What would become of a number, without calling it. */
  check(to, { from } = {}) {
    this.#alive();
    this.#connect();
    const n = ++this.#questions;
    this._send({ type: 'check', to, from, n });
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#answered(n)?.reject(new PhoneError('unreachable')), ANSWERED_WITHIN_MS);
      this.#asked.set(n, { resolve, reject, timer });
    });
  }

  #answered(n) {
    const asked = this.#asked.get(n);
    this.#asked.delete(n);
    clearTimeout(asked?.timer);
    return asked;
  }

  /** Brings a fresh token into the running session; without one, the function in the options is asked. */
  async renew(token) {
    this.#alive();
    const asked = typeof this.#options.token === 'function';
    const fresh = token ?? await this.#token();
    const keep = () => { if (!asked) this.#options.token = fresh; };
    if (!this.#welcomed) {
      keep(); // for the next hello
      return this.#connect();
    }
    this._send({ type: 'renew', token: fresh });
    return new Promise((resolve, reject) => this.#renewing.push({ resolve: () => { keep(); resolve(); }, reject }));
  }

  /** Ends all calls and the connection, for good. */
  async stop() {
    this.#stopped = true;
    this.#started = false;
    for (const call of this.calls) call.hangup();
    if (this.#welcomed) this._send({ type: 'bye' });
    this.#rejectAll(new PhoneError('connection-lost', { text: STOPPED }));
    for (const [event, listener] of Object.entries(this.#pageEvents)) removeEventListener(event, listener);
    navigator.connection?.removeEventListener?.('change', this.#onNetwork);
    this.#part();
    await this.audio._close();
    this.#setState('closed');
  }

  #alive() {
    if (this.#stopped) throw new PhoneError('connection-lost', { text: STOPPED });
  }

  // -- the parts a Call uses

  get _options() { return this.#options; }
  /** How long a call may be without its connection; 0: the gateway ends it at once. */
  get _graceMs() { return this.#secret?.graceMs ?? 0; }

  /** What a connection is made with. Where all sound must go over a TURN server, the gateway has to name it first. */
  async _configuration() {
    const { iceServers, iceTransportPolicy = 'all' } = this.#options;
    if (iceTransportPolicy === 'relay' && !iceServers) await this.#reach();
    const certificates = this.#certificate?.expires > Date.now() ? [this.#certificate] : undefined;
    return { iceServers: iceServers ?? this.#iceServers ?? [], iceTransportPolicy, bundlePolicy: 'max-bundle', certificates };
  }

  _add(call) { this.#calls.set(call._key, call); }

  _remove(call) {
    this.#calls.delete(call._key);
    if (!this.#started && this.#away && this.#calls.size === 0) this.#part();
  }

  _ignore(key) { this.#ignored.add(key); }
  _send(message) { this.#link.send(message); }
  _doubt() { this.#link.doubt(); }

  /** What sounds here follows from the calls: the ring, or what the page plays while it rings there. */
  _sounds() {
    const rings = (direction) => this.calls.some((call) => call.direction === direction && call.state === 'ringing');
    this.audio._loop(rings('in') ? 'ring' : rings('out') && this.#options.sounds?.ringback ? 'ringback' : null);
  }

  _log(level, text, call) {
    const { log = 'error' } = this.#options;
    if (typeof log === 'function') return void log({ t: Date.now(), level, call, text });
    if (LEVELS.indexOf(level) <= LEVELS.indexOf(log)) console[level](`ringback: ${text}`);
  }

  // -- the connection

  #connect() {
    if (this.#stopped && !this.#parting || this.#welcomed) return;
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#setState(this.#attempts > 0 || this.#away ? 'reconnecting' : 'connecting');
    this.#link.open(() => this.#hello());
  }

  async #hello() {
    const { token, user } = this.#options;
    const hello = { type: 'hello' };
    if (token) hello.token = await this.#token();
    else if (user) hello.user = user;
    this.#secret ??= this.#remembered();
    if (this.#secret) hello.resume = this.#secret.resume;
    return hello;
  }

  /** The page's token; that of a function which never settles is not waited for. */
  async #token() {
    const { token } = this.#options;
    if (typeof token !== 'function') return token;
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new PhoneError('token-unavailable', { text: 'The page got no token in time.' })), TOKEN_WITHIN_MS);
    });
    try { return await Promise.race([token(), late]); } finally { clearTimeout(timer); }
  }

  #disconnect(code) {
    this.#welcomed = false;
    clearTimeout(this.#expiry);
    this.#link.drop(code);
  }

  /** The connection is gone. Calls that the gateway keeps for a while are not. */
  #lost(error) {
    this._log('warn', error.text);
    this.#disconnect();
    if (error.fatal) this.#secret = null;
    const by = ['unreachable', 'connection-lost', 'taken-over'].includes(error.code) ? 'network' : 'gateway';
    for (const call of this.calls) {
      const unsent = this.#link.holds(call._key);
      if (!this.#secret || unsent || !call._lose()) call._end({ by, cause: error.code, text: error.text });
    }
    this.#link.forget(({ type }) => this.#secret && /hangup|reject|feedback/.test(type));
    this.#away = this.#calls.size > 0;
    this.#rejectAll(error);
    if (!this.#stopped) this._emit('error', error);
    if (error.fatal || !(this.#started || this.#away || this.#parting)) return this.#rest();
    this.#setState('reconnecting');
    const most = this.#away || this.#parting ? RECONNECT.longestInCallMs : RECONNECT.longestMs;
    const longest = Math.min(most, RECONNECT.firstMs * 2 ** this.#attempts++);
    // Spread, so that a restarted gateway is not met by all its pages at one instant.
    this.#retry = setTimeout(() => this.#connect(), longest * (0.5 + Math.random() / 2));
  }

  /** Rests when the gateway has been told what was hung up while it was away: so long as it keeps those calls. */
  #part() {
    if (!this.#secret || !this.#link.parts) return this.#rest();
    this.#parting ??= setTimeout(() => this.#parted(), this._graceMs);
  }

  #parted() {
    clearTimeout(this.#parting);
    this.#parting = null;
    if (!this.#started && this.#calls.size + this.#waiting.length + this.#asked.size === 0) this.#rest();
  }

  #rest() {
    clearTimeout(this.#retry);
    clearTimeout(this.#parting);
    this.#retry = this.#parting = null;
    this.#away = false;
    this.#started = false;
    this.#disconnect(1000);
    this.#setState('offline');
  }

  #rejectAll(error) {
    for (const waiting of [...this.#waiting.splice(0), ...this.#renewing.splice(0)]) waiting.reject(error);
    for (const n of [...this.#asked.keys()]) this.#answered(n).reject(error);
  }

  /** Another network, or one again: what is lost is tried at once, what seems to stand is doubted. */
  #networkChanged() {
    if (this.#retry) this.#connect();
    else this.#link.doubt();
  }

  /** A page that goes says so: the phone at the far end should not wait for a timeout. Unless another page is to come. */
  #leavePage() {
    const keep = this.#options.keepCalls && this.#secret && this.#calls.size > 0;
    if (keep) this.#remember();
    else for (const call of this.calls) call.hangup();
    if (this.#welcomed) this._send({ type: 'bye', within_ms: keep ? RELOADED_WITHIN_MS : undefined });
    this.#disconnect(keep ? undefined : 1000);
    if (keep) this.#away = this.calls.filter((call) => call._lose()).length > 0;
    this.#setState('offline');
  }

  /** Back by the browser's history, as it was left. */
  #comeToPage() {
    this.#forgetMemory();
    if (this.#started || this.#away) this.#connect();
  }

  // -- what outlives the page: written when it goes, and gone from the store when it is read

  get #place() { return `ringback ${this.#options.url}`; }

  #remember() {
    const calls = Object.fromEntries(this.calls.map((call) => [call._key, call._memory]));
    try { sessionStorage.setItem(this.#place, JSON.stringify({ ...this.#secret, calls })); } catch { /* no store, no return */ }
  }

  #remembered() {
    if (!this.#options.keepCalls) return null;
    try {
      const { calls, ...secret } = JSON.parse(sessionStorage.getItem(this.#place));
      this.#forgetMemory();
      this.#memory = calls;
      return secret;
    } catch {
      return null; // nothing was left behind
    }
  }

  #forgetMemory() {
    try { sessionStorage.removeItem(this.#place); } catch { /* no store */ }
  }

  #setState(state) {
    if (this.#state === state || this.#stopped && state !== 'closed') return;
    this.#state = state;
    this._emit('state', state);
  }

  // -- messages

  #receive(message) {
    switch (message.type) {
      case 'welcome': return this.#onWelcome(message);
      case 'incoming': return this.#onIncoming(message);
      case 'checked': return this.#onChecked(message);
      case 'renewed': return this.#onRenewed(message);
      case 'error': return this.#onError(message);
      case 'ice-servers': this.#iceServers = message.iceServers; return;
      case 'draining': return this._emit('error', new PhoneError('draining'));
      default: return this.#calls.get(message.call)?._receive(message); // a pong is nobody's
    }
  }

  #onWelcome({ user, resume, graceMs, expires, iceServers, calls }) {
    this.#user = user;
    this.#welcomed = true;
    this.#attempts = 0;
    this.#secret = resume ? { resume, graceMs } : null;
    this.#iceServers = iceServers;
    this.#expect(expires);
    this.#setState('ready');
    this.#comeBack(calls);
    if (this.#parting) this.#parted();
    for (const waiting of this.#waiting.splice(0)) waiting.resolve();
  }

  /** `entries`: what the gateway still has of our calls; nothing where it has begun a new session. */
  #comeBack(entries) {
    const away = this.#away;
    this.#away = false;
    const listed = new Map((entries ?? []).map((entry) => [entry.call, entry]));
    for (const call of this.calls) {
      const entry = listed.get(call._key);
      if (away && call._isAway) call._back(entry, Boolean(entries));
      listed.delete(call._key);
    }
    const memory = this.#memory;
    this.#memory = {};
    for (const [key, entry] of listed) {
      if (entry.state === 'incoming') continue; // its own message follows
      if (memory[key]) this.#resume(key, entry, memory[key]);
      else this._send({ type: 'hangup', call: key }); // it was given up here
    }
  }

  #resume(key, entry, memory) {
    const { direction, to, params } = memory;
    const remote = { ...memory.remote, number: entry.remote, name: entry.name };
    const call = new Call(this, { key, id: entry.id, direction, to, params, remote });
    call._resume(entry, memory);
    this._emit('resumed', call);
  }

  #onIncoming({ call: key, id, from, name, to, sdp, params, verified }) {
    if (this.#ignored.has(key) || this.#calls.has(key)) return;
    const busy = this.#calls.size > 0;
    const call = new Call(this, { key, direction: 'in', id, sdp, to, params, remote: { number: from, name, verified } });
    if (busy && this.#options.whileBusy === 'reject') return call.reject(486);
    this._sounds();
    this._emit('incoming', call);
  }

  #onChecked({ type, n, ...answer }) {
    this.#answered(n)?.resolve(answer);
  }

  #onRenewed({ expires }) {
    if (!(expires <= this.#expires)) this.#expect(expires); // else the same end would be renewed for ever
    this.#renewing.shift()?.resolve();
  }

  /** The token's end is watched for, and told in time. */
  #expect(expires) {
    clearTimeout(this.#expiry);
    this.#expires = expires;
    if (!expires) return;
    const now = Date.now();
    const left = expires * 1000 - now;
    const early = Math.max(RENEW.soonestMs, Math.min(RENEW.latestMs, left / 10));
    const wait = Math.max(left - early, this.#renewedAt + RENEW.soonestMs - now);
    if (wait > LONGEST_TIMER_MS) return;
    this.#expiry = setTimeout(() => {
      this.#renewedAt = Date.now();
      this._emit('tokenexpiring', Math.max(0, expires * 1000 - Date.now()));
      if (typeof this.#options.token !== 'function') return;
      this.renew().catch((error) => this._emit('error', error instanceof PhoneError ? error : new PhoneError('token-unavailable', { detail: error })));
    }, wait);
  }

  #onError({ code, text, re, call: key, n }) {
    const call = key === undefined ? undefined : this.#calls.get(key);
    // Ours crossed the call's end on the way: both sides know that it is over.
    if (code === 'unknown-call' && !call) return this._log('debug', text, key);
    const error = new PhoneError(code, { text: HELP[code]?.[0] ?? text, detail: text });
    this._log('error', `${code}: ${text}`, call?.id);
    if (call) return call._refused(re, error);
    const asked = re === 'check' ? this.#answered(n) : re === 'renew' ? this.#renewing.shift() : undefined;
    if (asked) return asked.reject(error);
    if (this.#welcomed) return this._emit('error', error);
    // Not let in: trying again with the same token would be refused again, a new one may be taken.
    error.fatal = typeof this.#options.token !== 'function';
    if (code !== 'unauthorized') this.#secret = null;
    this.#disconnect(1000);
    this.#lost(error);
  }
}
