/** Reading a telephone number as people write and paste it. Pure functions, tested in tests/browser/unit. */

const SEPARATORS = /[\s().\-/\u00ad\u2010-\u2015\u200b\u202a-\u202e]/g;
const KEYS = ['', '', 'abc', 'def', 'ghi', 'jkl', 'mno', 'pqrs', 'tuv', 'wxyz'];

const keyOf = (letter) => String(KEYS.findIndex((letters) => letters.includes(letter.toLowerCase())));

/** "tel:+44-20-7946;ext=5" -> "+44-20-7946" */
function withoutScheme(text) {
  if (!/^tel:/i.test(text)) return text;
  const [number] = text.slice('tel:'.length).replace(/^\/\//, '').split(';');
  try {
    return decodeURIComponent(number);
  } catch {
    return number;
  }
}

/**
 * What would be dialled for a text, or why it cannot be.
 * @returns {{ number: string, changed: boolean } | { problem: string }} `problem` is empty for an empty text
 */
export function readNumber(text) {
  const given = withoutScheme(text.trim());
  if (given === '') return { problem: '' };
  if (/^sips?:/i.test(given)) return { problem: 'SIP addresses cannot be dialled here, only numbers.' };
  // +44 (0)20: the trunk zero in brackets is for callers inside the country.
  const international = given.startsWith('+') ? given.replace(/\(0\)/, '') : given;
  const bare = international.replace(SEPARATORS, '');
  const number = /^[+\d][\da-z]*$/i.test(bare) && /\d/.test(bare) ? bare.replace(/[a-z]/gi, keyOf) : bare;
  const odd = number.match(/[^\d*#+]/u) ?? number.slice(1).match(/\+/);
  if (odd) return { problem: `“${odd[0]}” cannot be part of a number.` };
  if (number === '+') return { problem: 'Digits are missing after the +.' };
  if (number.length > 40) return { problem: 'This is too long for a number.' };
  return { number, changed: number !== text };
}

/** Seconds as 0:07, 12:34 or 1:02:03. */
export function clock(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const pad = (n) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}

/** When a call was, as a list of calls tells it: today's by the time, this week's by the day, else by the date. */
export function day(at, now = Date.now(), locale = undefined) {
  const [then, today] = [new Date(at), new Date(now)];
  const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
  const days = Math.round((midnight(today) - midnight(then)) / 86_400_000);
  const time = then.toLocaleTimeString(locale, { hour: '2-digit', minute: '2-digit' });
  if (days === 0) return time;
  if (days === 1) return `Yesterday ${time}`;
  if (days > 1 && days < 7) return `${then.toLocaleDateString(locale, { weekday: 'long' })} ${time}`;
  const year = then.getFullYear() === today.getFullYear() ? {} : { year: 'numeric' };
  return then.toLocaleDateString(locale, { day: 'numeric', month: 'short', ...year });
}
