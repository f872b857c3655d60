/** The few things that every part of the page does with its elements. */

export const $ = (id) => document.getElementById(id);

export function element(name, ...content) {
  const made = document.createElement(name);
  made.append(...content);
  return made;
}

/** One of the page's symbols (index.html), which screen readers pass over. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an optional symbol before its text. */
export function button(text, { className = '', symbol, label, onClick }) {
  const made = element('button', ...(symbol ? [icon(symbol)] : []), ...(text ? [element('span', text)] : []));
  made.type = 'button';
  made.className = className;
  if (label) made.setAttribute('aria-label', label);
  made.addEventListener('click', onClick);
  return made;
}

/** Sets a text only where it is another: a live region is read out at each change. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function fill(list, lines) {
  list.replaceChildren(...lines.map((line) => element('li', ...withCode(line))));
}

/** Text between backquotes as code. */
function withCode(text) {
  return text.split('`').map((part, at) => (at % 2 === 1 ? element('code', part) : part));
}

/** For screen readers, at once. */
export function say(text) {
  const spoken = text.replaceAll('`', '');
  const region = $('alert');
  // The same words once more are heard once more.
  region.textContent = region.textContent === spoken ? `${spoken}\u00a0` : spoken;
}

export async function copy(text, copier) {
  const label = copier.getAttribute('aria-label');
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return getSelection().selectAllChildren(copier.parentElement.querySelector('code'));
  }
  say('Copied');
  const use = copier.querySelector('use');
  use.setAttribute('href', '#i-check');
  copier.setAttribute('aria-label', 'Copied');
  setTimeout(() => { use.setAttribute('href', '#i-copy'); copier.setAttribute('aria-label', label); }, 1500);
}

export const who = ({ name, number }) => name || number || 'Unknown number';

/** A face for somebody: initials of a name, else a person. */
export function showAvatar(avatar, { name }) {
  const initials = (name ?? '').split(/\s+/).map((word) => word.match(/^\p{L}/u)?.[0] ?? '').filter(Boolean);
  const [first, last] = [initials[0], initials.length > 1 ? initials.at(-1) : ''];
  avatar.replaceChildren(first ? (first + last).toUpperCase() : icon('person'));
}

/** A setting of this browser; what cannot be kept (a private window) holds for this page. */
export class Stored {
  #key; #value;

  constructor(key, missing) {
    this.#key = `ringback.${key}`;
    try {
      this.#value = JSON.parse(localStorage.getItem(this.#key)) ?? missing;
    } catch {
      this.#value = missing;
    }
  }

  get value() { return this.#value; }

  set value(value) {
    this.#value = value;
    try { localStorage.setItem(this.#key, JSON.stringify(value)); } catch { /* full, or not allowed */ }
  }
}
