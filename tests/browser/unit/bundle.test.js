/** What pages load: one module, small, fresh, and fit for a strict Content Security Policy. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { bundle, BUNDLE } from '../lib/bundle.js';

const MOST_BYTES = 15_000;
const text = readFileSync(BUNDLE, 'utf8');

test('web/ringback.js is what web/client makes (else: node tests/browser/lib/bundle.js)', async () => {
  assert.ok(text === await bundle(), 'run node tests/browser/lib/bundle.js');
});

test('it is small', () => {
  const size = gzipSync(text).length;
  console.log(`  ringback.js: ${text.length} bytes, gzipped ${size}`);
  assert.ok(size < MOST_BYTES, `${size} bytes gzipped`);
});

test('it is one module that needs no other, and evaluates nothing', () => {
  assert.doesNotMatch(text, /\bimport\b/);
  assert.doesNotMatch(text, /\beval\(|new Function\b|document\.write|innerHTML|\.style\b/);
  const [, names] = text.match(/export\{([^}]*)\}/);
  assert.deepEqual(names.split(',').map((name) => name.split(' as ').at(-1)).sort(), ['Call', 'Phone', 'PhoneError']);
});
