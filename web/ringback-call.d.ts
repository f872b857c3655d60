// Types of ringback-call.js: the element <ringback-call>.

import type { CallState, Ended } from './ringback.js';

export type RingbackCallState = 'idle' | 'failed' | Exclude<CallState, 'new' | 'ended'>;

/** Attributes: `url`, `to`, `token-from` (or `token`, or `user`); `state` tells how it stands. */
export class RingbackCall extends HTMLElement {
  /** Calls, as a click does. Resolves when the offer is on its way. */
  call(): Promise<void>;
  hangup(): void;
}

declare global {
  interface HTMLElementTagNameMap {
    'ringback-call': RingbackCall;
  }
  interface HTMLElementEventMap {
    'ringback-state': CustomEvent<RingbackCallState>;
    'ringback-end': CustomEvent<Ended>;
  }
}
