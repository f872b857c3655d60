/** The call on the screen, the other call above it, and the buttons below. */

import { clock } from './number.js';
import { $, setText, showAvatar, who } from './dom.js';
import { meter } from './devices.js';
import { showFacts, showQuality, showWarning } from './quality-view.js';

const STATES = {
  new: 'Connecting…', connecting: 'Connecting…', ringing: 'Ringing…', early: 'Not answered yet, listening…', active: 'In call', reconnecting: 'Reconnecting, stay on the line…',
};

/**
 * @param view.call the call on the screen; `null` while one is being dialled
 * @param view.number the number being dialled
 * @param view.transferring what is said while a transfer is under way
 * @param view.deck what the lower part shows: controls, keypad or transfer
 * @param view.canAdd whether there is room for another call
 */
export function showCall({ call, number, transferring, deck, canAdd }) {
  const remote = call?.remote ?? { number };
  const state = call?.state ?? 'connecting';
  const name = who(remote);
  if ($('remote').textContent !== name) {
    $('remote').textContent = name;
    showAvatar($('avatar'), remote);
  }
  setText($('remote-more'), remote.name && remote.number ? remote.number : '');
  $('remote-more').hidden = !$('remote-more').textContent;
  $('avatar').classList.toggle('ringing', ['new', 'connecting', 'ringing'].includes(state));
  $('call').dataset.state = state;
  $('call').dataset.id = call?.id ?? '';
  $('call').toggleAttribute('data-held', Boolean(call?.held || call?.heldByThem));
  setText($('state'), call ? transferring || stateOf(call) : 'Opening the microphone…');
  showTimer($('timer'), call);
  showControls(call, canAdd, deck);
  showQuality(call);
  showWarning(call);
  showFacts(call);
  if (!call) showLevels(-100, -100);
}

/** What is to be said of a call besides its time. */
function stateOf(call) {
  const muted = call.muted && !call.held ? ' · muted' : '';
  if (call.state === 'active' && call.held) return 'On hold';
  if (call.state === 'active' && call.heldByThem) return `They put you on hold${muted}`;
  return (STATES[call.state] ?? '') + muted;
}

export function showTimer(timer, call) {
  setText(timer, call?.answeredAt ? clock(Date.now() - call.answeredAt) : '');
}

function showControls(call, canAdd, deck) {
  const active = call?.state === 'active';
  toggle('mute', Boolean(call?.muted), call?.muted ? 'Muted' : 'Mute');
  $('mute').disabled = !call;
  $('mute-icon').setAttribute('href', call?.muted ? '#i-mic-off' : '#i-mic');
  toggle('hold', Boolean(call?.held), call?.held ? 'Resume' : 'Hold');
  $('hold-icon').setAttribute('href', call?.held ? '#i-resume' : '#i-hold');
  for (const id of ['hold', 'keypad-toggle', 'transfer-open']) $(id).disabled = !active;
  $('add').disabled = !active || !canAdd;
  $('keypad').hidden = deck !== 'keypad';
  $('controls').hidden = deck !== 'controls';
  $('transfer-form').hidden = deck !== 'transfer';
  $('consult').hidden = !canAdd;
  $('deck-back').hidden = deck === 'controls';
}

function toggle(id, on, label) {
  $(id).setAttribute('aria-pressed', String(on));
  setText($(id).querySelector('span'), label);
}

/** In dB below full scale. */
export function showLevels(inDb, outDb) {
  $('meter-in').style.setProperty('--level', meter(inDb));
  $('meter-out').style.setProperty('--level', meter(outDb));
  $('avatar').style.setProperty('--voice', String(parseInt(meter(inDb), 10) / 100));
}

/**
 * The call that is not on the screen.
 * @param view.action what its button does: `Swap` or `Return`; absent: nothing can be done with it now
 * @param view.canJoin whether both sides could be connected
 */
export function showOther(call, { action, canJoin } = {}) {
  $('other-line').hidden = !call;
  if (!call) return;
  setText($('other-who'), who(call.remote));
  showOtherTime(call);
  $('swap').hidden = !action;
  setText($('swap-text'), action ?? '');
  $('join').hidden = !canJoin;
}

export function showOtherTime(call) {
  const time = call.answeredAt ? ` · ${clock(Date.now() - call.answeredAt)}` : '';
  setText($('other-state'), `${stateOf(call)}${time}`);
}
