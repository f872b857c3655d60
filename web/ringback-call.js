/**
 * A button that calls one number: `<ringback-call url="wss://gw.example/phone" to="hotline" token-from="/token">Call us</ringback-call>`
 *
 * `token-from` is an address of the page's own server that gives a token for this visitor and this destination; it is asked
 * at the click. (`token` holds one instead; `user` is for a gateway that asks for none.) The attribute `state` is `idle`,
 * `connecting`, `ringing`, `early`, `active`, `reconnecting` or `failed`, for the page's styles; the events `ringback-state`
 * and `ringback-end` bubble. Parts for styles: button, mute, hangup, status.
 */

import { Phone } from './ringback.js';

const TEXTS = { connecting: 'Connecting…', ringing: 'Ringing…', early: 'Ringing…', reconnecting: 'Reconnecting…' };
const STYLE = `
:host { display: inline-flex; gap: 0.5em; align-items: center; font: inherit; }
button { font: inherit; padding: 0.5em 1em; border: 0; border-radius: 999px; color: #fff; background: #0a6b3d; cursor: pointer; }
button:focus-visible { outline: 3px solid #1a73e8; outline-offset: 2px; }
button:disabled { opacity: 0.6; cursor: default; }
[part~="mute"] { background: #4a4a4a; }
[part~="mute"][aria-pressed="true"] { background: #8a5a00; }
[part~="hangup"] { background: #b3261e; }
[hidden] { display: none; }
`;

/** An element with what makes it. */
function make(name, properties, ...content) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...content);
  return made;
}

export class RingbackCall extends HTMLElement {
  #phone = null; #call = null; #timer = null; #parts; #hadFocus = false;

  constructor() {
    super();
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    const shadow = this.attachShadow({ mode: 'open' });
    shadow.adoptedStyleSheets = [sheet];
    const button = make('button', { type: 'button', part: 'button', onclick: () => this.call().catch(() => {}) }, make('slot', {}, 'Call us'));
    const mute = make('button', { type: 'button', part: 'mute', hidden: true, ariaPressed: 'false', onclick: () => this.#mute() }, 'Mute');
    const hangup = make('button', { type: 'button', part: 'hangup', hidden: true, onclick: () => this.hangup() }, 'Hang up');
    const status = make('span', { part: 'status', role: 'status' });
    shadow.append(button, mute, hangup, status);
    this.#parts = { button, mute, hangup, status };
  }

  connectedCallback() { this.#show('idle', ''); }
  disconnectedCallback() { this.#leave(); }

  /** Calls, as a click does. Resolves when the offer is on its way. */
  async call() {
    if (this.#call || this.getAttribute('state') === 'connecting') return;
    this.#show('connecting', TEXTS.connecting);
    try {
      const token = this.hasAttribute('token') || this.hasAttribute('token-from') ? () => this.#token() : undefined;
      this.#phone ??= new Phone({ url: this.getAttribute('url'), token, user: this.getAttribute('user') ?? undefined });
      const call = await this.#phone.call(this.getAttribute('to'));
      this.#call = call;
      call.on('state', () => this.#showCall());
      call.on('mute', (on) => { this.#parts.mute.ariaPressed = String(on); });
      call.on('end', (ended) => this.#onEnd(ended));
      this.#showCall();
    } catch (error) {
      this.#leave();
      this.#show('failed', error.text ?? error.message);
      throw error;
    }
  }

  hangup() { this.#call?.hangup(); }

  async #token() {
    const from = this.getAttribute('token-from');
    if (!from) return this.getAttribute('token');
    const response = await fetch(from, { headers: { accept: 'text/plain' }, cache: 'no-store' });
    if (!response.ok) throw new Error(`${from}: ${response.status}`);
    return (await response.text()).trim();
  }

  #mute() { this.#call?.mute(!this.#call.muted); }

  #showCall() {
    const { state } = this.#call;
    if (state === 'ended') return;
    clearInterval(this.#timer);
    this.#show(state, TEXTS[state] ?? '');
    if (state === 'active') this.#timer = setInterval(() => this.#tick(), 1000);
    if (state === 'active') this.#tick();
  }

  #tick() {
    const seconds = Math.floor((Date.now() - this.#call.answeredAt) / 1000);
    this.#parts.status.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  }

  #onEnd(ended) {
    this.#leave();
    const usual = ended.cause === 'normal' || ended.cause === 'cancelled';
    this.#show(usual ? 'idle' : 'failed', usual ? '' : [ended.text, ...ended.remedies].join(' '));
    this.dispatchEvent(new CustomEvent('ringback-end', { detail: ended, bubbles: true, composed: true }));
  }

  /** A visitor's session lasts as long as his call. */
  #leave() {
    clearInterval(this.#timer);
    this.#phone?.stop();
    this.#phone = this.#call = null;
  }

  #show(state, text) {
    const { button, mute, hangup, status } = this.#parts;
    const calling = state !== 'idle' && state !== 'failed';
    // Between the click and the call there is nothing to press: the focus waits, unless it has gone elsewhere meanwhile.
    this.#hadFocus = this.shadowRoot.activeElement !== null || this.#hadFocus && document.activeElement === document.body;
    button.hidden = calling;
    mute.hidden = state !== 'active';
    hangup.hidden = !calling || !this.#call;
    status.textContent = text;
    const next = calling ? hangup : button;
    if (this.#hadFocus && !next.hidden) {
      next.focus();
      this.#hadFocus = false;
    }
    if (this.getAttribute('state') === state) return;
    this.setAttribute('state', state);
    this.dispatchEvent(new CustomEvent('ringback-state', { detail: state, bubbles: true, composed: true }));
  }
}

customElements.define('ringback-call', RingbackCall);
