/**
 * The way of a sound from the microphone through the trunk to a phone that echoes, and back to the speaker: ours, transcoded and
 * passed on, beside JsSIP at Asterisk in the same browser. `tests/browser/run --full` starts the Asterisk (rival/).
 */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { Chromium } from '../lib/chromium.js';
import { freeUdpPair } from '../lib/processes.js';
import { Sipp } from '../lib/sipp.js';
import { OUT, OUTSIDE, stage } from '../lib/stage.js';
import * as cases from './cases.js';
import { median } from './latency.js';
import { OpenNetwork } from './network.js';
import { Pages } from './pages.js';

const ROUNDS = 2;
/** The first ones are heard while the browser's playout still looks for its delay. */
const BURSTS = { unheeded: 4, measured: 8 };
const ASTERISK = 'ws://127.0.0.1:20088/ws';
const ASTERISK_TRUNK = 20090;
const account = (user) => ({ socket: ASTERISK, uri: `sip:${user}@127.0.0.1`, password: `the password of ${user}` });

/** Its trunk has what both sides speak passed on as it comes. */
class PassingNetwork extends OpenNetwork {
  static start(options) { return super.start({ ...options, trunk: 'pass = "cost"' }); }
}

const scene = stage(Chromium, Pages, PassingNetwork);

/** Calls a phone that echoes (SIPp's own echo waits for nothing else), and gives the ms of each burst. */
async function roundTrips({ phone, target, port }, n) {
  const rtp = await freeUdpPair();
  const sipp = await Sipp.start({ scenario: 'callee-at-once', port, out: OUT, keys: { rtp_port: rtp }, args: ['-rtp_echo', '-mp', String(rtp)] });
  try {
    const before = (await phone.seen()).roundTrips.length;
    await phone.do('call', target);
    await phone.call(n, 'active');
    const { roundTrips: all } = await phone.sees(({ roundTrips }) => roundTrips.length >= before + BURSTS.unheeded + BURSTS.measured, 'to hear itself', 60_000);
    await phone.do('hangup', n);
    await phone.call(n, 'ended');
    await sipp.done();
    return all.slice(before + BURSTS.unheeded);
  } finally {
    await sipp.end();
  }
}

test('the way to a phone that echoes and back, beside JsSIP at Asterisk', async (t) => {
  const { network } = scene;
  const open = async (library, user, known) => {
    const phone = await cases.opener(t, { ...scene, network: { account: () => known } }, library)(user);
    await phone.driver.evaluate(() => globalThis.foreign.measureEcho());
    return phone;
  };
  const ours = (user, options) => open('ringback', user, network.account(user, { bearer: true, options }));
  const theirs = (user) => open('jssip', user, account(user));
  const here = { target: OUTSIDE, port: network.sippPort };
  const there = { target: 'sip:601@127.0.0.1', port: ASTERISK_TRUNK };
  const contestants = [
    { name: 'ringback, transcoded', bar: 75, ...here, phone: await ours('alice'), times: [] },
    { name: 'ringback, PCMU', bar: 60, ...here, phone: await ours('bob', { codecs: ['PCMU'] }), times: [] },
    { name: 'Asterisk, transcoded', ...there, phone: await theirs('alice'), times: [] },
    { name: 'Asterisk, PCMU', ...there, phone: await theirs('bob'), times: [] },
  ];
  for (let round = 0; round < ROUNDS; round++) {
    for (const contestant of round % 2 === 0 ? contestants : contestants.toReversed()) contestant.times.push(...await roundTrips(contestant, round));
  }
  const results = contestants.map(({ name, bar, times }) => ({ name, bar, ms: median(times), times }));
  for (const { name, bar, ms, times } of results) {
    console.log(`  ${name}: ${ms.toFixed(0)} ms there and back in the middle${bar ? ` (the bar is ${bar})` : ''} (${times.map(Math.round).join(', ')})`);
  }
  writeFileSync(`${OUT}round-trip.json`, `${JSON.stringify(results, null, 1)}\n`);
  const [transcoded, passed, theirsTranscoded, theirsPassed] = results.map(({ ms }) => ms);
  assert.ok(transcoded < theirsTranscoded, 'transcoded, ours is heard sooner');
  assert.ok(passed < theirsPassed, 'passed on, ours is heard sooner');
});
