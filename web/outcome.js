/** How the last call ended, or what went wrong and what helps. */

import { PhoneError } from './ringback.js';
import { clock } from './number.js';
import { $, button, copy, fill, say, who } from './dom.js';

const LONGEST_TITLE = 60;
/** A shorter call has not been heard for long enough to be judged. */
const RATED_FROM_MS = 5000;
/** At most this good a score asks what was wrong. */
const POOR_SCORE = 3;
/** Ends of calls that are nobody's problem. */
const USUAL_ENDS = new Set(['normal', 'answered-elsewhere', 'transferred', 'cancelled', 'declined']);
const SCORES = ['very bad', 'bad', 'fair', 'good', 'very good'];
const ISSUES = { 'one-way': 'One side silent', choppy: 'Choppy', delay: 'Delayed', echo: 'Echo', noise: 'Noisy', dropped: 'Cut off' };

/** @param again whom “Call again” dials; absent: there is nobody to call */
export function showEnd(ended, end, again) {
  if (!USUAL_ENDS.has(end.cause)) return showProblem(end, { callId: ended.id, code: end.cause, again });
  const facts = [who(ended.remote), ended.answeredAt ? clock(end.durationMs) : 'not answered'];
  if (ended.timings.sound !== undefined) facts.push(`sound after ${Math.round(ended.timings.sound)} ms`);
  const detail = facts.join(' · ');
  show({ kind: 'info', title: summary(ended, end), detail, callId: ended.id, code: end.cause });
  if (ended.answeredAt && end.durationMs >= RATED_FROM_MS) askForScore(ended);
}

/** How a call ended, in a few words. */
export function summary(ended, end) {
  if (end.cause === 'answered-elsewhere') return 'Answered elsewhere.';
  if (end.cause === 'declined') return end.by === 'us' ? 'You declined.' : 'They declined.';
  if (end.cause === 'transferred') return 'Transferred.';
  if (!USUAL_ENDS.has(end.cause)) return end.text;
  if (end.by === 'us') return 'You hung up.';
  return ended.direction === 'in' && !ended.answeredAt ? 'Missed call.' : 'They hung up.';
}

export function showProblem({ text, message, causes = [], remedies = [] }, { callId, code, again } = {}) {
  const said = text ?? message;
  // A gateway that has much to say says it below the usual title.
  const [title, detail] = said.length > LONGEST_TITLE ? [new PhoneError(code).text, said] : [said, ''];
  show({ kind: 'problem', title, detail, causes: detail ? [] : causes, remedies: detail ? [] : remedies, callId, code, again });
}

export const outcomeIs = (code) => !$('outcome').hidden && $('outcome').dataset.code === code;
export const outcomeIsShown = () => !$('outcome').hidden;
export function hideOutcome() { $('outcome').hidden = true; }

let callAgain = () => {};

function show({ kind, title, detail = '', causes = [], remedies = [], callId = '', code = '', again }) {
  const box = $('outcome');
  box.dataset.kind = kind;
  box.dataset.code = code;
  $('outcome-icon').setAttribute('href', kind === 'problem' ? '#i-problem' : '#i-info');
  $('outcome-title').textContent = title;
  $('outcome-detail').textContent = detail;
  fill($('outcome-causes'), causes);
  fill($('outcome-remedies'), remedies);
  $('outcome-why').open = false;
  $('call-id').textContent = callId;
  $('call-id-row').hidden = !callId;
  $('rate').hidden = true;
  $('again').hidden = !again;
  callAgain = again ?? (() => {});
  box.hidden = false;
  say([title, detail, ...remedies].filter(Boolean).join(' '));
}

function askForScore(call) {
  const scores = SCORES.map((name, at) => button(String(at + 1), { label: `${at + 1} of 5: ${name}`, onClick: () => rate(call, at + 1) }));
  $('rate-scores').replaceChildren(...scores);
  $('rate-scores').hidden = false;
  $('rate-issues').hidden = true;
  $('rate-title').textContent = 'How was the sound? 5 is best';
  $('rate').hidden = false;
}

function rate(call, score) {
  call.feedback(score);
  $('rate-scores').hidden = true;
  if (score > POOR_SCORE) return thank();
  $('rate-title').textContent = 'What was wrong?';
  const issues = Object.entries(ISSUES).map(([issue, name]) => button(name, { className: 'chip', onClick: () => { call.feedback(score, issue); thank(); } }));
  $('rate-issues').replaceChildren(...issues);
  $('rate-issues').hidden = false;
  issues[0].focus();
}

function thank() {
  $('rate-issues').hidden = true;
  $('rate-title').textContent = 'Thank you.';
  say('Thank you.');
  $('outcome-close').focus();
}

$('again').addEventListener('click', () => callAgain());
$('outcome-close').addEventListener('click', hideOutcome);
$('copy-id').addEventListener('click', () => copy($('call-id').textContent, $('copy-id')));
