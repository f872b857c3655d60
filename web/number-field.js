/** A field for a telephone number, with a line below that says what would be dialled, or why not. */

import { readNumber } from './number.js';
import { icon } from './dom.js';

/** Nobody is asked about each digit of a number that is being typed. */
const ASK_AFTER_MS = 250;
const LONG = 15;
/** The dial plan's words for kinds of numbers, where people have another. */
const KINDS = { geographic: 'landline', 'toll-free': 'free of charge', number: '' };

export class NumberField {
  #field; #hint; #ask; #onChange; #asked = 0; #timer;

  /**
   * @param ask what the gateway makes of a number: resolves to its check, or `null` where it cannot be asked
   * @param onChange is called with the number that would be dialled, or `undefined`
   */
  constructor(field, hint, { ask, onChange }) {
    this.#field = field;
    this.#hint = hint;
    this.#ask = ask;
    this.#onChange = onChange;
    field.addEventListener('input', () => this.show());
    field.addEventListener('paste', (event) => {
      // Spaces and line ends around what was copied are not part of the number.
      const text = event.clipboardData.getData('text').trim();
      event.preventDefault();
      this.type(text);
    });
  }

  get text() { return this.#field.value; }

  set text(text) {
    this.#field.value = text;
    this.show();
  }

  /** The number that would be dialled, or `undefined`. */
  get number() { return readNumber(this.text).number; }

  /** At the cursor, or at the end where the field has none. */
  type(text) {
    const field = this.#field;
    const focused = document.activeElement === field;
    field.setRangeText(text, focused ? field.selectionStart : field.value.length, focused ? field.selectionEnd : field.value.length, 'end');
    this.show();
  }

  erase() {
    this.text = this.text.slice(0, -1);
  }

  /** Shows what there is to say of the number, at once what the page knows, then what the gateway knows. */
  show() {
    const { number, changed, problem } = readNumber(this.text);
    const asked = ++this.#asked;
    this.#field.classList.toggle('long', this.text.length > LONG);
    this.#onChange(number);
    clearTimeout(this.#timer);
    this.#say(problem ?? (changed ? `Will dial ${number}` : ''), problem ? 'problem' : '');
    if (number) this.#timer = setTimeout(() => this.#check(number, asked), ASK_AFTER_MS);
  }

  async #check(number, asked) {
    const check = await this.#ask(number).catch(() => null);
    if (!check || asked !== this.#asked) return;
    const kind = KINDS[check.kind] ?? check.kind;
    if (check.allowed) this.#say(`Will dial ${check.number ?? number}${kind ? ` · ${kind}` : ''}`, 'good');
    else this.#say(check.text, 'problem');
  }

  #say(text, kind) {
    const symbol = { good: 'check', problem: 'problem' }[kind];
    if (this.#hint.textContent !== text) this.#hint.replaceChildren(...(symbol && text ? [icon(symbol)] : []), ...(text ? [text] : []));
    else if (symbol && text && !this.#hint.querySelector('svg')) this.#hint.prepend(icon(symbol));
    this.#hint.classList.toggle('problem', kind === 'problem' && text !== '');
    this.#hint.classList.toggle('good', kind === 'good');
  }
}
