/** Lines over time, as SVG: no library, no canvas, and a sentence for who does not see them. */

import { drawn, element, setText } from './dom.js';
import { time } from './words.js';

const WIDTH = 600;
const HEIGHT = 110;
const EDGE = 8;

/**
 * A chart that follows its samples. `lines`: `[{ name, read(sample), className }]`; `range(values)` gives the least and the
 * most that is shown; `say(value)` a value in words, `worst` picks the worst of two.
 */
export class Chart {
  #title; #lines; #range; #say; #worst; #svg; #legend; #caption;

  constructor(place, { title, lines, range, say, worst = Math.max }) {
    [this.#title, this.#lines, this.#range, this.#say, this.#worst] = [title, lines, range, say, worst];
    this.#svg = drawn('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' });
    this.#legend = element('ul', { class: 'legend' });
    this.#caption = element('figcaption', {}, element('span'), element('span'), element('span'));
    place.append(element('figure', { class: 'chart' }, element('h3', {}, title), this.#svg, this.#caption, this.#legend));
  }

  show(samples, step) {
    const read = this.#lines.map((line) => ({ ...line, values: samples.map(line.read) }));
    const known = read.filter(({ values }) => values.some((value) => value !== undefined));
    const all = known.flatMap(({ values }) => values.filter((value) => value !== undefined));
    const [least, most] = this.#range(all);
    const [first, last] = [samples[0]?.at ?? 0, samples.at(-1)?.at ?? 0];
    const x = (at) => (last > first ? EDGE + (WIDTH - 2 * EDGE) * (at - first) / (last - first) : WIDTH / 2);
    const y = (value) => HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (Math.min(Math.max(value, least), most) - least) / (most - least || 1);
    const grid = [0, 0.5, 1].map((part) => drawn('line', { class: 'grid', x1: 0, x2: WIDTH, y1: EDGE + part * (HEIGHT - 2 * EDGE), y2: EDGE + part * (HEIGHT - 2 * EDGE) }));
    const paths = known.map(({ className, values }) => drawn('path', { class: className, d: path(samples, values, x, y, step), 'vector-effect': 'non-scaling-stroke' }));
    this.#svg.replaceChildren(...grid, ...paths);
    const told = known.map((line) => this.#told(line));
    this.#svg.setAttribute('aria-label', all.length > 0 ? `${this.#title}. ${told.map(({ name, text }) => `${name}: ${text}`).join('. ')}.` : `${this.#title}: nothing is measured yet.`);
    this.#legend.replaceChildren(...told.map(({ name, text, className }) => element('li', {}, swatch(className), `${name} ${text}`)));
    [samples.length > 0 ? time(first) : '', all.length > 0 ? `${this.#say(least)} to ${this.#say(most)}` : 'nothing is measured yet', samples.length > 0 ? time(last) : '']
      .forEach((text, at) => setText(this.#caption.children[at], text));
  }

  #told({ name, values, className }) {
    const there = values.filter((value) => value !== undefined);
    const worst = there.reduce((one, other) => this.#worst(one, other));
    return { name, className, text: `now ${this.#say(there.at(-1))}, worst ${this.#say(worst)}` };
  }
}

/** A line that breaks off where nothing was measured: in a hold, or before both sides were there. */
export function path(samples, values, x, y, step) {
  let drawing = '';
  let before;
  samples.forEach(({ at }, n) => {
    const value = values[n];
    if (value === undefined) { before = undefined; return; }
    const goesOn = before !== undefined && at - before < 2500 * step;
    const point = `${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    // One sample alone is a dot: a line of no length with round ends.
    drawing += goesOn ? `L${point}` : `M${point}h0`;
    before = at;
  });
  return drawing;
}

function swatch(className) {
  return drawn('svg', { viewBox: '0 0 28 8', 'aria-hidden': 'true' }, drawn('path', { class: className, d: 'M2 4h24' }));
}
