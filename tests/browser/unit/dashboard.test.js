/** What the operator's page makes of what the gateway says. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { path } from '../../../web/dashboard/chart.js';
import { label, refuses, whole } from '../../../web/dashboard/ladder.js';
import { ago, clock, ending, health, limitRows, party, tone, verdict } from '../../../web/dashboard/words.js';

const GOOD = { draining: false, sound: { without_audio: 0 }, cdr: [{ sink: 'sqlite', waiting: 0, lost: 0, failing_since: null }], trunks: [{ name: 'carrier', up: true, targets: [{}], registration: null }] };

test('a message in a few words', () => {
  const browser = (message) => label({ by: 'browser', text: JSON.stringify(message) });
  assert.equal(browser({ type: 'call', to: '600', sdp: 'v=0' }), 'call 600');
  assert.equal(browser({ type: 'hold', on: true }), 'hold on');
  assert.equal(browser({ type: 'ended', cause: 'busy', sip: 486 }), 'ended busy 486');
  const sip = (text) => label({ by: 'udp', text });
  assert.equal(sip('INVITE sip:600@192.0.2.9 SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\n'), 'INVITE 600, SDP');
  assert.equal(sip('SIP/2.0 486 Busy Here\r\nCSeq: 1 INVITE\r\n\r\n'), '486 Busy Here (INVITE)');
  assert.equal(sip('BYE sip:192.0.2.9:5060 SIP/2.0\r\nCSeq: 2 BYE\r\n\r\n'), 'BYE');
  // Whatever a peer sends: nothing is thrown, and nothing but words comes out.
  for (const text of ['', '\u001b[2J\u0007', 'SIP/2.0', '{"type":', '\r\n\r\n', 'INVITE']) {
    for (const by of ['browser', 'udp']) assert.doesNotMatch(label({ by, text }), /[\u0000-\u001f]/, JSON.stringify(text));
  }
  assert.ok(refuses({ by: 'tls', text: 'SIP/2.0 503 x' }) && !refuses({ by: 'tls', text: 'SIP/2.0 200 OK' }) && !refuses({ by: 'browser', text: 'SIP/2.0 503' }));
});

test('a message whole', () => {
  assert.equal(whole({ by: 'browser', text: '{"type":"call","sdp":"v=0\\r\\na=b\\r\\n"}' }), 'type: "call"\nsdp:\nv=0\r\na=b\r\n');
  assert.equal(whole({ by: 'udp', text: 'BYE', cut: 7 }), 'BYE\n(7 bytes are not kept)');
  assert.equal(whole({ by: 'browser', text: '{"cut' }), '{"cut');
});

test('a line breaks off where nothing was measured, and a sample alone is a dot', () => {
  const samples = [0, 1000, 2000, 9000, 10_000, 12_000].map((at) => ({ at }));
  const drawn = path(samples, [1, 2, undefined, 4, 5, 6], (at) => at / 1000, (value) => value, 1);
  assert.equal(drawn, 'M0.0 1.0h0L1.0 2.0M9.0 4.0h0L10.0 5.0L12.0 6.0');
  assert.equal(path(samples, [1, 2, undefined, 4, 5, 6], (at) => at / 1000, (value) => value, 0.5).split('M').length, 4);
  assert.equal(path(samples, samples.map(() => undefined), Number, Number, 1), '');
});

test('times and scores', () => {
  assert.deepEqual([clock(7_000), clock(754_000), clock(3_723_000), clock(-5)], ['0:07', '12:34', '1:02:03', '0:00']);
  assert.deepEqual([ago(5), ago(600), ago(7200), ago(400_000)], ['5 s', '10 min', '2 h', '5 days']);
  assert.deepEqual([3.5, 3.9, 4.3, undefined, null].map(tone), ['bad', 'warn', 'good', undefined, undefined]);
});

test('who is on a side', () => {
  assert.equal(party({ kind: 'browser', user: 'alice', label: 'alice' }), 'alice (browser)');
  assert.equal(party({ kind: 'trunk', trunk: 'carrier', label: '+442079460958' }), '+442079460958 by carrier');
  assert.equal(party(undefined), undefined);
});

test('why one is not heard, by the kind of line', () => {
  const none = { at: 0, from: 'a', leg: 'a', cause: 'no-rtp' };
  const browser = verdict(none, { a: 'browser', b: 'trunk' });
  assert.match(browser.text, /who called was not heard, and it is so still/);
  assert.match(browser.more, /The browser sends nothing/);
  assert.equal(browser.tone, 'bad');
  const trunk = verdict({ ...none, from: 'b', leg: 'b', ms: 2500 }, { a: 'browser', b: 'trunk' });
  assert.match(trunk.text, /who was called was not heard, for 2\.5 s/);
  assert.match(trunk.more, /rtp_ports/);
  assert.equal(verdict({ ...none, cause: 'held' }).tone, 'warn', 'that may be wanted');
  assert.match(verdict({ ...none, cause: 'something-new' }).text, /something-new/);
});

test('why a call has ended', () => {
  const end = { cause: 'busy', by: 'trunk', sip: 486, q850: 17, text: 'The called person is busy' };
  assert.equal(ending(end), 'The called person is busy (busy; SIP 486, Q.850 17), by the other side');
});

test('limits, one a row', () => {
  const accounts = [{ scope: 'gateway', name: '', limits: [{ limit: 'calls', used: 1, most: 5 }] }, { scope: 'user', name: 'alice', limits: [{ limit: 'calls', used: 1, most: 1 }, { limit: 'minutes_per_day', used: 2, most: 60 }] }];
  assert.deepEqual(limitRows(accounts).map((row) => Object.values(row).join(' ')), ['gateway calls 1 5', 'user alice calls 1 1', 'user alice minutes per day 2 60']);
});

test('what is wrong with the gateway, the worst first', () => {
  assert.deepEqual(health(GOOD), []);
  const failed = { what: 'options', seconds_ago: 20 };
  const texts = health({
    draining: true,
    sound: { without_audio: 2 },
    cdr: [{ sink: 'postgres', waiting: 3, lost: 1, failing_since: 1, error: 'refused' }],
    trunks: [
      { name: 'down', up: false, targets: [{}], registration: { state: 'refused', status: 403, again_in_seconds: 60 }, last_failure: failed },
      { name: 'lost', up: true, targets: [], registration: { state: 'unreachable', again_in_seconds: 5 } },
    ],
  }).map(({ tone: how, text }) => `${how} ${text}`);
  const wanted = [/^bad Trunk down takes no calls/, /^bad Trunk down refuses our registration \(403\)/, /^bad Trunk lost takes no calls/, /^bad Trunk lost does not answer/, /^bad 2 calls have/, /^bad Call records are not taken by postgres/, /^warn 1 call records/, /^warn The gateway takes no new calls/];
  assert.equal(texts.length, wanted.length, texts.join('\n'));
  wanted.forEach((pattern, at) => assert.match(texts[at], pattern));
});
