/** What the number field makes of what people write. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clock, day, readNumber } from '../../../web/number.js';

const DIALLED = [
  ['600', '600', false],
  ['+442079460958', '+442079460958', false],
  [' +44 20 7946 0958\n', '+442079460958', true],
  ['+44 (0)20 7946-0958', '+442079460958', true],
  ['(020) 7946.0958', '02079460958', true],
  ['tel:+44-20-7946-0958;ext=12', '+442079460958', true],
  ['TEL:%2B4930123', '+4930123', true],
  ['tel://+4930/123', '+4930123', true],
  ['1-800-FLOWERS', '18003569377', true],
  ['+49\u00a030\u2011123', '+4930123', true],
  ['*21#', '*21#', false],
  ['\u202a+33123\u202c', '+33123', true],
];

test('numbers as people write and paste them', () => {
  for (const [text, number, changed] of DIALLED) assert.deepEqual(readNumber(text), { number, changed }, JSON.stringify(text));
});

test('what is no number says why', () => {
  for (const text of ['', '   ', 'tel:']) assert.deepEqual(readNumber(text), { problem: '' }, JSON.stringify(text));
  for (const text of ['hello', '+', '12+3', 'sip:alice@example.org', '12;34', '1'.repeat(41), '12\u{1F600}', '12\r\nX: y']) {
    assert.notEqual(readNumber(text).problem ?? '', '', JSON.stringify(text));
  }
});

test('the call timer', () => {
  for (const [ms, text] of [[0, '0:00'], [999, '0:00'], [61_000, '1:01'], [3_723_000, '1:02:03'], [-5, '0:00']]) {
    assert.equal(clock(ms), text);
  }
});

test('when a call was', () => {
  const now = new Date(2026, 10, 21, 9, 30).getTime();
  for (const [at, text] of [
    [new Date(2026, 10, 21, 8, 5), '08:05'],
    [new Date(2026, 10, 20, 23, 59), 'Yesterday 23:59'],
    [new Date(2026, 10, 17, 14, 0), 'Tuesday 14:00'],
    [new Date(2026, 10, 14, 14, 0), '14 Nov'],
    [new Date(2025, 10, 21, 14, 0), '21 Nov 2025'],
  ]) assert.equal(day(at.getTime(), now, 'en-GB'), text);
});
