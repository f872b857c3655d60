/** How a call sounds: a word and the delay beside the call; both legs, the last minute and the set-up in their own panel. */

import { $, element, fill, setText } from './dom.js';

const GRADES = { excellent: 'Excellent sound', good: 'Good sound', fair: 'Fair sound', poor: 'Poor sound', lost: 'No sound' };
const TREND_SECONDS = 60;
/** The E-model's score goes from 1 to 4.5; where there is no sound a stump still shows that time went by. */
const MOS = { least: 1, most: 4.5 };
const TIMINGS = { mic: 'Microphone', answer: 'Gateway', dtls: 'Sound path', ringing: 'Ringing', early: 'Early sound', accept: 'Answered', sound: 'First sound' };

/** One call's last minute; kept beside the call, as the panel shows whichever call is on the screen. */
const trends = new WeakMap();

/** Notes a second, whether it is shown or not. */
export function noteQuality(call, quality) {
  const trend = trends.get(call) ?? [];
  const scores = legsOf(quality).map(({ mos }) => mos);
  trend.push({ grade: quality.grade, mos: quality.grade === 'lost' || scores.length === 0 ? MOS.least : Math.min(...scores) });
  trends.set(call, trend.slice(-TREND_SECONDS));
}

export function showQuality(call) {
  const quality = call?.quality;
  $('quality').hidden = $('legs').hidden = !quality;
  $('legs-wait').hidden = Boolean(quality);
  if (!quality) return;
  const { grade, delayMs, down, up, trunkDown, trunkUp } = quality;
  $('quality').dataset.grade = grade;
  setText($('grade'), GRADES[grade] ?? grade);
  setText($('quality-delay'), delayMs === undefined ? '' : `· ${delayMs} ms`);
  $('leg-up').replaceChildren(ways({ from: ['From you', up], to: ['To you', down] }));
  $('leg-down').replaceChildren(ways({ from: ['From them', trunkDown], to: ['To them', trunkUp] }));
  showTrend(trends.get(call) ?? []);
}

const legsOf = ({ down, up, trunkDown, trunkUp }) => [down, up, trunkDown, trunkUp].filter(Boolean);

const ROWS = [
  ['Codec', ({ codec }) => codec],
  ['Lost', ({ lossPct }) => `${lossPct.toFixed(1)} %`],
  ['Made up', ({ concealedPct }) => concealedPct === undefined ? undefined : `${concealedPct.toFixed(1)} %`],
  ['Jitter', ({ jitterMs }) => `${jitterMs} ms`],
  ['Round trip', ({ rttMs }) => rttMs === undefined ? undefined : `${rttMs} ms`],
  ['Score (1–5)', ({ mos }) => mos.toFixed(1)],
];

function ways({ from: [fromName, from], to: [toName, to] }) {
  if (!from && !to) return element('p', 'Nothing comes yet.');
  const head = element('tr', element('td'), heading('col', fromName), heading('col', toName));
  const rows = ROWS.map(([name, read]) => [name, from && read(from), to && read(to)]).filter(([, a, b]) => a !== undefined || b !== undefined);
  const body = rows.map(([name, ...values]) => element('tr', heading('row', name), ...values.map((value) => element('td', value ?? '–'))));
  const table = element('table', element('thead', head), element('tbody', ...body));
  table.className = 'ways';
  return table;
}

function heading(scope, text) {
  const made = element('th', text);
  made.scope = scope;
  return made;
}

function showTrend(trend) {
  const bars = trend.map(({ grade, mos }, at) => {
    const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    const height = 4 + 42 * (mos - MOS.least) / (MOS.most - MOS.least);
    const place = { x: 4 * (TREND_SECONDS - trend.length + at), y: 48 - height, width: 3, height, rx: 1 };
    for (const [name, value] of Object.entries(place)) bar.setAttribute(name, String(value));
    bar.dataset.grade = grade;
    return bar;
  });
  $('trend').replaceChildren(...bars);
  const worst = Math.min(...trend.map(({ mos }) => mos));
  setText($('trend-text'), trend.length > 0 ? `Score now ${trend.at(-1).mos.toFixed(1)}, at worst ${worst.toFixed(1)}, of 5.` : '');
}

/** The oldest of what is wrong: what helps beside the call, the reasons in the panel. */
export function showWarning(call) {
  const [warning] = call?.warnings ?? [];
  $('warning').hidden = $('why').hidden = !warning;
  if (!warning || $('warning').dataset.code === warning.code && $('warning').dataset.call === call.id) return;
  $('warning').dataset.code = warning.code;
  $('warning').dataset.call = call.id;
  for (const title of ['warning-title', 'why-title']) $(title).textContent = warning.text;
  for (const list of ['warning-remedies', 'why-remedies']) fill($(list), warning.remedies);
  fill($('why-causes'), warning.causes);
}

const duration = (ms) => ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;

/** When what happened after the click, and the call's id. */
export function showFacts(call) {
  const known = Object.entries(TIMINGS).filter(([name]) => call?.timings[name] !== undefined);
  const facts = known.map(([name, label]) => element('div', element('dt', label), element('dd', duration(call.timings[name]))));
  if ($('timings').childElementCount !== facts.length || $('live-id').textContent !== (call?.id ?? '')) $('timings').replaceChildren(...facts);
  $('live-id-row').hidden = !call?.id;
  setText($('live-id'), call?.id ?? '');
}
