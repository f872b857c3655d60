/**
 * From the click to the first sound, ours beside JsSIP at Asterisk on the same machine and in the same browser. `tests/browser/run
 * --full` starts the Asterisk (rival/), whose extension answers at once and plays a tone by itself; ours calls SIPp.
 */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { Chromium } from '../lib/chromium.js';
import { OUT, OUTSIDE, stage } from '../lib/stage.js';
import * as cases from './cases.js';
import { MOST_OF_THE_RIVAL, phoneAtOnce, race } from './latency.js';
import { OpenNetwork, uri } from './network.js';
import { Pages } from './pages.js';

const ROUNDS = 11;
const ASTERISK = { socket: 'ws://127.0.0.1:20088/ws', uri: 'sip:alice@127.0.0.1', password: 'the password of alice' };

const scene = stage(Chromium, Pages, OpenNetwork);

test('from the click to the first sound, beside JsSIP at Asterisk', async (t) => {
  const { network } = scene;
  const registered = (library, account) => cases.opener(t, { ...scene, network: { account: () => account } }, library)('alice');
  const bearer = network.account('alice', { bearer: true });
  await phoneAtOnce(t, network, 2 * ROUNDS);
  const results = await race([
    { name: 'ringback', phone: await registered('ringback', bearer), target: OUTSIDE },
    { name: 'jssip', phone: await registered('jssip', bearer), target: uri(OUTSIDE) },
    { name: 'jssip at Asterisk', phone: await registered('jssip', ASTERISK), target: 'sip:600@127.0.0.1' },
  ], ROUNDS);
  writeFileSync(`${OUT}click-to-first-sound.json`, `${JSON.stringify(results, null, 1)}\n`);
  assert.ok(results[0].ratio <= MOST_OF_THE_RIVAL, `ours is heard in half the time; it took ${results[0].ratio} of it`);
});
