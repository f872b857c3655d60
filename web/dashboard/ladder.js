/** What was said about a call, message by message, as `ringback trace` draws it. */

import { drawn, element } from './dom.js';

const LANE = 240;
const HEIGHT = 37;
const LONGEST_LABEL = 34;

/** What a message is, in a few words. */
export function label({ by, text }) {
  const words = by === 'browser' ? browserLabel(text) : sipLabel(text);
  return words.replace(/[\u0000-\u001f\u007f]/g, '');
}

function browserLabel(text) {
  let message = {};
  try { message = JSON.parse(text); } catch { /* it was cut off */ }
  const field = (name) => (typeof message[name] === 'boolean' ? (message[name] ? 'on' : 'off') : message[name]);
  const told = ['type', 'to', 'from', 'on', 'state', 'cause', 'sip', 'code', 'grade', 'remote'].map(field);
  return told.filter((value) => typeof value === 'string' || typeof value === 'number').join(' ') || 'message';
}

function sipLabel(text) {
  const [first = ''] = text.split(/\r?\n/, 1);
  const sdp = /\nv=0/.test(text) ? ', SDP' : '';
  const answer = first.match(/^SIP\/2\.0 (.*)$/);
  if (!answer) {
    const [, method, user = ''] = first.match(/^(\S+) [^:\s]*:(?:([^@\s]*)@)?/) ?? [first, first.split(' ', 1)[0]];
    return `${method} ${user}`.trimEnd() + sdp;
  }
  const [, method = ''] = text.match(/^CSeq:\s*\d+\s+(\S+)/mi) ?? [];
  return `${answer[1]} (${method})${sdp}`;
}

/** Whether a message says that something is not done. */
export const refuses = ({ by, text }) => by !== 'browser' && /^SIP\/2\.0 [4-6]/.test(text);

/** A message as it is read: the browser protocol a field a line, SIP as it is. */
export function whole({ by, text, cut }) {
  const rest = cut ? `\n(${cut} bytes are not kept)` : '';
  if (by !== 'browser') return text + rest;
  try {
    const fields = Object.entries(JSON.parse(text));
    return fields.map(([name, value]) => (typeof value === 'string' && value.includes('\n') ? `${name}:\n${value}` : `${name}: ${JSON.stringify(value)}`)).join('\n') + rest;
  } catch {
    return text + rest;
  }
}

export class Ladder {
  #place; #list; #heads; #messages = []; #lanes = [];

  /** @param place takes the ladder; what was there before goes */
  constructor(place) {
    this.#heads = element('ol', { class: 'lanes' });
    this.#list = element('ol', { class: 'ladder' });
    this.#place = place;
    place.replaceChildren(this.#heads, this.#list);
  }

  get length() { return this.#messages.length; }

  /** The number of the next message to ask for. */
  get next() { return (this.#messages.at(-1)?.message.n ?? -1) + 1; }

  /** Adds what came; `leftOut` is how many are missing before the message of number `before`. */
  add(messages, { left_out: leftOut, left_out_before: before } = {}) {
    const lanes = this.#lanes.length;
    for (const message of messages) {
      if (message.n === before) this.#list.append(element('li', { class: 'gap' }, `${leftOut} messages are not kept.`));
      this.#messages.push({ message, lane: this.#lane(message), ...this.#row(message) });
    }
    const fresh = this.#lanes.length > lanes ? this.#messages : this.#messages.slice(this.#messages.length - messages.length);
    if (this.#lanes.length > lanes) this.#showHeads();
    for (const row of fresh) row.summary.replaceChild(this.#arrow(row), row.summary.lastElementChild);
  }

  /** Who is at the other end; the first one stands before the gateway. */
  #lane({ by, remote = '?' }) {
    const peer = `${by} ${remote}`;
    let at = this.#lanes.findIndex((lane) => lane.peer === peer);
    if (at >= 0) return at;
    this.#lanes.push({ peer, by, remote });
    if (this.#lanes.length === 1) this.#lanes.push({ by: 'ringback', remote: '' });
    at = this.#lanes.findIndex((lane) => lane.peer === peer);
    return at;
  }

  #showHeads() {
    this.#heads.replaceChildren(...this.#lanes.map(({ by, remote }) => element('li', {}, element('b', {}, by === 'ringback' ? by : by === 'browser' ? 'browser' : `SIP, ${by}`), element('small', {}, remote))));
  }

  #row(message) {
    const first = this.#messages[0]?.message.at ?? message.at;
    const ms = Math.max(0, Math.floor((message.at - first) / 1000));
    const way = message.sent ? `ringback to ${message.by}` : `${message.by} to ringback`;
    const spoken = element('span', { class: 'visually-hidden' }, ` ${way}: ${label(message)}`);
    const summary = element('summary', {}, element('time', {}, `${Math.floor(ms / 1000)}.${String(ms % 1000).padStart(3, '0')} s`), spoken, element('span'));
    const details = element('details', {}, summary);
    // Few are read: their text is put in when they are.
    details.addEventListener('toggle', () => {
      if (details.open && details.childElementCount === 1) details.append(element('pre', { tabindex: 0 }, whole(message)));
    });
    this.#list.append(element('li', { class: refuses(message) ? 'refused' : undefined, 'data-label': label(message) }, details));
    return { summary };
  }

  #arrow({ message, lane }) {
    const middle = (column) => column * LANE + LANE / 2;
    const width = this.#lanes.length * LANE;
    const [from, to] = message.sent ? [middle(1), middle(lane)] : [middle(lane), middle(1)];
    const y = HEIGHT - 9;
    const tip = to > from ? -8 : 8;
    const words = label(message);
    const shown = words.length > LONGEST_LABEL ? `${words.slice(0, LONGEST_LABEL - 1)}…` : words;
    return drawn('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, width, 'aria-hidden': 'true' },
      ...this.#lanes.map((_, column) => drawn('line', { class: 'life', x1: middle(column), x2: middle(column), y1: 0, y2: HEIGHT })),
      drawn('line', { class: 'arrow', x1: from, x2: to + tip / 2, y1: y, y2: y }),
      drawn('path', { class: 'tip', d: `M${to} ${y}l${tip} -4.5v9z` }),
      drawn('text', { x: (from + to) / 2, y: y - 7 }, shown));
  }
}
