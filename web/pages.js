/**
 * What is on the screen besides the phone: tabs in all layouts, a panel beside the phone where there is room, one page at a
 * time where there is none, and a sheet that leaves the buttons of a call in view. The layouts are softphone.css's.
 */

import { $ } from './dom.js';

const wide = matchMedia('(min-width: 56rem) and (min-height: 32.01rem)');
const body = document.body;
const tabs = [...document.querySelectorAll('[data-go]')];

export const isWide = () => wide.matches;
export const sheetIsOpen = () => !wide.matches && body.dataset.view === 'call' && body.dataset.page === 'side';

/** Shows a panel: `recents`, `try`, `audio` or `call`; or, where there is no room for both, the `phone`. */
export function go(panel) {
  if (panel === 'phone') {
    body.dataset.page = 'phone';
  } else {
    body.dataset.page = 'side';
    body.dataset.side = panel;
  }
  show();
}

/** `go`, then the focus too: for what opens a panel beside a call. */
export function open(panel) {
  go(panel);
  document.querySelector(`[data-panel="${panel}"]`).focus({ preventScroll: true });
}

export function closeSheet() {
  go('phone');
}

let before = body.dataset.side;

/** A call has the screen; beside it, how it sounds. */
export function enterCall() {
  if (body.dataset.side !== 'call') before = body.dataset.side;
  body.dataset.side = 'call';
  go('phone');
}

export function leaveCall() {
  if (body.dataset.side === 'call') body.dataset.side = before;
  go('phone');
}

/** What the panel beside the phone shows while there is no call. */
export function setHome(panel) {
  before = panel;
  if (body.dataset.side === 'call') return;
  body.dataset.side = panel;
  show();
}

function show() {
  const { page, side } = body.dataset;
  for (const panel of document.querySelectorAll('[data-panel]')) panel.hidden = panel.dataset.panel !== side;
  const current = wide.matches || page === 'side' ? side : 'phone';
  for (const tab of tabs) {
    if (tab.dataset.go === current) tab.setAttribute('aria-current', 'page');
    else tab.removeAttribute('aria-current');
  }
  $('quality').setAttribute('aria-expanded', String(side === 'call' && (wide.matches || page === 'side')));
  $('side').scrollTop = 0;
  body.dispatchEvent(new CustomEvent('panel', { detail: current }));
}

for (const tab of tabs) tab.addEventListener('click', () => go(tab.dataset.go));
$('side-close').addEventListener('click', closeSheet);
wide.addEventListener('change', show);
show();
