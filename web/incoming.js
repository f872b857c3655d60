/** A call that comes in: over the phone where it is idle, as a card where a call is up; and told by the system. */

import { $, say, setText, showAvatar, Stored, who } from './dom.js';

const wanted = new Stored('notify', false);
const canNotify = 'Notification' in globalThis;
let notification = null;

/** @param beside whether another call is up already */
export function showIncoming(call, { beside }) {
  const { number, name, verified } = call.remote;
  const box = $('incoming');
  $('incoming-from').textContent = who(call.remote);
  $('incoming-to').textContent = name && number ? number : '';
  $('incoming-note').textContent = Object.values(call.params ?? {}).join(' · ');
  $('incoming-note').hidden = !$('incoming-note').textContent;
  $('verified').hidden = verified !== 'A';
  showAvatar($('incoming-avatar'), call.remote);
  box.toggleAttribute('data-waiting', beside);
  $('end-answer').hidden = !beside;
  setText($('answer-text'), beside ? 'Hold & answer' : 'Answer');
  box.hidden = false;
  say(`Incoming call from ${who(call.remote)}`);
  // Who is typing a number or talking is not made to answer by the next key.
  if (!beside && !$('number').value) $('answer').focus();
  notify(call);
}

export function hideIncoming() {
  $('incoming').hidden = true;
  notification?.close();
  notification = null;
}

function notify(call) {
  if (!document.hidden || !wanted.value || !canNotify || Notification.permission !== 'granted') return;
  try {
    notification = new Notification('Incoming call', { body: who(call.remote), tag: 'ringback', icon: 'favicon.svg', requireInteraction: true });
    notification.addEventListener('click', () => { globalThis.focus(); notification?.close(); });
  } catch { /* some browsers have them for service workers only */ }
}

async function toggleNotifications() {
  if (!wanted.value && Notification.permission !== 'granted') await Notification.requestPermission();
  wanted.value = !wanted.value && Notification.permission === 'granted';
  showNotifications();
}

function showNotifications() {
  const denied = canNotify && Notification.permission === 'denied';
  $('notify').disabled = !canNotify || denied;
  $('notify').setAttribute('aria-checked', String(wanted.value && canNotify && Notification.permission === 'granted'));
  if (!canNotify) setText($('notify-note'), 'This browser has none');
  if (denied) setText($('notify-note'), 'Blocked: allow them in the settings of this site');
}

$('notify').addEventListener('click', toggleNotifications);
showNotifications();
