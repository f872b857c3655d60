/** The operator's page: which part of it is shown, and when it asks again. */

import { key } from './api.js';
import { CallPage } from './call.js';
import { $, setText } from './dom.js';
import { Overview } from './overview.js';

/** How often it asks; seldom enough that answers take no more than a tenth of the time. */
const EVERY_MS = 1000;
const AT_MOST = 10;

const overview = new Overview();
let page = { refresh: () => overview.refresh() };
let timer;
let round = 0;

function show(part) {
  for (const id of ['sign-in', 'overview', 'call']) $(id).hidden = id !== part;
}

function said(state, text) {
  $('status').dataset.state = state;
  setText($('status-text'), text);
}

/** Asks, shows, and comes again; what is asked for a page that was left is not shown. */
async function refresh() {
  clearTimeout(timer);
  round += 1;
  const [asked, mine] = [page, round];
  const begun = performance.now();
  let again = true;
  try {
    const answer = await asked.refresh();
    if (mine !== round) return;
    again = answer !== false;
    show(asked.call ? 'call' : 'overview');
    const state = answer?.draining ? 'draining' : 'serving';
    said(state, { draining: 'Draining', serving: again ? 'Live' : 'The call is over' }[state]);
  } catch (error) {
    if (mine !== round) return;
    if (error.status === 401) return signIn();
    said('offline', error.status === undefined ? 'This page is at fault' : error.message);
    if (error.status === undefined) console.error(error);
  }
  if (again && !document.hidden) timer = setTimeout(refresh, Math.max(EVERY_MS, AT_MOST * (performance.now() - begun)));
}

function signIn() {
  setText($('sign-in-problem'), key.refused ? 'The gateway does not know this one, or no longer.' : '');
  said('connecting', 'Not signed in');
  show('sign-in');
  $('key').focus();
}

/** `#/call/ID` is a call, `#key=KEY` a key, everything else all calls. */
function follow() {
  const [, given] = location.hash.match(/^#key=(.+)$/) ?? [];
  if (given) {
    key.set(decodeURIComponent(given));
    history.replaceState(null, '', '#/');
  }
  const [, id] = location.hash.match(/^#\/call\/([0-9a-f]{16})$/) ?? [];
  const call = id && new CallPage(id);
  page = call ? { refresh: () => call.refresh(), call } : { refresh: () => overview.refresh() };
  document.title = call ? `Call ${id} · Ringback` : 'Ringback dashboard';
  return refresh();
}

async function moved() {
  await follow();
  (page.call ? $('call-title') : $('main')).focus();
}

$('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  key.set($('key').value.trim());
  $('key').value = '';
  refresh();
});
$('hangup').addEventListener('click', () => {
  setText($('confirm-text'), `${$('call-title').textContent}: both sides are cut off.`);
  $('confirm').returnValue = '';
  $('confirm').showModal();
});
$('confirm').addEventListener('close', async () => {
  if ($('confirm').returnValue !== 'yes' || !page.call) return;
  await page.call.hangUp();
  refresh();
});
document.addEventListener('keydown', ({ key: pressed, target }) => {
  if (pressed === 'Escape' && page.call && !$('confirm').open) location.hash = '#/';
  if (pressed === '/' && !page.call && !/^(INPUT|TEXTAREA)$/.test(target.tagName)) requestAnimationFrame(() => $('find').focus());
});
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
addEventListener('hashchange', moved);
follow();
