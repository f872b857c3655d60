/**
 * Ringback's browser client: telephone calls from a web page.
 *
 *   import { Phone } from './ringback.js';
 *   const phone = new Phone({ url: 'wss://gw.example/phone', token: () => fetchToken() });
 *   const call = await phone.call('+442079460958');
 *   call.on('end', (e) => console.log(e.text, e.remedies));
 *
 * One ES module without dependencies. Types: ringback.d.ts. Guide: docs/browser-client.md.
 * It speaks the browser protocol v1 (docs/browser-protocol.md).
 */

const SUBPROTOCOL = 'ringback.v1';
const PING_EVERY_MS = 20_000;
const PONG_WITHIN_MS = 10_000;
const RECONNECT_FIRST_MS = 500;
const RECONNECT_LONGEST_MS = 15_000;
const SILENCE_DB = -100;
/** Above the noise a codec makes out of digital silence, below any tone or voice. */
const SOUND_DB = -55;
const LEVEL_EVERY_MS = 50;
/** Above `limit` for `raise` seconds in a row a warning is due, at or below `calm` for `clear` seconds it is over. */
const QUALITY_WARNINGS = [
  { code: 'high-loss', limit: 5, calm: 2, raise: 3, clear: 5, read: (q) => Math.max(...[q.down, q.up, q.trunkDown, q.trunkUp].map((leg) => leg?.lossPct ?? 0)) },
  { code: 'high-delay', limit: 400, calm: 300, raise: 3, clear: 5, read: (q) => q.delayMs ?? 0 },
];
/** How long sound has to show itself once we are not muted any more, before its absence is told. */
const UNMUTED_MS = 2000;
/** What one `digits` message takes. */
const DIGIT_MS = { least: 40, usual: 100, most: 1000 };
const MAX_DIGITS = 64;
const DIGIT_PARTS = new RegExp(`W+|[^W]{1,${MAX_DIGITS}}`, 'g');
const PAUSE_MS = 500;
const STOPPED = 'This phone was stopped.';

// ---- what can go wrong, why, and what helps ---------------------------------------------------------------

/** code -> [what happened, causes, remedies]: codes of our own, and those of the gateway (docs/browser-protocol.md). */
const HELP = {
  // the browser
  'unsupported': ['This browser cannot make calls.', ['It has no WebRTC or no WebSocket.'], ['Use a current Firefox, Chrome, Edge or Safari.']],
  'insecure-page': ['The microphone is out of reach on this page.', ['Browsers give the microphone only to pages opened over https or from localhost.'], ['Open the page with https://, or as http://localhost on the machine itself.']],
  'microphone-denied': ['The browser was not allowed to use the microphone.', ['The question was answered with “Block”, now or earlier.', 'The system keeps the microphone from this browser.', 'The page is in a frame without allow="microphone".'], ['Click the icon left of the address, allow the microphone and call again.', 'On macOS and Windows look under Privacy → Microphone in the system settings.']],
  'microphone-dismissed': ['The question for the microphone was closed without an answer.', [], ['Call again and choose “Allow”.']],
  'microphone-missing': ['No microphone was found.', ['None is plugged in, or it is switched off in the system settings.'], ['Plug in a microphone or headset and call again.']],
  'microphone-busy': ['The microphone could not be opened.', ['Another program is using it.', 'It was unplugged just now.'], ['Close other programs that record sound, or choose another microphone, and call again.']],
  'microphone-failed': ['The microphone could not be opened.', [], ['Reload the page; if it stays, restart the browser.']],
  'microphone-unplugged': ['The microphone went away during the call.', ['It was unplugged or switched off, or its permission was taken back.'], ['Plug it in again and call again.']],
  'sound-blocked': ['The browser holds the sound back until the page is used.', ['Sound may start only after a click or a key.'], ['Click anywhere on the page.']],
  // the way to the gateway
  'unreachable': ['The gateway does not answer.', ['It is not running, or its address is wrong.', 'A proxy or firewall blocks WebSocket connections.', 'The page’s origin is not on the gateway’s list.'], ['Check that the gateway runs and that its address is right.', 'Look at the gateway’s log for a refused origin.']],
  'connection-lost': ['The connection to the gateway was lost.', ['The network changed or failed.', 'The gateway was stopped.'], ['Check the network. The phone reconnects by itself.']],
  'protocol-refused': ['The gateway does not speak this page’s protocol.', ['The page and the gateway are of different versions.'], ['Reload the page without the cache.']],
  'unauthorized': ['The gateway refused the sign-in.', ['The token is missing, has expired, or was signed with another key.'], ['Sign in again to get a new token.', 'If every token is refused, compare the key under [auth] in the gateway’s configuration with the one that signs.']],
  'token-unavailable': ['The page could not get a token.', ['The page’s own server did not answer or refused.'], ['Sign in again, then call again.']],
  'draining': ['The gateway is shutting down.', ['It is being restarted or updated.'], ['Call again in a minute.']],
  'media-failed': ['No sound path to the gateway could be made.', ['A firewall blocks UDP between this browser and the gateway.', 'The gateway announces an address that cannot be reached from here.'], ['Allow UDP to the gateway’s media port.', 'Set `advertise` under [media] to the address that browsers can reach.']],
  // what the gateway refuses (codes of `error`)
  'bad-message': ['The gateway did not understand the page.', ['The page and the gateway are of different versions.'], ['Reload the page without the cache.']],
  'bad-sdp': ['The gateway cannot use what this browser offers.', ['The browser offers no audio codec that the gateway knows.'], ['Use a current browser; Opus, PCMU or PCMA must be allowed.']],
  'forbidden': ['The gateway does not allow that.', ['The token excludes it.'], ['Ask the person who runs the gateway.']],
  'too-fast': ['Too many requests in a short time.', [], ['Wait a moment.']],
  // why there is no sound (`no-audio`: its cause, and whose leg it is)
  'no-ice-us': ['Nothing gets through between this browser and the gateway.', ['A firewall, VPN or proxy blocks UDP.', 'The gateway announces an address that cannot be reached from here.'], ['Allow UDP to the gateway’s media port, or try another network.', 'Set `advertise` under [media] to the address that browsers can reach.']],
  'no-ice-them': ['Nothing gets through between the other browser and the gateway.', ['A firewall, VPN or proxy on their side blocks UDP.'], ['Ask them to try another network.']],
  'no-dtls-us': ['The encryption between this browser and the gateway does not come up.', ['Only small packets get through: a VPN or tunnel loses the larger ones.'], ['Try without the VPN, or on another network.']],
  'no-dtls-them': ['The encryption between the other browser and the gateway does not come up.', ['A VPN or tunnel on their side loses the larger packets.'], ['Ask them to try another network.']],
  'no-rtp-us': ['They cannot hear you: nothing arrives from this browser.', ['The network between this browser and the gateway has failed.', 'The browser has stopped recording.'], ['Check the network.', 'Hang up, reload the page and call again.']],
  'no-rtp-them': ['You cannot hear them: nothing arrives from their side.', ['A firewall before the gateway blocks UDP from the telephone network.', 'The telephone network was told an address of the gateway that it cannot reach.'], ['Open `rtp_ports` under [media] for UDP.', 'Set `rtp_advertise` under [media] to the address that the trunk can reach.']],
  'wrong-payload-type-us': ['They cannot hear you: this browser sends a coding that was not agreed.', ['The page or an extension has changed what was negotiated.'], ['Reload the page and call again.']],
  'wrong-payload-type-them': ['You cannot hear them: their side sends a coding that was not agreed.', ['A fault of the telephone network’s equipment.'], ['Compare `codecs` of the trunk with what the provider supports.', 'Send the call id to the provider.']],
  'stranger-us': ['They cannot hear you: your sound comes from an address that is not known.', ['The network between this browser and the gateway has changed.'], ['Hang up and call again.']],
  'stranger-them': ['You cannot hear them: sound comes from an address that is not theirs, and is refused.', ['The provider sends sound from other machines than it announced.'], ['Add the network of the provider’s media servers to `media_sources` of the trunk.']],
  'not-authentic-us': ['They cannot hear you: this browser’s sound is under another key than was agreed.', ['Something on the way changes the packets.'], ['Hang up and call again.']],
  'not-authentic-them': ['You cannot hear them: their sound is under another key than was agreed.', ['A fault of the telephone network’s SRTP.'], ['Compare `srtp` of the trunk with what the provider supports.', 'Send the call id to the provider.']],
  'silent-us': ['They hear nothing but silence: your microphone gives no sound.', ['It is muted by a switch of its own or in the system’s settings.', 'Another microphone is in use than the one you speak into.'], ['Look for a mute switch on the headset.', 'Choose the right microphone in the browser or in the system’s sound settings.']],
  'silent-them': ['You hear nothing but silence: their microphone gives no sound.', ['They are muted, or the line was opened without anybody there.'], ['Ask them in another way to look for a mute switch.']],
  'held-us': ['They cannot hear you: this browser neither sends nor takes sound.', ['The page has stopped the sound of this call.'], ['Reload the page and call again.']],
  'held-them': ['The other side holds the call.', ['They sent the call to hold, or their telephone answered it so.'], ['Wait until they take the call back.']],
  'no-audio': ['There is no sound in one direction.', [], ['Hang up and call again. If it stays, send the call id to the person who runs the gateway.']],
  // how good it is
  'high-loss': ['Sound is getting lost on the way.', ['The network is overloaded, or the wireless signal is weak.'], ['Move closer to the access point, or use a cable.', 'Stop downloads and video on the same line.']],
  'high-delay': ['Sound takes long to arrive: you may talk over each other.', ['The way to the gateway or to the other side is long or congested.'], ['Stop uploads and downloads on the same line.', 'Try without the VPN.']],
  // how calls end (`cause` of `ended`)
  'normal': ['The call has ended.', [], []],
  'answered-elsewhere': ['Answered elsewhere.', [], []],
  'transferred': ['The call was transferred.', [], []],
  'transfer-failed': ['The call could not be transferred.', ['The new party is busy, does not answer, or may not be called.'], ['The call goes on: tell them, or try another number.']],
  'cancelled': ['The call was given up before it was answered.', [], []],
  'max-duration': ['The longest duration allowed has been reached.', ['Your token or the dial plan limits the length of calls.'], ['Call again.']],
  'busy': ['The line is busy.', ['They are on another call.'], ['Try again later.']],
  'no-answer': ['Nobody answered.', [], ['Try again later.']],
  'declined': ['The call was declined.', [], []],
  'unwanted': ['They do not want calls like this one.', [], []],
  'blocked': ['The telephone network blocked the call.', ['Its analytics took the call for a nuisance. The person called did not decline.'], ['Ask your provider about the reputation of your number.']],
  'unavailable': ['They cannot be reached just now.', ['Their phone is off or not registered.'], ['Try again later.']],
  'unknown-number': ['This number does not exist.', ['It is mistyped, or no longer in use.'], ['Check the number, country code included.']],
  'number-changed': ['This number has changed.', [], ['Look up the new number.']],
  'invalid-number': ['This is not a number that can be called.', ['Digits are missing, or it is not written as the dial plan expects.'], ['Write it with + and the country code.']],
  'not-allowed': ['Calls to this number are not allowed.', ['The dial plan or your token excludes it.'], ['Ask the person who runs the gateway: `ringback route USER NUMBER` shows the rule.']],
  'caller-id-not-allowed': ['This caller id is not yours.', ['Neither the token nor the dial plan allows it.'], ['Call without choosing a caller id.']],
  'no-common-media': ['Both ends share no way of coding sound.', ['The telephone network offers no codec that the gateway has.'], ['Compare `codecs` of the trunk with what the provider supports.']],
  'media-lost': ['The sound path broke.', ['The network changed or failed.', 'A firewall blocks UDP between this browser and the gateway.'], ['Check the network and call again.', 'Allow UDP to the gateway’s media port, and set `advertise` under [media] to an address browsers can reach.']],
  'browser-gone': ['The connection to the gateway was lost.', ['The network changed or failed.'], ['Check the network and call again.']],
  'trunk-auth-failed': ['The telephone network did not accept the gateway’s credentials.', ['User or password of the trunk are wrong.'], ['Check `user` and `password` of the trunk in the gateway’s configuration.']],
  'trunk-unreachable': ['The telephone network cannot be reached.', ['The trunk is down, or its address is wrong.'], ['Try again in a minute.', 'Check the trunk’s `address` in the gateway’s configuration.']],
  'timeout': ['The telephone network did not respond in time.', ['The trunk is down, or packets to it are lost.'], ['Try again in a minute.']],
  'congestion': ['The telephone network has no free line.', [], ['Try again in a minute.']],
  'network-failure': ['The telephone network has a fault.', [], ['Try again in a minute.']],
  'refused-by-network': ['The telephone network refused the call.', ['It does not understand something in the call.'], ['Send the call id to the person who runs the gateway.']],
  'refused': ['The telephone network refused the call.', ['It asks for payment.'], ['Check the account with your provider.']],
  'loop': ['The call ran in a circle.', ['Two dial plans send it to each other.'], ['Send the call id to the person who runs the gateway.']],
  'too-many-calls': ['All lines are taken.', ['The gateway or your session has as many calls as it may carry.'], ['Hang up another call, or try again in a minute.']],
  'no-resources': ['The gateway has no free media ports.', ['`rtp_ports` under [media] is too small a range for the calls in progress.'], ['Try again in a minute.']],
  'shutdown': ['The gateway was stopped.', ['It is being restarted or updated.'], ['Call again in a minute.']],
  'gateway-fault': ['The gateway could not carry on with this call.', [], ['Send the call id to the person who runs the gateway.']],
  'failed': ['The call failed.', [], ['Try again. If it stays, send the call id to the person who runs the gateway.']],
};

function help(code) {
  const [text, causes, remedies] = HELP[code] ?? HELP.failed;
  return { text, causes: [...causes], remedies: [...remedies] };
}

export class PhoneError extends Error {
  constructor(code, { text, fatal = false, detail } = {}) {
    const known = help(code);
    super(text ?? known.text);
    this.name = 'PhoneError';
    this.code = code;
    this.text = this.message;
    this.causes = known.causes;
    this.remedies = known.remedies;
    this.fatal = fatal;
    if (detail !== undefined) this.cause = detail;
  }
}

// ---- small parts ------------------------------------------------------------------------------------------

class Emitter {
  #listeners = new Map();

  on(event, listener) {
    const set = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, set.add(listener));
    return () => void set.delete(listener);
  }

  _emit(event, ...values) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      // A page's mistake must not end a call.
      try { listener(...values); } catch (error) { reportError(error); }
    }
  }

  _heard(event) { return (this.#listeners.get(event)?.size ?? 0) > 0; }
}

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return Array.from(bytes, (b) => b.toString(36).padStart(2, '0')).join('');
}

const MICROPHONE_ERRORS = {
  NotFoundError: 'microphone-missing', OverconstrainedError: 'microphone-missing',
  NotReadableError: 'microphone-busy', AbortError: 'microphone-busy', SecurityError: 'microphone-denied',
};

async function openMicrophone(audio) {
  if (audio instanceof MediaStream) return audio;
  if (!navigator.mediaDevices?.getUserMedia) throw new PhoneError('insecure-page');
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: audio ?? true });
  } catch (error) {
    const dismissed = error.name === 'NotAllowedError' && /dismissed/i.test(error.message);
    const denied = error.name === 'NotAllowedError' ? 'microphone-denied' : 'microphone-failed';
    const code = dismissed ? 'microphone-dismissed' : MICROPHONE_ERRORS[error.name] ?? denied;
    throw new PhoneError(code, { detail: error });
  }
}

/** Whether the microphone will open without a question, so that the call need not wait for it. */
async function microphoneAllowed() {
  try {
    return (await navigator.permissions.query({ name: 'microphone' })).state === 'granted';
  } catch {
    return false; // the browser does not tell
  }
}

/** Loudness of a stream as RMS in dB relative to full scale, over the last 43 ms at 48 kHz. */
class Meter {
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

/** One direction of one leg as the protocol has it, in the client's words. */
function readLeg(leg) {
  if (!leg) return undefined;
  const { codec, loss_pct: lossPct, jitter_ms: jitterMs, rtt_ms: rttMs, concealed_pct: concealedPct, buffer_ms: bufferMs } = leg;
  return { codec, lossPct, jitterMs, rttMs, concealedPct, bufferMs, delayMs: leg.delay_ms, mos: leg.mos, levelDb: leg.level_db };
}

function readQuality({ grade, delay_ms: delayMs, down, up, trunk_down: trunkDown, trunk_up: trunkUp }) {
  return { grade, delayMs, down: readLeg(down), up: readLeg(up), trunkDown: readLeg(trunkDown), trunkUp: readLeg(trunkUp) };
}

/** Notices what stays bad for a while, and what has been well again for a while. */
class QualityWatch {
  #rule; #bad = 0; #well = 0; #on = false;

  constructor(rule) { this.#rule = rule; }

  get code() { return this.#rule.code; }

  /** Takes one second; a warning while it is due, else `null`. */
  look(quality) {
    const { code, limit, calm, raise, clear, read } = this.#rule;
    const value = read(quality);
    this.#bad = value > limit ? this.#bad + 1 : 0;
    this.#well = value <= calm ? this.#well + 1 : 0;
    this.#on = this.#on ? this.#well < clear : this.#bad >= raise;
    return this.#on ? { code, ...help(code), value, limit } : null;
  }
}

function preferCodecs(transceiver, names) {
  const known = RTCRtpReceiver.getCapabilities('audio').codecs;
  const named = (codec) => codec.mimeType.slice('audio/'.length).toLowerCase();
  const wanted = names.flatMap((name) => known.filter((codec) => named(codec) === name.toLowerCase()));
  transceiver.setCodecPreferences([...wanted, ...known.filter((codec) => named(codec) === 'telephone-event')]);
}

// ---- Phone ------------------------------------------------------------------------------------------------

export class Phone extends Emitter {
  #options; #socket = null; #state = 'offline'; #user = null;
  #calls = new Map(); #outbox = []; #started = false; #stopped = false;
  #retry = null; #attempts = 0; #pinger = null; #pingedAt = 0; #welcomed = false; #welcome = [];
  #certificate = null; #audioContext = null;
  #onPageHide = () => this.#leavePage();
  #onPageShow = (event) => { if (event.persisted && this.#started) this.#connect(); };
  #onOnline = () => this.#retryNow();
  #onBeforeUnload = (event) => { if (this.#calls.size > 0) event.preventDefault(); };

  /** `true`, or why this browser cannot make calls. */
  static get supported() {
    if (typeof RTCPeerConnection !== 'function' || typeof WebSocket !== 'function') return HELP.unsupported[0];
    return navigator.mediaDevices?.getUserMedia ? true : HELP['insecure-page'][0];
  }

  constructor(options) {
    super();
    if (!options?.url) throw new TypeError('Phone needs the url of the gateway, such as wss://gw.example/phone');
    this.#options = { whileBusy: 'offer', ...options };
    addEventListener('pagehide', this.#onPageHide);
    addEventListener('pageshow', this.#onPageShow);
    addEventListener('online', this.#onOnline);
    if (options.guardPage) addEventListener('beforeunload', this.#onBeforeUnload);
  }

  get state() { return this.#state; }
  get user() { return this.#user; }
  get calls() { return [...this.#calls.values()]; }

  /** Connects and stays connected, so that incoming calls ring. Resolves when the gateway has let us in. */
  start() {
    if (this.#stopped) return Promise.reject(new PhoneError('connection-lost', { text: STOPPED }));
    this.#started = true;
    this.#connect();
    if (this.#welcomed) return Promise.resolve();
    return new Promise((resolve, reject) => this.#welcome.push({ resolve, reject }));
  }

  /** Makes the certificate and opens the connection before the click, which saves their time at the call. */
  async warmUp() {
    this.#connect();
    this.#certificate ??= await RTCPeerConnection.generateCertificate({ name: 'ECDSA', namedCurve: 'P-256' });
  }

  /** Calls a number. Resolves when the offer is on its way; rejects with a PhoneError where it could not be. */
  async call(to, options = {}) {
    const supported = Phone.supported;
    if (supported !== true) throw new PhoneError(navigator.mediaDevices ? 'unsupported' : 'insecure-page', { text: supported });
    if (this.#stopped) throw new PhoneError('connection-lost', { text: STOPPED });
    const call = new Call(this, { key: randomId(), direction: 'out', remote: { number: to } });
    this.#connect();
    await call._dial(to, options);
    return call;
  }

  /** Ends all calls and the connection, for good. */
  async stop() {
    this.#stopped = true;
    this.#started = false;
    clearTimeout(this.#retry);
    for (const call of this.calls) call.hangup();
    for (const waiting of this.#welcome.splice(0)) waiting.reject(new PhoneError('connection-lost', { text: STOPPED }));
    removeEventListener('pagehide', this.#onPageHide);
    removeEventListener('pageshow', this.#onPageShow);
    removeEventListener('online', this.#onOnline);
    removeEventListener('beforeunload', this.#onBeforeUnload);
    this.#drop(1000);
    await this.#audioContext?.close();
    this.#audioContext = null;
    this.#setState('closed');
  }

  // -- the parts a Call uses

  get _options() { return this.#options; }

  _peerConnection() {
    const certificates = this.#certificate && this.#certificate.expires > Date.now() ? [this.#certificate] : undefined;
    return new RTCPeerConnection({ iceServers: this.#options.iceServers ?? [], bundlePolicy: 'max-bundle', certificates });
  }

  /** One context for all meters: browsers allow few, and the first one is slow to make. */
  _context() {
    this.#audioContext ??= new AudioContext({ latencyHint: 'interactive' });
    if (this.#audioContext.state === 'suspended') this.#audioContext.resume().catch(() => {});
    return this.#audioContext;
  }

  _add(call) { this.#calls.set(call._key, call); }
  _remove(call) { this.#calls.delete(call._key); }

  _send(message) {
    const text = JSON.stringify(message);
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(text);
    else this.#outbox.push({ call: message.call, text });
  }

  _log(level, text, call) {
    const { log = 'error' } = this.#options;
    if (typeof log === 'function') return void log({ t: Date.now(), level, call, text });
    const levels = ['silent', 'error', 'warn', 'info', 'debug'];
    if (levels.indexOf(level) <= levels.indexOf(log)) console[level](`ringback: ${text}`);
  }

  // -- the connection

  async #connect() {
    if (this.#socket || this.#stopped) return;
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#setState(this.#attempts > 0 ? 'reconnecting' : 'connecting');
    // Set before the token is asked for, so that two calls at once open one connection.
    const attempt = { readyState: WebSocket.CONNECTING, close() { this.closed = true; } };
    this.#socket = attempt;
    let hello;
    try {
      hello = await this.#hello();
    } catch (error) {
      if (attempt.closed) return;
      this.#socket = null;
      return this.#lost(new PhoneError('token-unavailable', { detail: error }));
    }
    if (attempt.closed) return;
    this.#open(hello);
  }

  async #hello() {
    const { token, user } = this.#options;
    const hello = { type: 'hello' };
    if (token) hello.token = typeof token === 'function' ? await token() : token;
    else if (user) hello.user = user;
    return hello;
  }

  #open(hello) {
    const socket = new WebSocket(this.#options.url, SUBPROTOCOL);
    let opened = false;
    this.#socket = socket;
    socket.onopen = () => {
      opened = true;
      // The call follows the hello at once: one round trip, not two.
      socket.send(JSON.stringify(hello));
      for (const { text } of this.#outbox.splice(0)) socket.send(text);
      this.#pingedAt = 0;
      this.#pinger = setInterval(() => this.#ping(), PING_EVERY_MS);
    };
    socket.onmessage = (event) => { this.#pingedAt = 0; this.#receive(event.data); };
    socket.onclose = (event) => {
      if (this.#socket !== socket) return;
      this.#drop();
      this.#lost(new PhoneError(opened ? 'connection-lost' : 'unreachable', { detail: event }));
    };
  }

  #ping() {
    if (this.#pingedAt && Date.now() - this.#pingedAt > PONG_WITHIN_MS) {
      this.#drop(4000);
      return this.#lost(new PhoneError('connection-lost'));
    }
    this.#pingedAt ||= Date.now();
    this._send({ type: 'ping' });
  }

  #drop(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#welcomed = false;
    this.#outbox = [];
    clearInterval(this.#pinger);
    if (!socket) return;
    socket.onclose = socket.onmessage = null;
    socket.close(code);
  }

  /** The connection is gone: so are its calls, as the gateway ends them too. */
  #lost(error) {
    this._log('warn', error.text);
    const by = error.code === 'unreachable' || error.code === 'connection-lost' ? 'network' : 'gateway';
    for (const call of this.calls) call._end({ by, cause: error.code, text: error.text });
    for (const waiting of this.#welcome.splice(0)) waiting.reject(error);
    this._emit('error', error);
    if (!this.#started || error.fatal) return this.#setState('offline');
    this.#setState('reconnecting');
    const longest = Math.min(RECONNECT_LONGEST_MS, RECONNECT_FIRST_MS * 2 ** this.#attempts++);
    // Spread, so that a restarted gateway is not met by all its pages at one instant.
    this.#retry = setTimeout(() => this.#connect(), longest * (0.5 + Math.random() / 2));
  }

  #retryNow() {
    if (this.#retry) this.#connect();
  }

  /** A page that goes says so: the phone at the far end should not wait for a timeout. */
  #leavePage() {
    for (const call of this.calls) call.hangup();
    if (this.#socket) this.#drop(1000);
    if (!this.#stopped) this.#setState('offline');
  }

  #setState(state) {
    if (this.#state === state) return;
    this.#state = state;
    this._emit('state', state);
  }

  // -- messages

  #receive(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this._log('warn', 'a message that is not JSON was ignored');
    }
    switch (message.type) {
      case 'welcome': return this.#onWelcome(message);
      case 'incoming': return this.#onIncoming(message);
      case 'error': return this.#onError(message);
      case 'draining': return this._emit('error', new PhoneError('draining'));
      case 'pong': return;
      default: return this.#calls.get(message.call)?._receive(message);
    }
  }

  #onWelcome({ user }) {
    this.#user = user;
    this.#welcomed = true;
    this.#attempts = 0;
    this.#setState('ready');
    for (const waiting of this.#welcome.splice(0)) waiting.resolve();
  }

  #onIncoming({ call: key, id, from, name, to, sdp }) {
    const busy = this.#calls.size > 0;
    const call = new Call(this, { key, direction: 'in', id, sdp, to, remote: { number: from, name } });
    if (busy && this.#options.whileBusy === 'reject') return call.reject(486);
    this._emit('incoming', call);
  }

  #onError({ code, text, call: key }) {
    const call = key === undefined ? undefined : this.#calls.get(key);
    // Ours crossed the call's end on the way: both sides know that it is over.
    if (code === 'unknown-call' && !call) return this._log('debug', text, key);
    const error = new PhoneError(code, { text: HELP[code]?.[0] ?? text, detail: text });
    this._log('error', `${code}: ${text}`, call?.id);
    if (call) return call._refused(error);
    if (this.#welcomed) return this._emit('error', error);
    // Not let in: trying again with the same token would be refused again, a new one may be taken.
    error.fatal = typeof this.#options.token !== 'function';
    this.#drop(1000);
    this.#lost(error);
  }
}

// ---- Call -------------------------------------------------------------------------------------------------

export class Call extends Emitter {
  #phone; #state = 'new'; #pc = null; #microphone = null; #ownMicrophone = true; #element = null;
  #meters = null; #levelTimer = null; #sdp; #clicked = performance.now();
  #muted = false; #held = false; #heldByThem = false; #holding = []; #transfer = null; #digitQueue = Promise.resolve();
  #quality = null; #heardBefore = null; #missing = new Map(); #warnings = new Map(); #unmuted = 0;
  #watches = QUALITY_WARNINGS.map((rule) => new QualityWatch(rule));
  #ended = null; #giveUp; #over = new Promise((_, reject) => { this.#giveUp = reject; });

  constructor(phone, { key, direction, id, sdp, to, remote }) {
    super();
    this.#phone = phone;
    this.#sdp = sdp;
    this._key = key;
    /** The gateway's id of the call, in its log, CDR and metrics; empty until the gateway has taken the call. */
    this.id = id ?? '';
    this.direction = direction;
    this.to = to ?? remote.number;
    this.remote = Object.freeze({ ...remote });
    this.remoteStream = new MediaStream();
    /** Milliseconds from the click: microphone, offer, answer, ringing, early, answered, ice, connected, sound. */
    this.timings = {};
    this.startedAt = Date.now();
    this.answeredAt = undefined;
    if (direction === 'in') this.#state = 'ringing';
    this.#over.catch(() => {}); // waited for only beside the microphone
    phone._add(this);
  }

  get state() { return this.#state; }
  get muted() { return this.#muted; }
  get held() { return this.#held; }
  get heldByThem() { return this.#heldByThem; }
  get ended() { return this.#ended; }
  /** How the call sounded in the last second; `null` before the first. */
  get quality() { return this.#quality; }
  /** What is wrong with the sound at present. */
  get warnings() { return [...this.#warnings.values()]; }
  /** The connection underneath, for statistics; do not negotiate on it. */
  get peerConnection() { return this.#pc; }

  // -- going out

  async _dial(to, options) {
    options.signal?.addEventListener('abort', () => this.hangup(), { once: true });
    this.#setState('connecting');
    try {
      const microphone = this.#openMicrophone(options.audio);
      // Nobody's phone rings for a caller who may not be allowed to speak; but a microphone that is
      // sure to open opens while the call is under way.
      if (!(await microphoneAllowed())) await Promise.race([microphone, this.#over]);
      this.#alive(options.signal);
      const transceiver = this.#makeConnection().addTransceiver('audio', { direction: 'sendrecv' });
      if (this.#phone._options.codecs) preferCodecs(transceiver, this.#phone._options.codecs);
      await this.#pc.setLocalDescription();
      this.#alive(options.signal);
      // At once: an ICE-lite gateway learns our addresses from our checks, so there is nothing to gather.
      const message = { type: 'call', call: this._key, to, sdp: this.#pc.localDescription.sdp };
      if (options.from) message.from = options.from;
      this.#phone._send(message);
      this.#mark('offer');
      this.#listen(transceiver);
      microphone.then((stream) => this.#speak(transceiver, stream)).catch((error) => this.#fail(error));
    } catch (error) {
      const problem = error instanceof PhoneError ? error : new PhoneError('failed', { detail: error });
      this.#fail(problem);
      throw problem;
    }
  }

  #alive(signal) {
    if (this.#ended) throw new PhoneError(this.#ended.cause, { text: this.#ended.text });
    signal?.throwIfAborted();
  }

  // -- coming in

  /** Answers an incoming call. */
  async accept(options = {}) {
    if (this.direction !== 'in' || this.#state !== 'ringing') return;
    this.#clicked = performance.now();
    this.#setState('connecting');
    try {
      const microphone = this.#openMicrophone(options.audio);
      const pc = this.#makeConnection();
      await pc.setRemoteDescription({ type: 'offer', sdp: this.#sdp });
      const [transceiver] = pc.getTransceivers();
      transceiver.direction = 'sendrecv';
      if (this.#phone._options.codecs) preferCodecs(transceiver, this.#phone._options.codecs);
      const stream = await Promise.race([microphone, this.#over]);
      await this.#speak(transceiver, stream);
      await pc.setLocalDescription();
      this.#alive();
      this.#phone._send({ type: 'accept', call: this._key, sdp: pc.localDescription.sdp });
      this.#mark('offer');
      this.#listen(transceiver);
    } catch (error) {
      if (this.#ended) return;
      const problem = error instanceof PhoneError ? error : new PhoneError('failed', { detail: error });
      this.#fail(problem);
      throw problem;
    }
  }

  /** Refuses an incoming call: 486 busy, 603 declined, 480 not available. */
  reject(code = 603) {
    if (this.direction !== 'in' || this.#state !== 'ringing') return;
    this.#phone._send({ type: 'reject', call: this._key, code });
    this._end({ by: 'us', cause: 'declined', sip: code });
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
    this.#applyMute();
    this.#unmuted = Date.now();
    this._emit('mute', on);
    this.#judgeSoon();
  }

  /** Puts the other side on hold, or takes it back. Resolves when the phone network has agreed. */
  hold(on = true) {
    if (this.#state !== 'active') return Promise.reject(new PhoneError('failed', { text: 'Only an answered call can be held.' }));
    this.#phone._send({ type: 'hold', call: this._key, on });
    return new Promise((resolve, reject) => this.#holding.push({ resolve, reject }));
  }

  /**
   * Connects the other side with a number, or with the other side of another answered call of this phone, and leaves.
   * Resolves when they are connected; rejects where it came to nothing, and then this call goes on.
   */
  transfer(to) {
    if (this.#state !== 'active') return Promise.reject(new PhoneError('failed', { text: 'Only an answered call can be transferred.' }));
    if (this.#transfer) return Promise.reject(new PhoneError('failed', { text: 'A transfer of this call is under way.' }));
    const whom = to instanceof Call ? { with: to._key } : { to: String(to) };
    this.#phone._send({ type: 'transfer', call: this._key, ...whom });
    return new Promise((resolve, reject) => { this.#transfer = { resolve, reject }; });
  }

  /** Sends digits 0-9 * # A-D in an answered call; `w` waits half a second. Resolves when all are on their way. */
  digits(digits, { ms = DIGIT_MS.usual } = {}) {
    if (!/^[0-9*#A-Dw]+$/i.test(digits)) return Promise.reject(new TypeError('digits are 0-9, *, #, A-D and w'));
    if (this.#state !== 'active') return Promise.reject(new PhoneError('failed', { text: 'Digits can be sent only in an answered call.' }));
    const length = Math.min(DIGIT_MS.most, Math.max(DIGIT_MS.least, Math.round(ms)));
    const parts = digits.toUpperCase().match(DIGIT_PARTS);
    this.#digitQueue = this.#digitQueue.then(() => this.#sendDigits(parts, length));
    return this.#digitQueue;
  }

  async #sendDigits(parts, ms) {
    for (const part of parts) {
      if (this.#ended) return;
      if (part.startsWith('W')) await new Promise((resolve) => setTimeout(resolve, part.length * PAUSE_MS));
      else this.#phone._send({ type: 'digits', call: this._key, digits: part, ms });
    }
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
      case 'no-audio': return this.#onNoAudio(message);
      case 'audio': return this.#onAudio(message);
      case 'ended': return this._end(message);
      default: return this.#phone._log('debug', `unknown message ${message.type}`, this.id);
    }
  }

  async #onAnswer({ id, sdp }) {
    this.id = id;
    this.#mark('answer');
    this._emit('id', id);
    try {
      await this.#pc.setRemoteDescription({ type: 'answer', sdp });
    } catch (error) {
      if (!this.#ended) this.#fail(new PhoneError('media-failed', { detail: error }));
    }
  }

  #onRinging(state, earlyMedia) {
    if (this.#state === 'active') return;
    this.#mark(state);
    this.#setState(state);
    this._emit('ringing', earlyMedia);
  }

  #onAnswered() {
    if (this.#ended || this.#state === 'active') return;
    this.#mark('answered');
    this.answeredAt = Date.now();
    this.#setState('active');
    this._emit('accept');
  }

  #onHeld({ by, on }) {
    if (by === 'us') {
      this.#held = on;
      this.#applyMute();
      this.#unmuted = Date.now();
      this.#judgeSoon();
      for (const waiting of this.#holding.splice(0)) waiting.resolve();
    } else {
      this.#heldByThem = on;
    }
    this._emit('hold', by, on);
  }

  #onTransfer({ state, text }) {
    this._emit('transfer', state);
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

  // -- how it sounds

  async #onQuality(message) {
    const quality = readQuality(message);
    if (quality.down) Object.assign(quality.down, await this.#ownHearing());
    if (this.#ended) return;
    this.#quality = Object.freeze(quality);
    this._emit('quality', this.#quality);
    for (const watch of this.#watches) this.#setWarning(watch.code, watch.look(quality));
  }

  /** What only the browser knows of the sound it plays. */
  async #ownHearing() {
    const stats = await this.#pc?.getStats?.().catch(() => null);
    const stream = [...(stats?.values() ?? [])].find(({ type, kind }) => type === 'inbound-rtp' && kind === 'audio');
    if (!stream?.totalSamplesReceived) return {};
    const { totalSamplesReceived: all, concealedSamples = 0, silentConcealedSamples: silent = 0, jitterBufferDelay, jitterBufferEmittedCount } = stream;
    const now = { all, concealed: concealedSamples - silent, delay: jitterBufferDelay ?? 0, emitted: jitterBufferEmittedCount ?? 0 };
    const before = this.#heardBefore ?? { all: 0, concealed: 0, delay: 0, emitted: 0 };
    this.#heardBefore = now;
    const part = (value, whole) => (whole > 0 ? value / whole : 0);
    return {
      concealedPct: Math.round(1000 * Math.max(0, part(now.concealed - before.concealed, now.all - before.all))) / 10,
      bufferMs: Math.round(1000 * part(now.delay - before.delay, now.emitted - before.emitted)),
    };
  }

  #onNoAudio({ way, at, cause, text }) {
    this.#phone._log('warn', `no sound ${way}: ${cause} (${at})`, this.id);
    this.#missing.set(way, { way, at, cause, text });
    this.#judge();
  }

  #onAudio({ way }) {
    this.#missing.delete(way);
    this.#judge();
  }

  /** Who mutes himself knows why he is not heard, and is given a moment to be heard afterwards. */
  #isExpected({ way, cause }) {
    if (way !== 'up' || cause !== 'silent') return false;
    return this.#muted || this.#held || Date.now() - this.#unmuted < UNMUTED_MS;
  }

  #judgeSoon() {
    this.#judge();
    setTimeout(() => this.#judge(), UNMUTED_MS);
  }

  #judge() {
    if (this.#ended) return;
    for (const way of ['down', 'up']) {
      const missing = this.#missing.get(way);
      const present = missing && !this.#isExpected(missing) ? missing : null;
      const code = present && `${way}-${present.cause}`;
      for (const known of [...this.#warnings.keys()]) {
        if (known.startsWith(`${way}-`) && known !== code) this.#setWarning(known, null);
      }
      if (present) this.#setWarning(code, this.#noAudioWarning(code, present));
    }
  }

  #noAudioWarning(code, { way, at, cause, text }) {
    const known = HELP[`${cause}-${at}`];
    return { code, ...help(known ? `${cause}-${at}` : 'no-audio'), ...(known ? {} : { text }), way, cause };
  }

  #setWarning(code, warning) {
    const before = this.#warnings.get(code);
    if (!warning) {
      if (this.#warnings.delete(code)) this._emit('cleared', code);
      return;
    }
    this.#warnings.set(code, Object.freeze(warning));
    if (!before) this._emit('warning', warning);
  }

  /** An error of the gateway about this call: no call ends by it, except one whose `call` or `accept` was refused. */
  _refused(error) {
    if (this.#holding.length === 0) this.#transferred(error);
    for (const waiting of this.#holding.splice(0)) waiting.reject(error);
    const calling = this.direction === 'out' && this.timings.answer === undefined;
    const accepting = this.direction === 'in' && this.#state === 'connecting';
    if (error.code === 'wrong-state' || !(calling || accepting)) return this.#phone._emit('error', error);
    if (calling) return this._end({ by: 'gateway', cause: error.code, text: error.text });
    this.#fail(error, false); // it still rings there
  }

  /** Something of ours failed: the call ends, and its end says why. `taken`: the gateway has our `call` or `accept`. */
  #fail(error, taken = this.timings.offer !== undefined) {
    if (this.#ended) return;
    if (taken) this.#phone._send({ type: 'hangup', call: this._key });
    else if (this.direction === 'in') this.#phone._send({ type: 'reject', call: this._key, code: 480 });
    this.#phone._log('error', error.text, this.id);
    this._end({ by: 'us', cause: error.code ?? 'failed', text: error.text });
  }

  _end({ by, cause, sip, q850, text }) {
    if (this.#ended) return;
    const known = help(cause);
    this.#ended = Object.freeze({
      by, cause, sip, q850, text: text || known.text, causes: known.causes, remedies: known.remedies,
      durationMs: this.answeredAt ? Date.now() - this.answeredAt : 0, quality: this.#quality ?? undefined,
    });
    this.#giveUp(new PhoneError('normal'));
    this.#release();
    this.#phone._remove(this);
    this.#setState('ended');
    for (const waiting of this.#holding.splice(0)) waiting.reject(new PhoneError('normal'));
    this.#transferred(cause === 'transferred' ? undefined : new PhoneError(cause));
    this._emit('end', this.#ended);
  }

  // -- sound

  #makeConnection() {
    const pc = this.#phone._peerConnection();
    this.#pc = pc;
    pc.oniceconnectionstatechange = () => { if (pc.iceConnectionState === 'connected') this.#mark('ice'); };
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === 'connected') this.#onConnected();
      if (pc.connectionState === 'failed') this.#fail(new PhoneError('media-failed'));
    };
    return pc;
  }

  #onConnected() {
    this.#mark('connected');
    // An accepted call is up when its sound path is: the gateway need not tell us what we know.
    if (this.direction === 'in') this.#onAnswered();
  }

  #openMicrophone(audio) {
    const opening = this.#takeMicrophone(audio ?? this.#phone._options.audio);
    opening.catch(() => {}); // its failure is seen where it is awaited
    return opening;
  }

  async #takeMicrophone(wanted) {
    const stream = await openMicrophone(wanted);
    const own = !(wanted instanceof MediaStream);
    if (this.#ended) {
      if (own) for (const track of stream.getTracks()) track.stop();
      throw new PhoneError('normal');
    }
    this.#mark('microphone');
    this.#microphone = stream;
    this.#ownMicrophone = own;
    const [track] = stream.getAudioTracks();
    track.addEventListener('ended', () => this.#fail(new PhoneError('microphone-unplugged')), { once: true });
    return stream;
  }

  async #speak(transceiver, stream) {
    this.#applyMute();
    await transceiver.sender.replaceTrack(stream.getAudioTracks()[0]);
    if (!this.#ended) this.#measure('out', stream);
  }

  /** Plays the far end and watches for its first sound. */
  #listen(transceiver) {
    this.remoteStream.addTrack(transceiver.receiver.track);
    this.#element = new Audio();
    this.#element.srcObject = this.remoteStream;
    this.#element.play().catch((error) => {
      if (error.name === 'NotAllowedError') this.#phone._emit('error', new PhoneError('sound-blocked'));
    });
    this.#measure('in', this.remoteStream);
    this.#awaitSound();
    this.#levelTimer = setInterval(() => this.#emitLevels(), LEVEL_EVERY_MS);
  }

  #measure(side, stream) {
    this.#meters ??= { in: null, out: null };
    this.#meters[side] = new Meter(this.#phone._context(), stream);
  }

  #emitLevels() {
    if (!this._heard('level')) return;
    const { in: heard, out: said } = this.#meters;
    const silenced = this.#muted || this.#held || !said;
    this._emit('level', heard.read(), silenced ? SILENCE_DB : said.read());
  }

  #awaitSound() {
    if (this.#ended || this.timings.sound !== undefined) return;
    if (this.#meters.in.read() > SOUND_DB) return this.#mark('sound');
    // Closely at first, when a few milliseconds are what is measured.
    const early = performance.now() - this.#clicked < 3000;
    setTimeout(() => this.#awaitSound(), early ? 5 : 50);
  }

  #applyMute() {
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = !(this.#muted || this.#held);
  }

  #release() {
    clearInterval(this.#levelTimer);
    this.#meters?.in?.close();
    this.#meters?.out?.close();
    if (this.#element) this.#element.srcObject = null;
    if (this.#pc) this.#pc.oniceconnectionstatechange = this.#pc.onconnectionstatechange = null;
    this.#pc?.close();
    if (this.#ownMicrophone) for (const track of this.#microphone?.getTracks() ?? []) track.stop();
  }

  #mark(name) {
    this.timings[name] ??= Math.round((performance.now() - this.#clicked) * 10) / 10;
  }

  #setState(state) {
    if (this.#state === state) return;
    this.#state = state;
    this._emit('state', state);
  }
}
