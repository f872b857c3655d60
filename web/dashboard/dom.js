/** The few things that every part of the page does with its elements. */

export const $ = (id) => document.getElementById(id);

/** An element with attributes and content; `null` among the content is left out. */
export function element(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  set(made, attributes);
  made.append(...content.filter((part) => part !== null && part !== undefined));
  return made;
}

export function drawn(name, attributes = {}, ...content) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  set(made, attributes);
  made.append(...content);
  return made;
}

function set(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, String(value));
}

/** Sets a text only where it is another: what a person has marked stays marked, and a live region is read once. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Sets an attribute only where it is another; `undefined` takes it away. */
function setAttribute(target, name, value) {
  if (value === undefined) target.removeAttribute(name);
  else if (target.getAttribute(name) !== value) target.setAttribute(name, value);
}

/** Makes the children of `list` those of `items`, by their keys: one that stays is the same element, with what has the focus in it. */
export function keyed(list, items, keyOf, make, update) {
  const before = [...list.children];
  const known = new Map(before.map((child) => [child.dataset.key, child]));
  const stays = new Set();
  let place = list.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = known.get(key);
    known.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (child === place) place = place.nextElementSibling;
    else list.insertBefore(child, place);
    update(child, item);
    stays.add(child);
  }
  for (const child of before) if (!stays.has(child)) child.remove();
}

/**
 * A table that follows its items. A column is `{ head, cell, number, wide }`: `cell(item)` gives a text, or
 * `{ text, href, tone, title }`, or an element that is made anew each time. The first column heads its row.
 */
export class Table {
  #columns; #body; #key; #rowTone;

  constructor(place, label, columns, { key, rowTone = () => undefined }) {
    this.#columns = columns;
    this.#key = key;
    this.#rowTone = rowTone;
    const heads = columns.map(({ head, number }) => element('th', { scope: 'col', class: number ? 'number' : undefined }, head));
    this.#body = element('tbody');
    this.element = element('table', {}, element('caption', { class: 'visually-hidden' }, label), element('thead', {}, element('tr', {}, ...heads)), this.#body);
    // What can be scrolled can be reached without a mouse.
    set(place, { role: 'group', 'aria-label': label, tabindex: 0 });
    place.replaceChildren(this.element);
    this.place = place;
  }

  show(items) {
    this.place.hidden = items.length === 0;
    keyed(this.#body, items, this.#key, () => this.#row(), (row, item) => {
      setAttribute(row, 'class', this.#rowTone(item));
      this.#columns.forEach(({ cell }, at) => fillCell(row.children[at], cell(item)));
    });
  }

  #row() {
    const cells = this.#columns.map(({ number, wide }, at) => {
      const names = [number && 'number', wide && 'wide'].filter(Boolean).join(' ');
      return element(at === 0 ? 'th' : 'td', { scope: at === 0 ? 'row' : undefined, class: names || undefined });
    });
    return element('tr', {}, ...cells);
  }
}

function fillCell(cell, content) {
  if (content instanceof Element) return cell.replaceChildren(content);
  const { text, href, tone, title } = typeof content === 'object' && content !== null ? content : { text: content };
  const name = href ? 'A' : 'SPAN';
  let inner = cell.firstElementChild;
  if (inner?.tagName !== name) {
    inner = element(name);
    cell.replaceChildren(inner);
  }
  setText(inner, text ?? '');
  setAttribute(inner, 'href', href);
  setAttribute(inner, 'class', tone && `tone-${tone}`);
  setAttribute(inner, 'title', title);
}

/** A list of `{ term, text, tone }`, in a `dl`. */
export function facts(list, entries) {
  const shown = entries.filter(({ text }) => text !== undefined && text !== null && text !== '');
  keyed(list, shown, ({ term }) => term, () => element('div', {}, element('dt'), element('dd')), (row, { term, text, tone }) => {
    setText(row.firstElementChild, term);
    setText(row.lastElementChild, String(text));
    setAttribute(row, 'data-tone', tone);
  });
}

/** Lines with a mark: `{ tone, text, more }`. */
export function lines(list, entries) {
  const make = () => element('li', {}, element('span', { class: 'mark', 'aria-hidden': 'true' }), element('span'), element('span', { class: 'more' }));
  keyed(list, entries, ({ key, text }) => key ?? text, make, (row, { tone, text, more = '' }) => {
    setAttribute(row, 'data-tone', tone);
    setText(row.children[1], text);
    setText(row.children[2], more);
  });
}
