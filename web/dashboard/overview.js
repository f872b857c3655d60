/** All calls, all trunks, why calls ended. */

import * as api from './api.js';
import { $, drawn, element, facts, lines, setText, Table } from './dom.js';
import { ago, clock, failure, health, limitRows, party, registration, score, stateOf, takesCalls, time, tone } from './words.js';

/** More calls than anybody reads are found by the field above them. */
const MOST_ROWS = 200;
const LIMITS_EVERY_MS = 5000;

const link = (call) => `#/call/${call}`;

/** The worse of what both sides hear now. */
function heard({ a, b }) {
  const scores = [a, b].map((leg) => leg?.quality?.mos_heard).filter((mos) => mos !== undefined);
  return scores.length > 0 ? Math.min(...scores) : undefined;
}

/** From whom, and to whom. */
const caller = ({ a, from, user, direction }) => party(a) ?? from ?? (direction === 'inbound' ? 'unknown' : user);
const called = ({ b, number, dialled }) => (b && party(b)) ?? number ?? dialled;

function sound({ a, b }) {
  const broken = [a, b].map((leg) => leg?.no_audio).find(Boolean);
  if (broken) return { text: broken.cause, tone: broken.fault ? 'bad' : 'warn', title: 'One side is not heard' };
  const mos = heard({ a, b });
  return { text: score(mos), tone: tone(mos) };
}

const CALLS = [
  { head: 'Call', cell: ({ call }) => ({ text: call, href: link(call) }) },
  { head: 'State', cell: (call) => stateOf(call) },
  { head: 'From', cell: caller },
  { head: 'To', cell: called },
  { head: 'Rule', cell: ({ rule }) => rule ?? '–' },
  { head: 'Codecs', cell: ({ a, b }) => [a?.codec, b?.codec].map((codec) => codec ?? '–').join(' · ') },
  { head: 'Heard', cell: sound, number: true },
  { head: 'Time', cell: ({ answer, start }) => clock(Date.now() - (answer ?? start)), number: true },
];

const TRUNKS = [
  { head: 'Trunk', cell: ({ name }) => name },
  { head: 'State', cell: (trunk) => (takesCalls(trunk) ? { text: 'up', tone: 'good' } : { text: trunk.targets.length > 0 ? 'down' : 'not found', tone: 'bad' }) },
  { head: 'For', cell: ({ for_seconds: seconds }) => (seconds === undefined ? '–' : ago(seconds)), number: true },
  { head: 'Registration', cell: ({ registration: standing }) => registration(standing) },
  { head: 'Round trip', cell: ({ targets }) => { const rtts = targets.map(({ rtt_ms: rtt }) => rtt).filter((rtt) => rtt !== undefined); return rtts.length > 0 ? `${Math.min(...rtts)} ms` : '–'; }, number: true },
  { head: 'Calls', cell: ({ calls }) => String(calls), number: true },
  { head: 'Refused', cell: ({ refused }) => String(refused), number: true },
  { head: 'Last failure', cell: ({ last_failure: last }) => (last ? failure(last) : '–'), wide: true },
];

const causes = (most) => [
  { head: 'Cause', cell: ({ cause, failed }) => ({ text: cause, tone: failed ? 'bad' : undefined }) },
  { head: 'By', cell: ({ by }) => by },
  { head: 'Calls', cell: ({ calls }) => String(calls), number: true },
  { head: 'Share', cell: ({ calls }) => share(calls / most()) },
  { head: 'Last one', cell: ({ last, at }) => ({ text: time(at), href: link(last) }) },
  { head: 'In words', cell: ({ text }) => text, wide: true },
];

function share(part) {
  const bar = drawn('svg', { class: 'share', viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  bar.append(drawn('rect', { width: 100, height: 10, rx: 5 }), drawn('rect', { class: 'part', width: Math.max(2, 100 * part), height: 10, rx: 5 }));
  return element('span', {}, element('span', { class: 'visually-hidden' }, `${Math.round(100 * part)} %`), bar);
}

const LIMITS = [
  { head: 'Of', cell: ({ of }) => of },
  { head: 'Limit', cell: ({ limit }) => limit },
  { head: 'Used', cell: ({ used, most }) => ({ text: String(used), tone: used >= most ? 'bad' : undefined }), number: true },
  { head: 'Of at most', cell: ({ most }) => String(most), number: true },
  { head: 'Share', cell: ({ used, most }) => share(Math.min(1, used / Math.max(1, most))) },
];
const ENDED = [
  { head: 'Call', cell: ({ call }) => ({ text: call, href: link(call) }) },
  { head: 'Ended', cell: ({ end }) => time(end), number: true },
  { head: 'From', cell: ({ from, user, direction }) => (direction === 'inbound' ? from ?? 'unknown' : user) },
  { head: 'To', cell: ({ dialled, user, direction }) => (direction === 'inbound' && user ? `${dialled} (${user})` : dialled) },
  { head: 'Trunk', cell: ({ trunk }) => trunk ?? '–' },
  { head: 'Talked', cell: ({ answer, end }) => (answer ? clock(end - answer) : '–'), number: true },
  { head: 'Heard', cell: ({ mos }) => ({ text: score(mos), tone: tone(mos) }), number: true },
  { head: 'Why', cell: ({ text, cause }) => ({ text: cause === 'normal' ? 'hung up' : text, title: cause }), wide: true },
];

export class Overview {
  #calls = new Table($('calls-table'), 'Calls now', CALLS, { key: ({ call }) => call });
  #trunks = new Table($('trunks-table'), 'Trunks', TRUNKS, { key: ({ name }) => name });
  #most = 1;
  #causes = new Table($('causes-table'), 'Why calls ended in the last hour', causes(() => this.#most), {
    key: ({ cause, by }) => `${cause} ${by}`, rowTone: ({ failed }) => (failed ? 'failed' : undefined),
  });
  #limits = new Table($('limits-table'), 'Limits', LIMITS, { key: ({ of, limit }) => `${of} ${limit}`, rowTone: ({ used, most }) => (used >= most ? 'failed' : undefined) });
  #ended = new Table($('ended-table'), 'Calls that ended last', ENDED, { key: ({ call }) => call });
  #now = [];
  #used = { accounts: [], tripped: [] };
  #usedAt = -Infinity;

  constructor() {
    $('find').addEventListener('input', () => this.#showCalls());
  }

  /** Asks, and shows. */
  async refresh() {
    const [status, calls, ended] = await Promise.all([api.status(), api.calls(), api.ended(), this.#askLimits()]);
    this.#now = calls;
    this.#showTiles(status, ended);
    this.#showHealth(status);
    this.#showCalls();
    this.#trunks.show(status.trunks);
    $('no-trunks').hidden = status.trunks.length > 0;
    this.#showCauses(ended);
    this.#showLimits(this.#used);
    this.#ended.show(ended.ended);
    $('no-ended').hidden = ended.ended.length > 0;
    return status;
  }

  /** All users are looked through for it: it is asked for more seldom. */
  async #askLimits() {
    if (performance.now() - this.#usedAt < LIMITS_EVERY_MS) return;
    this.#used = await api.limits();
    this.#usedAt = performance.now();
  }

  #showTiles({ calls, established, sockets, sound: { measured, mos_mean: mean, mos_worst: worst, without_audio: silent }, registrar }, { calls: past, causes: why }) {
    const failed = why.filter((cause) => cause.failed).reduce((sum, cause) => sum + cause.calls, 0);
    facts($('tiles'), [
      { term: 'calls', text: calls },
      { term: 'talking', text: established },
      { term: 'mean score', text: measured > 0 ? score(mean) : '–', tone: tone(mean) },
      { term: 'worst score', text: measured > 0 ? score(worst) : '–', tone: tone(worst) },
      { term: 'without sound', text: silent, tone: silent > 0 ? 'bad' : undefined },
      { term: 'ended in an hour', text: past },
      { term: 'of those failed', text: failed, tone: failed > 0 ? 'warn' : undefined },
      { term: 'browsers', text: sockets },
      { term: 'phones', text: registrar?.bindings },
    ]);
  }

  #showHealth(status) {
    const wrong = health(status);
    lines($('health-list'), wrong.length > 0 ? wrong : [{ tone: 'good', text: 'Nothing is wrong.' }]);
  }

  #showCalls() {
    const wanted = $('find').value.trim().toLowerCase();
    const words = (call) => [call.call, call.user, call.dialled, call.number, call.from, call.rule, party(call.a), party(call.b)].join(' ').toLowerCase();
    const found = this.#now.filter((call) => words(call).includes(wanted));
    // The latest first: those are looked for.
    this.#calls.show(found.slice(-MOST_ROWS).reverse());
    const more = found.length - MOST_ROWS;
    $('no-calls').hidden = found.length > 0 && more <= 0;
    setText($('no-calls'), more > 0 ? `${more} more calls.` : this.#now.length > 0 ? 'No call is like that.' : 'Nobody is on a call.');
  }

  #showLimits({ accounts, tripped }) {
    $('limits').hidden = accounts.length + tripped.length === 0;
    this.#limits.show(limitRows(accounts).slice(0, MOST_ROWS));
    const times = tripped.map(({ scope, limit, times: n }) => `${scope} ${limit.replaceAll('_', ' ')} ${n} ×`).join(', ');
    setText($('limits-tripped'), times && `Tripped since the start: ${times}.`);
  }

  #showCauses({ since, calls, answered, causes: why }) {
    this.#most = Math.max(1, ...why.map((cause) => cause.calls));
    this.#causes.show(why);
    $('no-causes').hidden = calls > 0;
    setText($('causes-lead'), calls > 0 ? `Since ${time(since)}: ${calls} ended, ${answered} of them answered.` : '');
  }
}
