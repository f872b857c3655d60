/** The calls of this browser: kept here, told to nobody. */

import { clock, day } from './number.js';
import { $, button, copy, element, icon, Stored, who } from './dom.js';
import { summary } from './outcome.js';

const LONGEST = 100;
const WAYS = {
  missed: { symbol: 'missed', name: 'Missed' }, in: { symbol: 'in', name: 'Incoming' }, out: { symbol: 'out', name: 'Outgoing' },
};
/** Ends of calls in that nobody has to call back for. */
const TAKEN_CARE_OF = new Set(['answered-elsewhere', 'declined', 'ignored']);

export class History {
  #calls; #seen; #dial; #canDial = true;

  /** @param dial is called with the number of whoever is chosen */
  constructor(dial) {
    this.#dial = dial;
    $('clear-history').addEventListener('click', () => { this.#calls.value = []; this.#show(); $('panel-recents').focus(); });
    document.body.addEventListener('panel', ({ detail }) => { if (detail === 'recents') this.#see(); });
  }

  /** Each user has his own; guests, whose names change with the tab, share one. */
  of(user) {
    const name = /^guest-[0-9a-f]{4}$/.test(user) ? 'guest' : user;
    this.#calls = new Stored(`history.${name}`, []);
    this.#seen = new Stored(`seen.${name}`, 0);
    this.#show();
  }

  add(call, end, text = summary(call, end)) {
    const { remote, to, direction, answeredAt, startedAt, id } = call;
    const { number, name } = direction === 'out' ? { number: to, name: remote.name } : remote;
    const missed = direction === 'in' && !answeredAt && !TAKEN_CARE_OF.has(end.cause);
    const entry = { id, number, name, way: missed ? 'missed' : direction, at: startedAt, text };
    if (answeredAt) entry.ms = end.durationMs;
    this.addEntry(entry);
  }

  addEntry(entry) {
    if (!this.#calls) return;
    this.#calls.value = [entry, ...this.#calls.value].slice(0, LONGEST);
    this.#show();
  }

  /** While a call is up another is not made by a slip of the finger. */
  set canDial(can) {
    if (this.#canDial === can) return;
    this.#canDial = can;
    for (const row of document.querySelectorAll('.recent-call')) row.disabled = !can || !row.dataset.number;
  }

  #see() {
    if (!this.#seen) return;
    this.#seen.value = Date.now();
    this.#showMissed();
  }

  #showMissed() {
    const looking = document.querySelector('[data-go="recents"]').getAttribute('aria-current') === 'page' && !document.hidden;
    if (looking) this.#seen.value = Date.now();
    const missed = this.#calls.value.filter(({ way, at }) => way === 'missed' && at > this.#seen.value).length;
    $('missed').hidden = missed === 0;
    $('missed').replaceChildren(String(missed), hiddenText(' missed'));
  }

  #show() {
    const calls = this.#calls.value;
    $('no-recents').hidden = calls.length > 0;
    $('clear-history').hidden = calls.length === 0;
    $('recents').replaceChildren(...calls.map((entry) => this.#row(entry)));
    this.#showMissed();
  }

  #row(entry) {
    const { symbol, name } = WAYS[entry.way] ?? WAYS.out;
    const told = [day(entry.at), entry.ms === undefined ? '' : clock(entry.ms)].filter(Boolean).join(' · ');
    const mark = element('span', icon(symbol));
    mark.className = 'recent-icon';
    const title = element('span', who(entry));
    title.className = 'recent-who';
    const text = element('span', title, element('small', hiddenText(`${name}, `), told));
    text.className = 'recent-text';
    const call = button('', { className: 'recent-call', onClick: () => this.#dial(entry.number) });
    call.append(mark, text, hiddenText(', call'));
    call.dataset.number = entry.number ?? '';
    call.disabled = !this.#canDial || !entry.number;
    const row = element('li');
    row.toggleAttribute('data-missed', entry.way === 'missed');
    row.append(this.#top(row, entry, call));
    return row;
  }

  #top(row, entry, call) {
    let details = null;
    const more = button('', { className: 'icon', symbol: 'more', label: `More of the call with ${who(entry)}`, onClick: () => {
      details?.remove();
      details = details ? null : this.#details(entry);
      more.setAttribute('aria-expanded', String(Boolean(details)));
      if (details) row.append(details);
    } });
    more.setAttribute('aria-expanded', 'false');
    const top = element('div', call, more);
    top.className = 'recent';
    return top;
  }

  #details(entry) {
    const parts = [element('p', entry.text)];
    if (entry.name && entry.number) parts.unshift(element('p', entry.number));
    if (entry.id) {
      const copier = button('', { className: 'icon small', symbol: 'copy', label: 'Copy the call id', onClick: () => copy(entry.id, copier) });
      const id = element('p', 'Call id ', element('code', entry.id), copier);
      id.className = 'call-id';
      parts.push(id);
    }
    parts.push(button('Remove', { className: 'chip', onClick: () => this.#remove(entry) }));
    const details = element('div', ...parts);
    details.className = 'recent-more';
    return details;
  }

  #remove(entry) {
    this.#calls.value = this.#calls.value.filter((kept) => kept !== entry);
    this.#show();
    $('panel-recents').focus();
  }
}

function hiddenText(text) {
  const hidden = element('span', text);
  hidden.className = 'visually-hidden';
  return hidden;
}
