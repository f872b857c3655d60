/**
 * The softphone page: one Phone, up to two calls of which one is on the screen, and what is done with them.
 *
 * `?to=` fills in a number, as `tel:` links have it. Who is calling: identity.js.
 */

import { Phone } from './ringback.js';
import { showCall, showLevels, showOther, showOtherTime, showTimer } from './call-view.js';
import { Devices } from './devices.js';
import { $, copy, say, setText, Stored, who } from './dom.js';
import { History } from './history.js';
import { forgetToken, identity, phoneUrl } from './identity.js';
import { hideIncoming, showIncoming } from './incoming.js';
import { readNumber } from './number.js';
import { NumberField } from './number-field.js';
import { hideOutcome, outcomeIs, outcomeIsShown, showEnd, showProblem } from './outcome.js';
import * as pages from './pages.js';
import { noteQuality } from './quality-view.js';

const MAX_CALLS = 2;
const LONG_PRESS_MS = 500;
/** Who is in the middle of a number when a call comes in does not mean to answer it with his next Enter. */
const TYPING_MS = 1500;
const PHONE_STATES = { offline: 'Offline', connecting: 'Connecting…', reconnecting: 'Reconnecting…', closed: 'Stopped' };
/** Errors of the way to the gateway: told until it is there again. */
const CONNECTION_ERRORS = new Set(['unreachable', 'connection-lost', 'draining']);
/** Ends after which the same call would end the same way. */
const NOT_AGAIN = new Set(['not-allowed', 'caller-id-not-allowed', 'invalid-number', 'unknown-number', 'number-changed', 'unwanted', 'blocked']);

const options = { url: phoneUrl(), ...identity() };
const phone = new Phone({ ...options, whileBusy: 'offer', keepCalls: true, guardPage: true });
/** The calls we are in, oldest first, and the one on the screen. */
let calls = [];
let current = null;
let incoming = null;
/** It is being answered, and waits for the call that is up to be held. */
let accepting = false;
/** A number on its way to be a call, between the click and the offer: `{ number, abort }`. */
let dialling = null;
/** The number field is shown although a call is up, for a second one. */
let adding = false;
let deck = 'controls';
let transferring = '';
let typedAt = -TYPING_MS;
/** Holding or swapping is under way: the same key again changes nothing. */
let busy = false;

const history = new History((number) => dial(number));
new Devices(phone, options);
const ask = (number) => (phone.state === 'ready' ? phone.check(number) : Promise.resolve(null));
const number = new NumberField($('number'), $('number-hint'), { ask, onChange: (dialled) => {
  $('dial').disabled = !dialled;
  $('erase').hidden = $('number').value === '';
} });
const transferTo = new NumberField($('transfer-to'), $('transfer-hint'), { ask, onChange: (dialled) => {
  $('transfer').disabled = $('consult').disabled = !dialled || Boolean(transferring);
} });

// ---- the phone --------------------------------------------------------------------------------------------

phone.on('state', (state) => {
  $('status').dataset.state = state;
  setText($('status-text'), state === 'ready' ? `Ready as ${phone.user}` : PHONE_STATES[state]);
  if (state !== 'ready') return;
  history.of(phone.user);
  number.show();
  if (outcomeIs('connection')) hideOutcome();
});

phone.on('error', (error) => {
  if (error.code === 'unauthorized') forgetToken();
  if (error.code === 'wrong-state') return; // ours crossed a change of the call, which is shown
  const connection = CONNECTION_ERRORS.has(error.code);
  // In a call its own state tells of the connection; a problem that is read already is not replaced by that of the next try.
  if (connection && (calls.length > 0 || incoming || outcomeIsShown())) return;
  showProblem(error, { code: connection ? 'connection' : error.code });
});

phone.on('tokenexpiring', (msLeft) => {
  if (typeof options.token !== 'string') return; // a function is asked again
  const text = `Sign-in ends in ${Math.max(1, Math.round(msLeft / 60_000))} min`;
  setText($('status-text'), text);
});

phone.on('incoming', (arrived) => {
  if (incoming || calls.length + (dialling ? 1 : 0) >= MAX_CALLS) {
    arrived.on('end', (end) => history.add(arrived, { ...end, cause: 'busy' }, 'You were on other calls.'));
    return arrived.reject(486);
  }
  incoming = arrived;
  if (calls.length === 0) {
    hideOutcome();
    pages.go('phone');
  }
  showIncoming(arrived, { beside: calls.length > 0 || Boolean(dialling), typing: isTyping() });
  showTitle();
  arrived.on('end', (end) => {
    if (incoming !== arrived) return;
    closeIncoming();
    history.add(arrived, end);
    showEnd(arrived, end);
  });
});

phone.on('resumed', (call) => {
  take(call);
  say('The call goes on.');
});

function closeIncoming() {
  incoming = null;
  hideIncoming();
  showTitle();
}

/** @param before what becomes of the call that is up: `hold` or `end` */
async function answer(before = 'hold') {
  const accepted = incoming;
  if (!accepted || accepting) return;
  accepting = true;
  if (before === 'end') hangup();
  const free = before === 'end' || await makeRoom();
  accepting = false;
  if (!free || incoming !== accepted) return; // it rings still, or no more
  closeIncoming();
  take(accepted);
  // What goes wrong is told by the call's end.
  await accepted.accept().catch(() => {});
}

/** The call that is up is held for another one. Says whether that could be; else it is shown why not. */
async function makeRoom() {
  if (calls.length + (dialling ? 1 : 0) >= MAX_CALLS) {
    showProblem({ text: 'You are on two calls: end one of them first.' }, { code: 'two-calls' });
    return false;
  }
  const held = current;
  try {
    await holdCurrent();
  } catch (error) {
    if (held.ended) return true;
    showProblem(error, { callId: held.id, code: error.code });
    return false;
  }
  return true;
}

function decline() {
  incoming?.reject(603);
}

// ---- calls ------------------------------------------------------------------------------------------------

async function dial(text) {
  const { number: dialled } = readNumber(text ?? '');
  if (dialling || !dialled || calls.length + (accepting ? 1 : 0) >= MAX_CALLS || (calls.length > 0 && !adding)) return;
  number.text = text;
  adding = false;
  deck = 'controls';
  hideOutcome();
  const abort = new AbortController();
  dialling = { number: dialled, abort };
  render();
  try {
    await holdCurrent();
    abort.signal.throwIfAborted();
    const made = await phone.call(dialled, { signal: abort.signal });
    dialling = null;
    take(made);
  } catch (error) {
    dialling = null;
    render();
    if (abort.signal.aborted) return;
    history.addEntry({ number: dialled, way: 'out', at: Date.now(), text: error.text ?? error.message });
    showProblem(error, { code: error.code, again: () => dial(dialled) });
  }
}

async function holdCurrent() {
  if (current?.state === 'active' && !current.held) await current.hold(true);
}

/** A call is ours, and on the screen. */
function take(taken) {
  calls.push(taken);
  current = taken;
  adding = false;
  deck = 'controls';
  $('digits-sent').textContent = '';
  for (const event of ['state', 'id', 'hold', 'mute', 'cleared', 'transfer', 'accept']) taken.on(event, render);
  // Two sides are never heard at once: what is answered while another call is on the screen waits.
  taken.on('accept', () => { if (taken !== current) taken.hold(true).catch(() => {}); });
  taken.on('level', (inDb, outDb) => { if (taken === current && !dialling) showLevels(inDb, outDb); });
  taken.on('quality', (quality) => { noteQuality(taken, quality); render(); });
  taken.on('warning', ({ text, remedies }) => {
    render();
    say([text, ...remedies].join(' '));
  });
  taken.on('transferred', (remote) => {
    say(`Connected with ${who(remote)}`);
    render();
  });
  taken.on('digit', (digit) => say(`They pressed ${digit}`));
  taken.on('end', (end) => close(taken, end));
  if (taken.ended) close(taken, taken.ended);
  else render();
}

function close(ended, end) {
  calls = calls.filter((call) => call !== ended);
  if (calls.length === 0) adding = false;
  if (current === ended) {
    current = calls[0] ?? null;
    deck = 'controls';
  }
  transferring = '';
  history.add(ended, end);
  render();
  const whom = ended.direction === 'out' ? ended.to : ended.remote.number;
  showEnd(ended, end, whom && !NOT_AGAIN.has(end.cause) && calls.length === 0 ? () => dial(whom) : undefined);
}

function hangup() {
  if (dialling) {
    dialling.abort.abort();
    if (calls.length > 0) current = calls[0];
    return;
  }
  current?.hangup();
}

/** One change at a time; a refusal is told by the phone's error event. */
async function change(calling) {
  if (busy) return;
  busy = true;
  await calling().catch(() => {});
  busy = false;
  render();
}

function toggleHold() {
  const held = current;
  if (held?.state === 'active') change(() => held.hold(!held.held));
}

const otherCall = () => calls.find((call) => call !== current) ?? null;

/** To the other call, or back to the one that is up from the field for another. */
function swap() {
  if (adding) return backToCall();
  const other = otherCall();
  if (!other || dialling) return;
  change(async () => {
    await holdCurrent();
    current = other;
    deck = 'controls';
    render();
    if (other.held) await other.hold(false);
    say(`Talking to ${who(other.remote)}`);
  });
}

function add() {
  if (current?.state !== 'active' || calls.length >= MAX_CALLS) return;
  adding = true;
  number.text = '';
  render();
  focusNumber();
}

function backToCall() {
  adding = false;
  deck = 'controls';
  render();
}

// ---- transfer ---------------------------------------------------------------------------------------------

function openTransfer() {
  if (current?.state !== 'active') return;
  deck = 'transfer';
  transferTo.text = '';
  render();
  $('transfer-to').focus();
}

/** Connects the other side with a number, or with the other side of the other call. */
async function transfer(to, name) {
  const transferred = current;
  if (transferred?.state !== 'active' || transferring) return;
  transferring = `Connecting with ${name}…`;
  deck = 'controls';
  render();
  try {
    await transferred.transfer(to);
  } catch (error) {
    if (calls.includes(transferred)) showProblem(error, { callId: transferred.id, code: error.code });
  }
  transferring = '';
  render();
}

async function consult() {
  const dialled = transferTo.number;
  if (!dialled) return;
  adding = true;
  await dial(dialled);
}

function join() {
  const other = otherCall();
  if (other) transfer(other, who(other.remote));
}

// ---- what is shown ----------------------------------------------------------------------------------------

function render() {
  const inCall = !adding && Boolean(dialling || current);
  const wasInCall = document.body.dataset.view === 'call';
  document.body.dataset.view = inCall ? 'call' : 'dial';
  document.body.toggleAttribute('data-call', calls.length > 0 || Boolean(dialling));
  for (const id of ['call', 'hangup']) $(id).hidden = !inCall;
  for (const id of ['dial-form', 'dial']) $(id).hidden = inCall;
  if (inCall) {
    showCall({ call: dialling ? null : current, number: dialling?.number, transferring, deck, canAdd: calls.length < MAX_CALLS });
  } else {
    for (const id of ['controls', 'transfer-form']) $(id).hidden = true;
    $('keypad').hidden = false;
    $('deck-back').hidden = !adding;
  }
  showBeside(inCall);
  const idle = calls.length === 0 && !dialling;
  history.canDial = idle || adding;
  for (const button of $('demo-list').querySelectorAll('button')) button.disabled = !idle && !adding;
  showTitle();
  if (inCall !== wasInCall) changeView(inCall);
}

function showBeside(inCall) {
  if (adding) return showOther(current, { action: 'Return' });
  if (dialling) return showOther(current);
  const other = inCall ? otherCall() : null;
  const answered = [current, other].every((call) => call?.answeredAt && call.state === 'active');
  showOther(other, { action: 'Swap', canJoin: answered && !transferring });
}

function changeView(inCall) {
  if (inCall) {
    pages.enterCall();
    $('remote').focus({ preventScroll: true });
  } else {
    pages.leaveCall();
    focusNumber();
  }
}

function showTimes() {
  if (calls.length === 0) return;
  showTimer($('timer'), dialling ? null : current);
  const beside = adding || dialling ? current : otherCall();
  if (beside) showOtherTime(beside);
}

function showTitle() {
  const what = incoming ? `☎ ${who(incoming.remote)}` : current ? `● ${who(current.remote)}` : '';
  const title = what ? `${what} · Ringback` : 'Ringback';
  if (document.title !== title) document.title = title;
}

/** Where there is a keyboard: on a touch screen the focus would bring one up, over the keypad. */
function focusNumber() {
  if (!matchMedia('(hover: hover)').matches) return;
  $('number').focus({ preventScroll: true });
  $('number').select();
}

// ---- keypad and keyboard ----------------------------------------------------------------------------------

function press(key) {
  const inCall = document.body.dataset.view === 'call';
  if (inCall && (dialling || current?.state !== 'active')) return; // digits are for the one who has answered
  const pressed = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  pressed?.classList.add('pressed');
  setTimeout(() => pressed?.classList.remove('pressed'), 120);
  if (inCall) {
    current.digits(key).catch(() => {});
    $('digits-sent').textContent += key;
  } else {
    phone.audio.play('dtmf', key);
    hideOutcome();
    number.type(key);
    noteTyping();
  }
}

function toggleKeypad() {
  if (current?.state !== 'active' || adding) return;
  deck = deck === 'keypad' ? 'controls' : 'keypad';
  render();
  if (deck === 'keypad') document.querySelector('[data-key="1"]').focus({ preventScroll: true });
}

/** One step back from wherever one is; at last, out of the call. */
function escape() {
  if (incoming) decline();
  else if (pages.sheetIsOpen()) pages.closeSheet();
  else if (adding) backToCall();
  else if (current && !dialling && deck !== 'controls') closeDeck();
  else if (current || dialling) hangup();
  else hideOutcome();
}

function closeDeck() {
  const opener = deck === 'transfer' ? 'transfer-open' : 'keypad-toggle';
  deck = 'controls';
  render();
  $(opener).focus();
}

const shortcuts = new Stored('shortcuts', true);

/** Who steers by voice, or whose pet does, can do without keys of one character (WCAG 2.1.4). */
function toggleShortcuts() {
  shortcuts.value = !shortcuts.value;
  showShortcuts();
}

function showShortcuts() {
  $('shortcuts').setAttribute('aria-checked', String(shortcuts.value));
}

const IN_CALL_KEYS = { m: () => current.mute(!current.muted), h: toggleHold, k: toggleKeypad, t: openTransfer, a: add, s: swap };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const { key, target } = event;
  const inField = target.matches('input, select');
  if (key === 'Escape' && target.matches('select, [type="range"]')) return target.blur();
  if (key.length === 1 && !shortcuts.value) return;
  const inCall = Boolean(current) && !dialling && !adding;
  if (key === 'Escape') escape();
  else if (inField) return; // everything else is the field's own
  else if (key === 'Enter') {
    if (target instanceof HTMLButtonElement || target.matches('summary')) return; // the button's own
    if (!incoming) dial(number.text);
    else if (!isTyping()) answer();
  } else if (inCall && IN_CALL_KEYS[key.toLowerCase()]) IN_CALL_KEYS[key.toLowerCase()]();
  else if (adding && key.toLowerCase() === 's') backToCall();
  else if (incoming && !inCall) return;
  else if (/^[\d*#]$/.test(key)) press(key);
  else if (!inCall && key === '+') number.type('+');
  else if (!inCall && key === 'Backspace') erase();
  else return;
  event.preventDefault();
}

/** A call is near: the microphone opens meanwhile, where it may. */
function noteTyping() {
  typedAt = performance.now();
  phone.warmUp().catch(() => {});
}

const isTyping = () => performance.now() - typedAt < TYPING_MS;

function erase() {
  number.erase();
  if (matchMedia('(hover: hover)').matches) $('number').focus();
}

/** A long press on 0 is a +. */
function watchZero() {
  const zero = document.querySelector('[data-key="0"]');
  let held = null;
  let plus = false;
  zero.addEventListener('pointerdown', () => {
    plus = false;
    held = setTimeout(() => { if (document.body.dataset.view === 'dial') { plus = true; number.type('+'); } }, LONG_PRESS_MS);
  });
  for (const end of ['pointerup', 'pointerleave', 'pointercancel']) zero.addEventListener(end, () => clearTimeout(held));
  return () => plus;
}

const plusWasTyped = watchZero();
const clicks = {
  erase, hangup, 'mute': () => current?.mute(!current.muted), 'hold': toggleHold, 'answer': () => answer(), 'end-answer': () => answer('end'), decline, swap, join, add, consult,
  'keypad-toggle': toggleKeypad, 'transfer-open': openTransfer, 'shortcuts': toggleShortcuts,
  'deck-back': () => (adding ? backToCall() : closeDeck()),
  'audio': () => pages.open('audio'),
  'quality': () => (pages.isWide() ? pages.open('call') : pages.sheetIsOpen() ? pages.closeSheet() : pages.open('call')),
  'copy-live-id': () => copy($('live-id').textContent, $('copy-live-id')),
};
for (const [id, onClick] of Object.entries(clicks)) $(id).addEventListener('click', onClick);
$('keypad').addEventListener('click', (event) => {
  const key = event.target.closest('button')?.dataset.key;
  if (key && !(key === '0' && plusWasTyped())) press(key);
});
$('demo-list').addEventListener('click', (event) => {
  const dialled = event.target.closest('button')?.dataset.dial;
  if (dialled) dial(dialled);
});
$('dial-form').addEventListener('submit', (event) => { event.preventDefault(); dial(number.text); });
$('transfer-form').addEventListener('submit', (event) => {
  event.preventDefault();
  if (transferTo.number) transfer(transferTo.number, transferTo.number);
});
$('number').addEventListener('input', noteTyping);
document.addEventListener('pointerdown', () => { if (outcomeIs('sound-blocked')) hideOutcome(); });
document.addEventListener('keydown', onKey);

// ---- start ------------------------------------------------------------------------------------------------

async function showGateway() {
  const about = await fetch('softphone.json').then((response) => response.json()).catch(() => ({}));
  $('go-try').hidden = !about.testphone;
  if (about.testphone) pages.setHome('try');
}

setInterval(showTimes, 250);
showShortcuts();
phone.warmUp({ microphone: false }).catch(() => {});
number.text = new URLSearchParams(location.search).get('to') ?? '';
focusNumber();
showGateway();
// Failures are told by the error event, and tried again.
phone.start().catch(() => {});
