/** A foreign WHIP client (aiortc, as Debian has it) makes a phone call. */

import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Program, until } from '../lib/processes.js';
import { hears, Network, OUT, OUTSIDE, PREMIUM, speech } from '../lib/stage.js';

const RATE = 48_000;
const PYTHON = '/usr/bin/python3'; // Debian's, which has Debian's aiortc
let clients = 0;

class WhipClient extends Program {
  static call(network, to, token = network.token('alice')) {
    const url = new URL(`/whip/call?to=${encodeURIComponent(to)}`, network.gateway.url);
    const heard = path.join(OUT, `whip-${++clients}.raw`);
    const script = fileURLToPath(new URL('whip.py', import.meta.url));
    const client = new WhipClient(PYTHON, [script, String(url), token, speech.caller.file, heard], { stdio: ['pipe', 'pipe', 'pipe'] });
    client.heard = heard;
    return client;
  }

  get events() { return this.stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line)); }

  told(fits, what) {
    return until(() => this.events.find(fits) ?? (this.running ? null : assert.fail(`the client ended:\n${this.output}`)), () => `${what}; it told:\n${this.output}`, 20_000);
  }

  /** Seconds of the far end that it has heard so far. */
  recorded() { return (statSync(this.heard, { throwIfNoEntry: false })?.size >> 1) / RATE; }

  recording(from, to) {
    const bytes = readFileSync(this.heard).subarray(2 * Math.round(from * RATE), 2 * Math.round(to * RATE));
    return { rate: RATE, samples: Float32Array.from({ length: bytes.length >> 1 }, (_, i) => bytes.readInt16LE(2 * i) / 32768) };
  }

  hangUp() { this.child.stdin.write('hangup\n'); }
}

describe('aiortc by WHIP', () => {
  let network;
  before(async () => { network = await Network.start(); });
  after(() => network?.end());

  function call(t, ...words) {
    const client = WhipClient.call(network, ...words);
    t.after(() => client.end());
    return client;
  }

  test('calls a phone, heard at both ends, and hangs up by DELETE', async (t) => {
    const { sipp, rtp } = await network.callee(t);
    const client = call(t, OUTSIDE);
    const answer = await client.told(({ event }) => event === 'answer', 'the answer');
    assert.deepEqual([answer.status, answer.type], [201, 'application/sdp']);
    assert.ok(answer.etag, 'an ETag for ICE restarts (RFC 9725 section 4.3.1)');
    await client.told(({ state }) => state === 'connected', 'the connection');
    await Promise.all([hears(rtp, 'caller', 'the phone'), hears(client, 'callee', 'aiortc')]);
    client.hangUp();
    assert.equal((await client.told(({ event }) => event === 'deleted', 'the end')).status, 200);
    await sipp.message(/^BYE /);
    await sipp.done();
  });

  test('is hung up by the phone: the resource is gone', async (t) => {
    const { sipp } = await network.callee(t, 'callee-hangs-up');
    const client = call(t, OUTSIDE);
    await client.told(({ state }) => state === 'connected', 'the connection');
    await hears(client, 'callee', 'aiortc');
    await sipp.hangUp();
    await sipp.done();
    client.hangUp();
    const { status } = await client.told(({ event }) => event === 'deleted', 'the end');
    assert.ok([404, 410].includes(status), `${status}`);
  });

  test('is refused with the reason', async (t) => {
    const barred = await call(t, PREMIUM).told(({ event }) => event === 'refused', 'a refusal');
    assert.deepEqual([barred.status, barred.type], [403, 'application/problem+json']);
    assert.match(barred.body, /Premium numbers are barred/);
    const stranger = await call(t, OUTSIDE, network.token('alice', { secret: 'another secret, of another gateway' })).told(({ event }) => event === 'refused', 'a refusal');
    assert.equal(stranger.status, 401);
  });
});
