// Types of ringback.js. The guide is docs/browser-client.md.

export interface PhoneOptions {
  /** The gateway's WebSocket, such as `wss://gw.example/phone`. */
  url: string;
  /**
   * A signed session token, or a function that gets one. A function is asked again before the token runs out and at every
   * reconnect; a string ends with its `exp`, unless `renew` brings another.
   */
  token?: string | (() => string | Promise<string>);
  /** Names the user where the gateway asks for no token (the embedded default). */
  user?: string;
  /** Normally none: the gateway is reachable and ICE-lite, and tells of its TURN servers itself. */
  iceServers?: RTCIceServer[];
  /** `relay` forces all sound over TURN. Default: `all`. */
  iceTransportPolicy?: RTCIceTransportPolicy;
  /** The codecs to offer. Default: all of the browser’s. The gateway takes the first of Opus, PCMU, PCMA and G722. */
  codecs?: Codec[];
  /** Microphone constraints of every call. Default: `true`. */
  audio?: boolean | MediaTrackConstraints;
  /**
   * What the phone itself plays: an address of a sound file, or `null` for nothing. Absent: its own ring, key tones, busy
   * tone and a short sound at the end; no `ringback`, as the gateway sends the network's.
   */
  sounds?: Partial<Record<SoundName, string | null>>;
  /** A second incoming call: `reject` answers busy (486), `offer` emits `incoming` as always. Default: `offer`. */
  whileBusy?: 'reject' | 'offer';
  /** Asks before the page is left while a call is up. Default: `false`. */
  guardPage?: boolean;
  /** Calls survive a reload of the page, and come back by `resumed`. Default: `false`, a page that goes ends its calls. */
  keepCalls?: boolean;
  /** Default: `error`. */
  log?: 'silent' | 'error' | 'warn' | 'info' | 'debug' | ((line: LogLine) => void);
}

export type Codec = 'opus' | 'PCMU' | 'PCMA' | 'G722';
export type SoundName = 'ring' | 'ringback' | 'busy' | 'end' | 'dtmf';

export interface LogLine {
  /** Unix time in milliseconds. */
  t: number;
  level: 'error' | 'warn' | 'info' | 'debug';
  call?: string;
  text: string;
}

export type PhoneState = 'offline' | 'connecting' | 'ready' | 'reconnecting' | 'closed';

export interface PhoneEvents {
  state(state: PhoneState): void;
  incoming(call: Call): void;
  /** A call that stood before the page was loaded anew (`keepCalls`); its sound comes back by itself. */
  resumed(call: Call): void;
  /** The token ends soon. One from a function is renewed without the page's doing; for another there is `renew`. */
  tokenexpiring(msLeft: number): void;
  /** Microphones or loudspeakers came or went, or their names became known. */
  devices(list: { inputs: MediaDeviceInfo[]; outputs: MediaDeviceInfo[] }): void;
  error(error: PhoneError): void;
}

export class Phone {
  /** `true`, or why this browser or page cannot make calls. */
  static readonly supported: true | string;
  /** Tries everything that a call needs, without calling anybody: about five seconds. */
  static preflight(options: PreflightOptions): Promise<PreflightReport>;
  constructor(options: PhoneOptions);
  readonly state: PhoneState;
  /** The name the gateway knows us by; `null` until it has let us in. */
  readonly user: string | null;
  /** The calls that have not ended. */
  readonly calls: ReadonlyArray<Call>;
  readonly audio: Audio;
  /** Connects and stays connected, so that incoming calls ring. Resolves when the gateway has let us in. */
  start(): Promise<void>;
  /**
   * Before the click: connects, makes the certificate, and opens the microphone where that needs no question (it is let go
   * again if no call follows within fifteen seconds). Optional; it makes the next call quicker.
   */
  warmUp(options?: { microphone?: boolean }): Promise<void>;
  /** Calls a number; connects first where need be. Resolves when the offer has been sent, rejects with a `PhoneError`. */
  call(to: string, options?: CallOptions): Promise<Call>;
  /** What would become of a number, without calling it. */
  check(to: string, options?: { from?: string }): Promise<Check>;
  /** Brings a fresh token into the running session; without one, the function in the options is asked. */
  renew(token?: string): Promise<void>;
  /** Ends all calls and the connection, for good. */
  stop(): Promise<void>;
  /** Returns a function that takes the listener off again. */
  on<K extends keyof PhoneEvents>(event: K, listener: PhoneEvents[K]): () => void;
}

/** Where a call to a number would go, or why not. */
export interface Check {
  /** As it was asked. */
  readonly to: string;
  readonly allowed: boolean;
  /** The number that would be dialled, in international form where it is one. */
  readonly number?: string;
  /** What kind of number it is, as the dial plan knows it. */
  readonly kind?: string;
  /** The cause that the call would end with. */
  readonly cause?: string;
  /** For people. */
  readonly text: string;
}

export interface CallOptions extends AcceptOptions {
  /** The caller's number to show, where the token allows it. */
  from?: string;
  /** Up to eight values for the other side, where its trunk takes them: names of `a-z 0-9 -`. */
  params?: Record<string, string>;
  /** Aborting hangs up, whatever the state. */
  signal?: AbortSignal;
}

export interface AcceptOptions {
  /** Constraints for the microphone, or a stream of the page's own (which is not stopped at the end). */
  audio?: boolean | MediaTrackConstraints | MediaStream;
}

/**
 * Outgoing: new, connecting, ringing or early (or both), active, ended. Incoming: ringing, connecting, active, ended.
 * `reconnecting` while the way to the gateway is lost and sought again; then what it was before.
 */
export type CallState = 'new' | 'connecting' | 'ringing' | 'early' | 'active' | 'reconnecting' | 'ended';

export interface CallEvents {
  state(state: CallState): void;
  /** The gateway has taken the call and this is its id. */
  id(id: string): void;
  /** The far phone rings; with early media its network is heard already. */
  ringing(earlyMedia: boolean): void;
  /** Answered. */
  accept(): void;
  hold(who: 'us' | 'them', on: boolean): void;
  /** How our own transfer gets on; `sip` is the status it failed with. */
  transfer(state: 'asked' | 'ringing' | 'done' | 'failed', sip?: number): void;
  /** The other side has connected us with somebody else: `remote` is who is there now. */
  transferred(remote: Remote): void;
  mute(on: boolean): void;
  /** The far end pressed a key. */
  digit(digit: string): void;
  /** Loudness in dB below full scale (0 loudest, -100 silence), 20 times a second. */
  level(inDb: number, outDb: number): void;
  /** Once a second of an answered call: how it sounds, on both legs. */
  quality(quality: Quality): void;
  /** Something is wrong with the sound, and what may help; it holds until `cleared`. */
  warning(warning: Warning): void;
  cleared(code: string): void;
  /** The last event of every call. */
  end(ended: Ended): void;
}

export interface Remote {
  readonly number: string;
  readonly name?: string;
  /** How the network vouches for the number (STIR/SHAKEN attestation), from trunks that are trusted with it. */
  readonly verified?: 'A' | 'B' | 'C';
}

export class Call {
  /** The same in the gateway's log, call records and metrics; empty until the gateway has taken the call. */
  readonly id: string;
  readonly direction: 'in' | 'out';
  readonly state: CallState;
  /** Who is there; changes with `transferred`. */
  readonly remote: Remote;
  /** The number that was dialled. */
  readonly to: string;
  /** What the caller sent along: ours, or theirs. */
  readonly params: Readonly<Record<string, string>>;
  /** Unix times in milliseconds. */
  readonly startedAt: number;
  readonly answeredAt?: number;
  /** Milliseconds from the click, each at its first time. */
  readonly timings: Readonly<Partial<Record<Timing, number>>>;
  readonly muted: boolean;
  readonly held: boolean;
  readonly heldByThem: boolean;
  /** How the call sounded in the last second; `null` before the first. */
  readonly quality: Quality | null;
  /** What is wrong with the sound at present. */
  readonly warnings: Warning[];
  /** How it ended; `null` before. */
  readonly ended: Ended | null;
  /** The far end; the same stream for the call's whole life. */
  readonly remoteStream: MediaStream;
  /** For statistics; do not negotiate on it. Another one after a reload. */
  readonly peerConnection: RTCPeerConnection | null;
  accept(options?: AcceptOptions): Promise<void>;
  /** 486 busy, 603 declined (default), 480 not available. */
  reject(code?: 486 | 603 | 480): void;
  /** An incoming call is left to ring for others: here it ends at once, with the cause `ignored`. */
  ignore(): void;
  hangup(): void;
  mute(on?: boolean): void;
  /** Resolves when the gateway has done it. */
  hold(on?: boolean): Promise<void>;
  /**
   * Connects the other side with a number, or with the other side of another answered call, and leaves (the call ends
   * with the cause `transferred`). Rejects where it came to nothing: the call goes on.
   */
  transfer(to: string | Call): Promise<void>;
  /**
   * 0-9, *, #, A-D, and w for half a second of pause, in an answered call. Each lasts `ms` (40 to 1000, default 100);
   * `gap` is the silence after it (default: the gateway’s own, 80). Resolves when the last has been played;
   * rejects where the call or its connection ends before.
   */
  digits(digits: string, options?: { ms?: number; gap?: number }): Promise<void>;
  /** How it sounded in the last second. Rejects where nothing is known of it yet. */
  stats(): Promise<Quality>;
  /** What the user thought of the call; also after its end. The gateway logs it under the call's id. */
  feedback(score: 1 | 2 | 3 | 4 | 5, issue?: 'one-way' | 'choppy' | 'delay' | 'echo' | 'noise' | 'dropped'): void;
  on<K extends keyof CallEvents>(event: K, listener: CallEvents[K]): () => void;
}

/** One direction of one leg, over about the last second. */
export interface Leg {
  codec: string;
  lossPct: number;
  jitterMs: number;
  /** The round trip on this leg. */
  rttMs?: number;
  /** Sound that its receiver had to invent. */
  concealedPct?: number;
  /** Sound that waits in its receiver's buffer. */
  bufferMs?: number;
  /** One way, estimated. */
  delayMs: number;
  /** 1 to 5, by the E-model (ITU-T G.107). */
  mos: number;
  /** Loudness in dB below full scale, of what the gateway receives. */
  levelDb?: number;
}

export interface Quality {
  /** Of the worse direction from mouth to ear; `lost`: one has no sound, and a warning says why. */
  readonly grade: 'excellent' | 'good' | 'fair' | 'poor' | 'lost';
  /** From the gateway to this browser, and back; absent while nothing is known of it. */
  readonly down?: Leg;
  readonly up?: Leg;
  /** From the other side to the gateway, and back. */
  readonly trunkDown?: Leg;
  readonly trunkUp?: Leg;
  /** From mouth to ear, the longer of both directions, estimated. */
  readonly delayMs?: number;
}

/** What is wrong, why that may be, and what helps: in words fit to be shown. */
export interface Warning {
  /** A stable word: see docs/browser-client.md. */
  readonly code: string;
  readonly text: string;
  readonly causes: string[];
  readonly remedies: string[];
  /** Of a direction without sound: which one, and the gateway's word for why. */
  readonly way?: 'down' | 'up';
  readonly cause?: string;
  /** Of what is measured: the value, in percent or milliseconds, and what it should not exceed. */
  readonly value?: number;
  readonly limit?: number;
}

export type Timing =
  /** The click itself: 0. */
  | 'click'
  /** The microphone is open. */
  | 'mic'
  /** The offer has been sent; the gateway's answer is there. */
  | 'offer' | 'answer'
  /** The sound path has been found, and is encrypted. */
  | 'ice' | 'dtls'
  /** The far phone rings, its network is heard, it has been answered. */
  | 'ringing' | 'early' | 'accept'
  /** The first loud sound from the far end, ringback included. */
  | 'sound';

export interface Ended {
  readonly by: 'us' | 'them' | 'gateway' | 'network';
  /** A stable word: see the table in docs/browser-client.md. */
  readonly cause: string;
  readonly sip?: number;
  readonly q850?: number;
  readonly text: string;
  readonly causes: string[];
  readonly remedies: string[];
  /** From answer to end. */
  readonly durationMs: number;
  /** The last second's, of an answered call. */
  readonly quality?: Quality;
}

export class PhoneError extends Error {
  constructor(code: string, options?: { text?: string; fatal?: boolean; detail?: unknown });
  /** A stable word: see the table in docs/browser-client.md. */
  readonly code: string;
  readonly text: string;
  readonly causes: string[];
  readonly remedies: string[];
  /** Trying again without a change will not help. */
  readonly fatal: boolean;
}

/** Microphones, loudspeakers and the phone's own sounds. */
export interface Audio {
  /** Browsers tell names only where the microphone is allowed. */
  readonly inputs: MediaDeviceInfo[];
  readonly outputs: MediaDeviceInfo[];
  /** What was chosen; `null`: the system's. */
  readonly input: string | null;
  readonly output: string | null;
  readonly ringer: string | null;
  /** Another microphone, for present calls too; `null`: the system's choice. */
  useInput(id: string | null): Promise<void>;
  /** Where the far end is heard, and the phone's own sounds but the ring. Rejects with `output-failed`. */
  useOutput(id: string | null): Promise<void>;
  /** Where the ring is heard. */
  useRinger(id: string | null): Promise<void>;
  /** Of the far end, 0 to 1. */
  volume: number;
  /** After a tap, where the browser holds sound back. The phone does it by itself at the first click or key. */
  unlock(): Promise<void>;
  /** Opens the microphone (the chosen one) and tells its level in dB, 20 times a second. Resolves to what stops it. */
  testInput(onLevel: (db: number) => void): Promise<() => void>;
  /** Plays one of the phone's own sounds once; of `dtmf` the tone of a digit. */
  play(sound: SoundName, digit?: string): void;
}

export interface PreflightOptions extends PhoneOptions {
  /** How long sound is tried, in seconds. Default: 4. */
  seconds?: number;
  signal?: AbortSignal;
}

export interface PreflightReport {
  /** `blocked`: no call can be made. `degraded`: one can, and `reasons` say what will be wrong with it. */
  readonly verdict: 'ready' | 'degraded' | 'blocked';
  /** `ok`, or the code of the PhoneError that says why not. */
  readonly microphone: string;
  /** Until the gateway has let us in. */
  readonly websocketMs?: number;
  readonly ice?: 'udp' | 'tcp' | 'none';
  /** Sound goes over a TURN server. */
  readonly turn?: boolean;
  readonly rttMs?: number;
  readonly jitterMs?: number;
  readonly lossPct?: number;
  readonly mos?: number;
  readonly reasons: Warning[];
}
