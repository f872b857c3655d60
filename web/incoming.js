/** A call that comes in: over the phone where it is idle, as a card where a call is up; and told by the system. Also which telephone links the system hands to us. */

import { $, say, setText, showAvatar, Stored, who } from './dom.js';

const wanted = new Stored('notify', false);
const canNotify = 'Notification' in globalThis;
let notification = null;

/**
 * @param beside whether another call is up already
 * @param typing whether the next key is meant for the number field
 */
export function showIncoming(call, { beside, typing }) {
  const { number, name, verified } = call.remote;
  const box = $('incoming');
  $('incoming-from').textContent = who(call.remote);
  $('incoming-to').textContent = name && number ? number : '';
  $('incoming-note').textContent = Object.entries(call.params).map(([name, value]) => `${name}: ${value}`).join(' · ');
  $('incoming-note').hidden = !$('incoming-note').textContent;
  $('verified').hidden = verified !== 'A';
  showAvatar($('incoming-avatar'), call.remote);
  box.toggleAttribute('data-waiting', beside);
  $('end-answer').hidden = !beside;
  setText($('answer-text'), beside ? 'Hold & answer' : 'Answer');
  box.hidden = false;
  say(`Incoming call from ${who(call.remote)}`);
  if (!beside) (typing ? box : $('answer')).focus();
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

/** Makes `tel:` links of all pages open here; the browser asks. */
function openLinksHere() {
  const url = new URL(location.pathname, location.href);
  navigator.registerProtocolHandler('tel', `${url.href}?to=%s`);
}

$('tel-row').hidden = typeof navigator.registerProtocolHandler !== 'function';
$('tel-links').addEventListener('click', openLinksHere);
$('notify').addEventListener('click', toggleNotifications);
showNotifications();
