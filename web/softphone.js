/**
 * The softphone page: one Phone, at most one Call at a time, and what is shown of them.
 *
 * Who is calling, in this order: a token from the page (`window.ringbackToken`, a function), from `?token=` (taken out of
 * the address bar, kept for this tab), or, where the gateway is open, the name in `?user=` or a guest's name of this tab.
 * `?to=` fills in a number.
 */

import { Phone, PhoneError } from './ringback.js';
import { clock, readNumber } from './number.js';
import { Sounds } from './sounds.js';

const $ = (id) => document.getElementById(id);
const TOKEN_KEY = 'ringback.token';
const USER_KEY = 'ringback.user';
/** What the meters show: quieter is empty, louder is full. */
const METER_DB = { empty: -60, full: -6 };
const LONG_PRESS_MS = 500;
const LONGEST_TITLE = 60;
const STATES = {
  connecting: 'Connecting…', ringing: 'Ringing…', early: 'Not answered yet, listening…', active: 'In call',
};
const PHONE_STATES = {
  offline: 'Offline', connecting: 'Connecting…', reconnecting: 'Reconnecting…', closed: 'Stopped',
};
const GRADES = { excellent: 'Excellent sound', good: 'Good sound', fair: 'Fair sound', poor: 'Poor sound', lost: 'No sound' };
/** Ends of calls that are nobody's problem. */
const USUAL_ENDS = new Set(['normal', 'answered-elsewhere', 'transferred', 'cancelled', 'declined']);

const sounds = new Sounds();
const phone = new Phone({ url: phoneUrl(), ...identity(), whileBusy: 'reject', guardPage: true });
let call = null;
let incoming = null;
let dialling = null;
let timer = null;
/** What is shown while a transfer is under way. */
let transferring = '';

function phoneUrl() {
  const url = new URL('phone', location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = '';
  url.hash = '';
  return url.href;
}

function identity() {
  const parameters = new URLSearchParams(location.search);
  if (parameters.has('token')) {
    sessionStorage.setItem(TOKEN_KEY, parameters.get('token'));
    parameters.delete('token');
    history.replaceState(null, '', location.pathname + (parameters.size > 0 ? `?${parameters}` : ''));
  }
  if (typeof globalThis.ringbackToken === 'function') return { token: globalThis.ringbackToken };
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (token) return { token };
  return { user: parameters.get('user') || guest() };
}

function guest() {
  let name = sessionStorage.getItem(USER_KEY);
  if (!name) {
    name = `guest-${crypto.getRandomValues(new Uint16Array(1))[0].toString(16).padStart(4, '0')}`;
    sessionStorage.setItem(USER_KEY, name);
  }
  return name;
}

// ---- the phone --------------------------------------------------------------------------------------------

function showPhoneState(state) {
  $('status').dataset.state = state;
  $('status-text').textContent = state === 'ready' ? `Ready as ${phone.user}` : PHONE_STATES[state];
}

phone.on('state', (state) => {
  showPhoneState(state);
  if (state === 'ready' && $('outcome').dataset.code === 'connection') hideOutcome();
});

phone.on('error', (error) => {
  if (error.code === 'unauthorized') sessionStorage.removeItem(TOKEN_KEY);
  if (call || incoming || !$('outcome').hidden && error.code === 'connection-lost') return;
  const connection = ['unreachable', 'connection-lost', 'draining'].includes(error.code);
  showProblem(error, { code: connection ? 'connection' : error.code });
});

phone.on('incoming', (arrived) => {
  incoming = arrived;
  const { number, name } = arrived.remote;
  $('incoming-from').textContent = name || number || 'Unknown number';
  $('incoming-to').textContent = name && number ? number : '';
  $('incoming').hidden = false;
  hideOutcome();
  sounds.ring();
  say(`Incoming call from ${name || number || 'an unknown number'}`);
  $('answer').focus();
  showTitle();
  arrived.on('end', (ended) => {
    if (incoming === arrived) closeIncoming();
    if (call !== arrived) showEnd(arrived, ended);
  });
});

function closeIncoming() {
  incoming = null;
  $('incoming').hidden = true;
  sounds.silence();
  showTitle();
}

async function answer() {
  const accepted = incoming;
  if (!accepted) return;
  closeIncoming();
  takeCall(accepted);
  // What goes wrong is told by the call's end.
  await accepted.accept().catch(() => {});
}

function decline() {
  incoming?.reject(603);
}

// ---- a call -----------------------------------------------------------------------------------------------

async function dial(text) {
  const read = readNumber(text);
  if (call || dialling || !read.number) return;
  $('number').value = text;
  showNumber();
  hideOutcome();
  dialling = new AbortController();
  showDialling(read.number);
  const { signal } = dialling;
  try {
    const made = await phone.call(read.number, { signal });
    dialling = null;
    takeCall(made);
  } catch (error) {
    dialling = null;
    showDialView();
    if (!signal.aborted) showProblem(error, { code: error.code });
  }
}

/** Between the click and the offer: a moment, or as long as the question for the microphone is open. */
function showDialling(number) {
  showCallView(number);
  $('state').textContent = 'Opening the microphone…';
}

function takeCall(taken) {
  call = taken;
  const { number, name } = call.remote;
  showCallView(name || number || 'Unknown number');
  call.on('state', showCall);
  call.on('hold', showCall);
  call.on('mute', showCall);
  call.on('level', showLevels);
  call.on('quality', showQuality);
  call.on('warning', ({ text, remedies }) => {
    showWarning();
    say([text, ...remedies].join(' ').replaceAll('`', ''));
  });
  call.on('cleared', showWarning);
  call.on('transfer', showCall);
  call.on('transferred', ({ number }) => {
    $('remote').textContent = number;
    say(`Connected with ${number}`);
    showCall();
  });
  call.on('digit', (digit) => { say(`They pressed ${digit}`); });
  call.on('end', (ended) => {
    clearInterval(timer);
    call = null;
    showDialView();
    showEnd(taken, ended);
  });
  timer = setInterval(showTimer, 250);
  if (call.ended) {
    clearInterval(timer);
    showDialView();
    showEnd(call, call.ended);
    call = null;
    return;
  }
  showCall();
}

function showCall() {
  if (!call || call.state === 'ended') return;
  const held = call.held ? 'On hold' : call.heldByThem ? 'They put you on hold' : '';
  const muted = call.muted && !call.held ? ' · muted' : '';
  const state = (transferring || held || STATES[call.state] || '') + muted;
  if ($('state').textContent !== state) $('state').textContent = state;
  $('avatar').classList.toggle('ringing', call.state === 'ringing' || call.state === 'connecting');
  $('call').toggleAttribute('data-held', Boolean(held));
  $('call').dataset.state = call.state;
  $('call').dataset.id = call.id;
  toggle('mute', call.muted, call.muted ? 'Muted' : 'Mute');
  $('mute-icon').setAttribute('href', call.muted ? '#i-mic-off' : '#i-mic');
  toggle('hold', call.held, call.held ? 'Resume' : 'Hold');
  $('hold').disabled = call.state !== 'active';
  $('transfer-form').hidden = call.state !== 'active';
  showTimer();
  showTitle();
}

function toggle(id, on, label) {
  $(id).setAttribute('aria-pressed', String(on));
  $(id).querySelector('span').textContent = label;
}

function showTimer() {
  $('timer').textContent = call?.answeredAt ? clock(Date.now() - call.answeredAt) : '';
}

function showLevels(inDb, outDb) {
  const percent = (db) => Math.round(100 * Math.min(1, Math.max(0, (db - METER_DB.empty) / (METER_DB.full - METER_DB.empty))));
  $('meter-in').style.setProperty('--level', `${percent(inDb)}%`);
  $('meter-out').style.setProperty('--level', `${percent(outDb)}%`);
}

/** Both legs, each by its worse direction. */
function showQuality({ grade, delayMs, down, up, trunkDown, trunkUp }) {
  $('quality').dataset.grade = grade;
  $('grade').textContent = GRADES[grade] ?? grade;
  $('quality-delay').textContent = delayMs === undefined ? '' : `· ${delayMs} ms`;
  $('leg-up').textContent = leg(up, down);
  $('leg-down').textContent = leg(trunkDown, trunkUp);
  $('quality').hidden = $('legs').hidden = false;
}

function leg(from, to) {
  const known = [from, to].filter(Boolean);
  if (known.length === 0) return 'nothing comes';
  const most = (name) => Math.max(...known.map((way) => way[name] ?? 0));
  const { codec, rttMs } = known[0];
  const facts = [codec, `${most('lossPct').toFixed(1)} % lost`, `jitter ${most('jitterMs')} ms`];
  if (rttMs !== undefined) facts.push(`there and back ${rttMs} ms`);
  return [...facts, `MOS ${Math.min(...known.map(({ mos }) => mos)).toFixed(1)}`].join(' · ');
}

/** The oldest of what is wrong. */
function showWarning() {
  const [warning] = call?.warnings ?? [];
  $('warning').hidden = !warning;
  if (!warning) return;
  $('warning').dataset.code = warning.code;
  $('warning-title').textContent = warning.text;
  fill($('warning-causes'), warning.causes);
  fill($('warning-remedies'), warning.remedies);
}

function showCallView(remote) {
  $('quality').hidden = $('legs').hidden = $('warning').hidden = true;
  document.body.dataset.view = 'call';
  $('remote').textContent = remote;
  $('digits-sent').textContent = '';
  $('state').textContent = '';
  $('timer').textContent = '';
  $('call').dataset.state = 'connecting';
  $('avatar').classList.add('ringing');
  showLevels(-100, -100);
  toggle('mute', false, 'Mute');
  toggle('hold', false, 'Hold');
  $('hold').disabled = true;
  $('transfer-form').hidden = true;
  $('transfer-to').value = '';
  $('transfer').disabled = true;
  setView(true);
  $('hangup').focus();
}

function showDialView() {
  document.body.dataset.view = 'dial';
  setView(false);
  showTitle();
  focusNumber();
}

/** Where there is a keyboard: on a touch screen the focus would bring one up, over the keypad. */
function focusNumber() {
  if (!matchMedia('(hover: hover)').matches) return;
  $('number').focus({ preventScroll: true });
  $('number').select();
}

function setView(inCall) {
  for (const id of ['call', 'hangup', 'mute', 'hold']) $(id).hidden = !inCall;
  for (const id of ['dial-form', 'dial']) $(id).hidden = inCall;
  for (const button of $('demo-list').querySelectorAll('button')) button.disabled = inCall;
}

function hangup() {
  dialling?.abort();
  call?.hangup();
}

async function toggleHold() {
  if (call?.state !== 'active') return;
  $('hold').disabled = true;
  // A refused hold is told by the phone's error event.
  await call.hold(!call.held).catch(() => {});
  showCall();
}

async function transfer() {
  const read = readNumber($('transfer-to').value);
  if (call?.state !== 'active' || !read.number) return;
  const transferred = call;
  for (const id of ['transfer', 'transfer-to']) $(id).disabled = true;
  transferring = `Transferring to ${read.number}…`;
  showCall();
  try {
    await transferred.transfer(read.number);
  } catch (error) {
    if (call === transferred) showProblem(error, { callId: call.id, code: error.code });
  }
  transferring = '';
  for (const id of ['transfer', 'transfer-to']) $(id).disabled = false;
  showCall();
}

// ---- how it ended -----------------------------------------------------------------------------------------

function showEnd(ended, end) {
  if (USUAL_ENDS.has(end.cause)) showSummary(ended, end);
  else showProblem(end, { callId: ended.id, code: end.cause });
}

function showSummary(ended, end) {
  const who = ended.remote.name || ended.remote.number;
  const facts = [who, ended.answeredAt ? clock(end.durationMs) : 'not answered'];
  if (ended.timings.sound !== undefined) facts.push(`sound after ${Math.round(ended.timings.sound)} ms`);
  showOutcome({ kind: 'info', title: summary(ended, end), detail: facts.filter(Boolean).join(' · '), callId: ended.id, code: end.cause });
}

function summary(ended, end) {
  if (end.cause === 'answered-elsewhere') return 'Answered elsewhere.';
  if (end.cause === 'declined') return end.by === 'us' ? 'You declined.' : 'They declined.';
  if (end.cause === 'transferred') return 'Transferred.';
  if (end.by === 'us') return 'You hung up.';
  return ended.direction === 'in' && !ended.answeredAt ? 'Missed call.' : 'They hung up.';
}

function showProblem({ text, message, causes = [], remedies = [] }, { callId, code } = {}) {
  const said = text ?? message;
  // A gateway that has much to say says it below the usual title.
  const [title, detail] = said.length > LONGEST_TITLE ? [new PhoneError(code).text, said] : [said, ''];
  showOutcome({ kind: 'problem', title, detail, causes: detail ? [] : causes, remedies: detail ? [] : remedies, callId, code });
}

function showOutcome({ kind, title, detail = '', causes = [], remedies = [], callId = '', code = '' }) {
  const box = $('outcome');
  box.dataset.kind = kind;
  box.dataset.code = code;
  $('outcome-icon').setAttribute('href', kind === 'problem' ? '#i-problem' : '#i-info');
  $('outcome-title').textContent = title;
  $('outcome-detail').textContent = detail;
  fill($('outcome-causes'), causes);
  fill($('outcome-remedies'), remedies);
  $('call-id').textContent = callId;
  $('call-id-row').hidden = callId === '';
  box.hidden = false;
  say([title, ...remedies].join(' ').replaceAll('`', ''));
}

function fill(list, lines) {
  list.replaceChildren(...lines.map((line) => element('li', ...withCode(line))));
}

/** Text between backquotes as code. */
function withCode(text) {
  return text.split('`').map((part, at) => (at % 2 === 1 ? element('code', part) : part));
}

function element(name, ...content) {
  const made = document.createElement(name);
  made.append(...content);
  return made;
}

function hideOutcome() {
  $('outcome').hidden = true;
}

async function copyCallId() {
  const id = $('call-id').textContent;
  try {
    await navigator.clipboard.writeText(id);
    say('Call id copied');
    $('copy-id').setAttribute('aria-label', 'Copied');
  } catch {
    getSelection().selectAllChildren($('call-id'));
  }
}

/** For screen readers, at once. */
function say(text) {
  $('alert').textContent = text;
}

function showTitle() {
  const what = incoming ? `☎ ${incoming.remote.number}` : call ? `● ${call.remote.number}` : '';
  document.title = what ? `${what} · Ringback` : 'Ringback';
}

// ---- number field, keypad, keyboard -----------------------------------------------------------------------

function showNumber() {
  const field = $('number');
  const read = readNumber(field.value);
  $('dial').disabled = !read.number;
  $('erase').hidden = field.value === '';
  field.classList.toggle('long', field.value.length > 15);
  $('number-hint').classList.toggle('problem', Boolean(read.problem));
  $('number-hint').textContent = read.problem ?? (read.changed ? `Will dial ${read.number}` : '');
}

function press(key) {
  if (call && call.state !== 'active') return; // digits are for the one who has answered
  const button = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  button?.classList.add('pressed');
  setTimeout(() => button?.classList.remove('pressed'), 120);
  sounds.key(key);
  if (call) {
    call.digits(key).catch(() => {});
    $('digits-sent').textContent += key;
  } else if (!dialling) {
    type(key);
  }
}

function type(text) {
  const field = $('number');
  const focused = document.activeElement === field;
  const from = focused ? field.selectionStart : field.value.length;
  const to = focused ? field.selectionEnd : field.value.length;
  field.setRangeText(text, from, to, 'end');
  showNumber();
}

function erase() {
  $('number').value = $('number').value.slice(0, -1);
  showNumber();
  $('number').focus();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  sounds.unlock();
  if (event.target === $('transfer-to')) {
    if (event.key === 'Escape') $('transfer-to').blur();
    return; // everything else is the field's or the form's own
  }
  const typing = event.target === $('number');
  const onButton = event.target instanceof HTMLButtonElement;
  if (event.key === 'Escape') {
    if (incoming) decline();
    else if (call || dialling) hangup();
    else hideOutcome();
  } else if (event.key === 'Enter') {
    if (onButton || typing) return; // the button's or the form's own
    if (incoming) answer();
    else dial($('number').value);
  } else if (call && event.key.toLowerCase() === 'm') {
    call.mute(!call.muted);
  } else if (call && event.key.toLowerCase() === 'h') {
    toggleHold();
  } else if (/^[\d*#]$/.test(event.key) && !typing) {
    press(event.key);
  } else if (!call && !typing && !incoming && event.key === '+') {
    type('+');
  } else if (!call && !typing && !incoming && event.key === 'Backspace') {
    erase();
  } else {
    return;
  }
  event.preventDefault();
}

/** A long press on 0 is a +. */
function watchZero() {
  const zero = document.querySelector('[data-key="0"]');
  let held = null;
  let plus = false;
  zero.addEventListener('pointerdown', () => {
    plus = false;
    held = setTimeout(() => { if (!call) { plus = true; type('+'); } }, LONG_PRESS_MS);
  });
  for (const end of ['pointerup', 'pointerleave', 'pointercancel']) zero.addEventListener(end, () => clearTimeout(held));
  return () => plus;
}

const plusWasTyped = watchZero();
$('keypad').addEventListener('click', (event) => {
  const key = event.target.closest('button')?.dataset.key;
  if (key && !(key === '0' && plusWasTyped())) press(key);
});
$('demo-list').addEventListener('click', (event) => {
  const number = event.target.closest('button')?.dataset.dial;
  if (number) dial(number);
});
$('dial-form').addEventListener('submit', (event) => { event.preventDefault(); dial($('number').value); });
$('transfer-form').addEventListener('submit', (event) => { event.preventDefault(); transfer(); });
$('transfer-to').addEventListener('input', () => { $('transfer').disabled = !readNumber($('transfer-to').value).number; });
$('number').addEventListener('input', showNumber);
$('number').addEventListener('paste', (event) => {
  // Spaces and line ends around what was copied are not part of the number.
  const text = event.clipboardData.getData('text').trim();
  event.preventDefault();
  type(text);
});
$('erase').addEventListener('click', erase);
$('hangup').addEventListener('click', hangup);
$('mute').addEventListener('click', () => call?.mute(!call.muted));
$('hold').addEventListener('click', toggleHold);
$('answer').addEventListener('click', answer);
$('decline').addEventListener('click', decline);
$('copy-id').addEventListener('click', copyCallId);
$('outcome-close').addEventListener('click', hideOutcome);
document.addEventListener('keydown', onKey);
document.addEventListener('pointerdown', () => sounds.unlock());

// ---- start ------------------------------------------------------------------------------------------------

async function showGateway() {
  const about = await fetch('softphone.json').then((response) => response.json()).catch(() => ({}));
  $('demo').hidden = !about.testphone;
}

$('number').value = new URLSearchParams(location.search).get('to') ?? '';
showNumber();
focusNumber();
showGateway();
phone.warmUp().catch(() => {});
// Failures are told by the error event, and tried again.
phone.start().catch(() => {});
