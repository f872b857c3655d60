// Types of ringback.js. The guide is docs/browser-client.md.

export interface PhoneOptions {
  /** The gateway's WebSocket, such as `wss://gw.example/phone`. */
  url: string;
  /** A signed session token, or a function that gets one; a function is asked again at every reconnect. */
  token?: string | (() => string | Promise<string>);
  /** Names the user where the gateway asks for no token (the embedded default). */
  user?: string;
  /** Normally none: the gateway is reachable and ICE-lite. */
  iceServers?: RTCIceServer[];
  /** The codecs to offer, best first. Default: all of the browser's. */
  codecs?: Codec[];
  /** Microphone constraints of every call. Default: `true`. */
  audio?: boolean | MediaTrackConstraints;
  /** A second incoming call: `reject` answers busy (486), `offer` emits `incoming` as always. Default: `offer`. */
  whileBusy?: 'reject' | 'offer';
  /** Asks before the page is left while a call is up. Default: `false`. */
  guardPage?: boolean;
  /** Default: `error`. */
  log?: 'silent' | 'error' | 'warn' | 'info' | 'debug' | ((line: LogLine) => void);
}

export type Codec = 'opus' | 'PCMU' | 'PCMA' | 'G722';

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
  error(error: PhoneError): void;
}

export class Phone {
  /** `true`, or why this browser or page cannot make calls. */
  static readonly supported: true | string;
  constructor(options: PhoneOptions);
  readonly state: PhoneState;
  /** The name the gateway knows us by; `null` until it has let us in. */
  readonly user: string | null;
  /** The calls that have not ended. */
  readonly calls: Call[];
  /** Connects and stays connected, so that incoming calls ring. Resolves when the gateway has let us in. */
  start(): Promise<void>;
  /** Opens the connection and makes the certificate before the click. Optional; it makes the first call quicker. */
  warmUp(): Promise<void>;
  /** Calls a number; connects first where need be. Resolves when the offer has been sent, rejects with a `PhoneError`. */
  call(to: string, options?: CallOptions): Promise<Call>;
  /** Ends all calls and the connection, for good. */
  stop(): Promise<void>;
  /** Returns a function that takes the listener off again. */
  on<K extends keyof PhoneEvents>(event: K, listener: PhoneEvents[K]): () => void;
}

export interface CallOptions extends AcceptOptions {
  /** The caller's number to show, where the token allows it. */
  from?: string;
  /** Aborting hangs up, whatever the state. */
  signal?: AbortSignal;
}

export interface AcceptOptions {
  /** Constraints for the microphone, or a stream of the page's own (which is not stopped at the end). */
  audio?: boolean | MediaTrackConstraints | MediaStream;
}

/** Outgoing: new, connecting, ringing or early (or both), active, ended. Incoming: ringing, connecting, active, ended. */
export type CallState = 'new' | 'connecting' | 'ringing' | 'early' | 'active' | 'ended';

export interface CallEvents {
  state(state: CallState): void;
  /** The gateway has taken the call and this is its id. */
  id(id: string): void;
  /** The far phone rings; with early media its network is heard already. */
  ringing(earlyMedia: boolean): void;
  /** Answered. */
  accept(): void;
  hold(who: 'us' | 'them', on: boolean): void;
  /** How our own transfer gets on. */
  transfer(state: 'asked' | 'ringing' | 'done' | 'failed'): void;
  /** The other side has connected us with somebody else: `remote` is who is there now. */
  transferred(remote: Call['remote']): void;
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

export class Call {
  /** The same in the gateway's log and call records; empty until the gateway has taken the call. */
  readonly id: string;
  readonly direction: 'in' | 'out';
  readonly state: CallState;
  /** Who is there; changes with `transferred`. */
  readonly remote: { readonly number: string; readonly name?: string };
  /** The number that was dialled. */
  readonly to: string;
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
  readonly remoteStream: MediaStream;
  /** For statistics; do not negotiate on it. */
  readonly peerConnection: RTCPeerConnection | null;
  accept(options?: AcceptOptions): Promise<void>;
  /** 486 busy, 603 declined (default), 480 not available. */
  reject(code?: 486 | 603 | 480): void;
  hangup(): void;
  mute(on?: boolean): void;
  /** Resolves when the gateway has done it. */
  hold(on?: boolean): Promise<void>;
  /**
   * Connects the other side with a number, or with the other side of another answered call, and leaves (the call ends
   * with the cause `transferred`). Rejects where it came to nothing: the call goes on.
   */
  transfer(to: string | Call): Promise<void>;
  /** 0-9, *, #, A-D, and w for half a second of pause, in an `active` call. Resolves when all are on their way. */
  digits(digits: string, options?: { ms?: number }): Promise<void>;
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

export interface Warning {
  /** `down-…` or `up-…` and the cause of `no-audio` (`down-no-rtp`, `up-silent`), `high-loss` or `high-delay`. */
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
  | 'microphone' | 'offer' | 'answer' | 'ringing' | 'early' | 'answered'
  | 'ice' | 'connected'
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
  /** A stable word: see the table in docs/browser-client.md. */
  readonly code: string;
  readonly text: string;
  readonly causes: string[];
  readonly remedies: string[];
  /** Trying again without a change will not help. */
  readonly fatal: boolean;
}
