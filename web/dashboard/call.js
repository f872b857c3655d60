/** One call: what it is, how it sounds, what was said; and its end. */

import * as api from './api.js';
import { Chart } from './chart.js';
import { $, facts, lines, setText, Table } from './dom.js';
import { Ladder } from './ladder.js';
import { clock, ending, party, score, stateOf, time, tone, verdict } from './words.js';

/** The last answers and acknowledgements come after the end. */
const LOOKS_AFTER_END = 5;

const upTo = (most, unit) => ({ range: (values) => [0, Math.max(most, ...values)], say: (value) => `${Number.isInteger(value) ? value : value.toFixed(1)} ${unit}` });
const way = (read) => [
  { name: 'from who called', className: 'a', read: ({ a }) => read(a.inbound) },
  { name: 'from who was called', className: 'b', read: ({ b }) => read(b.inbound) },
  { name: 'to who called', className: 'a sent', read: ({ a }) => read(a.outbound) },
  { name: 'to who was called', className: 'b sent', read: ({ b }) => read(b.outbound) },
];
const heardBy = (read) => [
  { name: 'who called', className: 'a', read: ({ a }) => read(a) },
  { name: 'who was called', className: 'b', read: ({ b }) => read(b) },
];
const CHARTS = [
  { title: 'Score of what each hears (1–5)', lines: heardBy((leg) => leg.mos_heard), range: () => [1, 4.5], say: (value) => value.toFixed(1), worst: Math.min },
  { title: 'Lost packets', lines: way((flow) => flow?.loss_pct), ...upTo(5, '%') },
  { title: 'Sound made up', lines: way((flow) => flow?.concealed_pct), ...upTo(5, '%') },
  { title: 'Jitter', lines: way((flow) => flow?.jitter_ms), ...upTo(20, 'ms') },
  { title: 'Waiting in the buffer', lines: way((flow) => flow?.buffer_ms), ...upTo(100, 'ms') },
  { title: 'Delay of what each hears', lines: heardBy((leg) => leg.delay_ms), ...upTo(200, 'ms') },
];

const LIVE_LEGS = [
  { head: 'Side', cell: ({ name }) => name },
  { head: 'Party', cell: ({ leg }) => party(leg) },
  { head: 'Codec', cell: ({ leg }) => leg.codec ?? '–' },
  { head: 'Holds', cell: ({ leg }) => (leg.holds ? 'yes' : 'no') },
  { head: 'Hears', cell: ({ leg }) => ({ text: score(leg.quality?.mos_heard), tone: tone(leg.quality?.mos_heard) }), number: true },
  { head: 'Delay', cell: ({ leg }) => ms(leg.quality?.delay_ms), number: true },
  { head: 'Round trip', cell: ({ leg }) => ms(leg.quality?.rtt_ms), number: true },
  { head: 'Loudness', cell: ({ leg }) => (leg.quality ? `${leg.quality.level_db} dB` : '–'), number: true },
];
const ENDED_LEGS = [
  { head: 'Side', cell: ({ name }) => name },
  { head: 'Party', cell: ({ kind }) => kind ?? '–' },
  { head: 'Codec', cell: ({ codec }) => codec ?? '–' },
  { head: 'Packets in', cell: ({ media }) => String(media.packets_in), number: true },
  { head: 'Packets out', cell: ({ media }) => String(media.packets_out), number: true },
  { head: 'Lost', cell: ({ media }) => String(media.lost), number: true },
  { head: 'Jitter', cell: ({ media }) => ms(media.jitter_ms), number: true },
  { head: 'Made up', cell: ({ media }) => ms(media.concealed_ms), number: true },
  { head: 'Refused', cell: ({ media }) => String(media.rejected), number: true },
  { head: 'Heard', cell: ({ media }) => ({ text: score(media.mos_heard?.mean), tone: tone(media.mos_heard?.mean) }), number: true },
  { head: 'At worst', cell: ({ media }) => ({ text: score(media.mos_heard?.worst), tone: tone(media.mos_heard?.worst) }), number: true },
  { head: 'Delay', cell: ({ media }) => ms(media.delay_ms), number: true },
];
const SIDES = [['a', 'who called'], ['b', 'who was called']];

function ms(value) { return value === undefined || value === null ? '–' : `${value} ms`; }

export class CallPage {
  #id; #over = 0; #traced = true; #ladder; #charts; #legs; #live;

  /** @param id the call's */
  constructor(id) {
    this.#id = id;
    this.#ladder = new Ladder($('ladder'));
    $('charts').replaceChildren();
    this.#charts = CHARTS.map((chart) => new Chart($('charts'), chart));
    $('legs-table').replaceChildren();
    for (const list of ['facts', 'verdict-list']) $(list).replaceChildren();
    for (const text of ['call-lead', 'call-problem', 'ladder-lead', 'quality-lead']) setText($(text), '');
    setText($('call-title'), `Call ${id}`);
    for (const part of ['hangup', 'verdicts', 'legs-table', 'charts']) $(part).hidden = true;
  }

  /** Asks, and shows; `false` where nothing will change any more. */
  async refresh() {
    const [call, quality] = await Promise.all([api.call(this.#id), api.quality(this.#id)]);
    const record = call ? undefined : await api.record(this.#id);
    if (call) this.#showLive(call);
    else if (record) this.#showEnded(record);
    else setText($('call-lead'), 'Nothing is remembered of such a call; its record is where [cdr] puts records.');
    $('hangup').hidden = !call || call.state === 'ending';
    if (quality) this.#showQuality(quality);
    await this.#trace();
    if (!call) this.#over += 1;
    return this.#over <= LOOKS_AFTER_END;
  }

  /** Ends the call. */
  async hangUp() {
    try {
      await api.hangUp(this.#id);
      setText($('call-problem'), '');
    } catch (error) {
      setText($('call-problem'), `It is not ended: ${error.message}.`);
    }
  }

  #showLive(call) {
    const { a, b, state, direction, user, dialled, number, from, rule, start, ringing, answer, no_audio: silences, transfers } = call;
    setText($('call-title'), `${party(a) ?? from ?? user} → ${party(b) ?? number ?? dialled}`);
    setText($('call-lead'), `Call ${this.#id}, ${stateOf(call)}${answer ? ` for ${clock(Date.now() - answer)}` : ''}.`);
    facts($('facts'), [...this.#beginning({ direction, user, dialled, number, from, rule, start, ringing, answer }), ...this.#transfers(transfers)]);
    this.#showLegs(LIVE_LEGS, SIDES.filter(([side]) => call[side]).map(([side, name]) => ({ side, name, leg: call[side] })), state);
    this.#showVerdicts(silences, { a: a?.kind, b: b?.kind });
  }

  #showEnded(cdr) {
    const { user, dialled, number, from, start, end, answer, trunks, parties, codecs, media, no_audio: silences = [], transfers = [], direction } = cdr;
    setText($('call-title'), direction === 'inbound' ? `${from ?? 'unknown'} → ${user || dialled}` : `${user} → ${number ?? dialled}`);
    setText($('call-lead'), `Call ${this.#id}, over since ${time(end)}: ${ending(cdr)}.`);
    const tried = trunks.map(({ trunk, result }) => `${trunk}: ${result}`).join(', ');
    facts($('facts'), [
      ...this.#beginning({ ...cdr, start, answer }), { term: 'number as sent', text: cdr.sent }, { term: 'trunks tried', text: tried },
      { term: answer ? 'talked' : 'lasted', text: clock(end - (answer ?? start)) }, ...this.#transfers(transfers),
    ]);
    const row = ([side, name]) => ({ side, name, kind: parties[side], codec: codecs[side], media: media[side] });
    this.#showLegs(ENDED_LEGS, media ? SIDES.map(row) : [], 'over');
    this.#showVerdicts(silences, parties);
  }

  #beginning({ direction, user, dialled, number, from, rule, start, ringing, answer }) {
    const after = (at) => (at ? `after ${((at - start) / 1000).toFixed(2)} s` : undefined);
    return [
      { term: 'direction', text: direction }, { term: 'user', text: user }, { term: 'shown number', text: from },
      { term: 'dialled', text: dialled }, { term: 'number', text: number }, { term: 'rule', text: rule },
      { term: 'began', text: time(start) }, { term: 'rang', text: after(ringing) }, { term: 'answered', text: after(answer) },
    ];
  }

  #transfers(transfers) {
    return transfers.map(({ at, to, result }) => ({ term: `transferred ${time(at)}`, text: `${to}: ${result}` }));
  }

  #showLegs(columns, rows, kind) {
    if (this.#live !== (kind === 'over')) {
      this.#live = kind === 'over';
      this.#legs = new Table($('legs-table'), 'The two sides', columns, { key: ({ side }) => side });
    }
    this.#legs.show(rows);
  }

  #showVerdicts(silences, kinds) {
    $('verdicts').hidden = silences.length === 0;
    lines($('verdict-list'), silences.map((silence) => ({ key: `${silence.at} ${silence.from}`, ...verdict(silence, kinds) })));
  }

  #showQuality({ step, samples }) {
    setText($('quality-lead'), samples.length === 0 ? 'Nothing is measured: it is while both sides are there.' : step === 1 ? 'Each second.' : `The worst second of each ${step}.`);
    $('charts').hidden = samples.length === 0;
    for (const chart of this.#charts) chart.show(samples, step);
  }

  async #trace() {
    if (!this.#traced) return;
    try {
      const answer = await api.trace(this.#id, this.#ladder.next);
      if (answer) this.#ladder.add(answer.messages, answer);
      setText($('ladder-lead'), this.#ladder.length > 0 ? `${this.#ladder.length} messages. Each opens to be read whole; tokens, passwords, keys and digits are stars.` : 'Nothing is kept of it ([trace]).');
    } catch (error) {
      if (error.status !== 403) throw error;
      this.#traced = false;
      setText($('ladder-lead'), `It is not shown: ${error.message}.`);
    }
  }
}
