/** What the client promises, in a page of somebody else's: each case ends with what both ends heard or told. */

import assert from 'node:assert/strict';
import { level } from '../lib/audio.js';
import { freeUdpPort, until } from '../lib/processes.js';
import { ALICE, hears, OUTSIDE, PREMIUM } from '../lib/stage.js';
import { Bench } from './bench.js';
import { ELSEWHERE } from './network.js';

const SILENCE_DB = -60;
const SOUND_DB = -45;

/** `open(user, options)` gives a page whose phone is ready; it is closed with the test. */
export function opener(t, { browser, pages, network }) {
  return async (user, { page = {}, again, ...options } = {}) => {
    const bench = await Bench.open(browser, pages, page);
    t.after(async () => {
      await bench.close();
      assert.deepEqual(bench.problems, [], 'errors in the page');
    });
    if (user) await bench.start({ ...network.options(user), ...options }, { again });
    return bench;
  };
}

/** What every case is judged by at its end: a page that throws, leaves a promise uncaught or breaks its policy is known for it. */
export async function noticed({ browser, pages }, t) {
  pages.put('/broken.html', '<!doctype html><meta charset="utf-8"><title>broken</title><script>document.title = "inline";</script><script type="module" src="/broken.js"></script>');
  pages.put('/broken.js', "Promise.reject(new Error('nobody caught this')); throw new Error('this was thrown');");
  const page = await browser.open(`${pages.origin}/broken.html`, { name: 'the broken page' });
  t.after(() => page.close());
  const wanted = [/Content Security Policy/, /nobody caught this/, /this was thrown/];
  await until(() => wanted.every((text) => page.problems.some((problem) => text.test(problem))), () => `all that is wrong to be told; told was ${page.problems.join('\n')}`);
  assert.equal(await page.driver.evaluate(() => document.title), 'broken', 'the policy holds');
}

export async function outbound(open, network, t) {
  const page = await open('alice');
  const { sipp, rtp } = await network.callee(t);
  await page.call(OUTSIDE, { params: { customer: '4711' } });
  const { remote, direction, params } = await page.until('active');
  assert.deepEqual([remote.number, direction, params], [OUTSIDE, 'out', { customer: '4711' }]);
  await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
  const { id, timings, quality } = await page.seen();
  assert.match(id, /^[0-9a-f]{16}$/);
  for (const name of ['click', 'mic', 'offer', 'answer', 'ice', 'dtls', 'ringing', 'accept', 'sound']) assert.equal(typeof timings[name], 'number', `${name} in ${JSON.stringify(timings)}`);
  assert.ok(timings.offer <= timings.answer && timings.answer <= timings.dtls, JSON.stringify(timings));
  assert.deepEqual([quality.down.codec, quality.trunkDown.codec], ['opus', 'PCMU']);
  assert.ok(['excellent', 'good', 'fair'].includes(quality.grade), quality.grade);
  assert.equal((await page.do('stats')).value.down.codec, 'opus');
  await page.do('hangup');
  const { ended } = await page.until('ended');
  assert.deepEqual([ended.by, ended.cause, ended.quality.down.codec], ['us', 'normal', 'opus']);
  assert.ok(ended.durationMs > 1000, `${ended.durationMs} ms`);
  await sipp.done();
}

export async function inbound(open, network, t) {
  const page = await open('alice');
  const { sipp, rtp } = await network.caller(t);
  const { direction, to } = await page.until('ringing');
  assert.deepEqual([direction, to], ['in', ALICE]);
  await page.do('accept');
  await page.until('active');
  await Promise.all([hears(rtp, 'caller', 'the phone that called'), hears(page, 'callee', 'the page')]);
  await page.do('hangup');
  await sipp.done();
}

export async function declined(open, network, t) {
  const page = await open('alice');
  const { sipp } = await network.caller(t, 'caller-declined');
  await page.until('ringing');
  await page.do('reject');
  assert.equal((await page.until('ended')).ended.cause, 'declined');
  await sipp.done();
}

/** One page ignores the call; it rings on in the other. */
export async function ignored(open, network, t) {
  const [first, second] = [await open('alice'), await open('alice')];
  const { sipp, rtp } = await network.caller(t);
  await Promise.all([first.until('ringing'), second.until('ringing')]);
  await first.do('ignore');
  assert.equal((await first.seen()).ended.cause, 'ignored');
  await second.do('accept');
  await second.until('active');
  await hears(rtp, 'caller', 'the phone that called');
  await second.do('hangup');
  await sipp.done();
  assert.deepEqual(await first.errors(), []);
}

export async function muteAndHold(open, network, t) {
  const page = await open('alice');
  const { sipp, rtp } = await network.callee(t, 'callee-held');
  await page.call(OUTSIDE);
  await page.until('active');
  await hears(rtp, 'caller', 'the phone');
  await page.do('mute');
  await until(async () => level(await rtp.hear(0.5)) < SILENCE_DB, 'the phone to hear silence');
  await page.do('mute', [false]);
  await until(async () => level(await rtp.hear(0.5)) > SOUND_DB, 'the phone to hear us again');
  await page.do('hold');
  assert.equal((await page.seen()).held, true);
  await sipp.message(/^INVITE [^]*a=sendonly/);
  await until(async () => level(await page.hear(0.5)) < SILENCE_DB, 'the page to be silent while it holds');
  await page.do('hold', [false]);
  await Promise.all([hears(rtp, 'caller', 'the phone, taken back'), hears(page, 'callee', 'the page, after hold')]);
  await page.do('hangup');
  await sipp.done();
}

/** Digits with pauses: what is played takes its time, and the promise is kept when it is over. */
export async function digits(open, network, t) {
  const page = await open('alice');
  const { sipp, rtp } = await network.callee(t);
  await page.call(OUTSIDE);
  await page.until('active');
  await rtp.hear(0.5);
  const began = Date.now();
  await page.do('digits', ['12w3#', { ms: 80, gap: 200 }]);
  const took = Date.now() - began;
  await until(() => rtp.digits.endsWith('123#'), () => `the digits at the phone; there were “${rtp.digits}”`);
  assert.ok(took >= 4 * 280 + 500, `${took} ms`);
  assert.equal((await page.do('digits', ['12x'])).code, 'bad-digits');
  await page.do('hangup');
  await sipp.done();
}

export async function refused(open, network, t) {
  const page = await open('alice');
  const { sipp } = await network.callee(t, 'callee-declines');
  await page.call(OUTSIDE);
  const { ended: declined } = await page.until('ended');
  assert.deepEqual([declined.by, declined.cause, declined.sip], ['them', 'declined', 603]);
  await sipp.done();
  await page.call(PREMIUM);
  await until(async () => (await page.seen()).state === 'ended', 'the dial plan’s refusal');
  const { ended } = await page.seen();
  assert.deepEqual([ended.by, ended.cause, ended.text], ['gateway', 'not-allowed', 'Premium numbers are barred']);
  assert.notEqual(ended.remedies.length, 0);
}

/** A second call while the first stands: offered, or refused as busy. */
export async function whileBusy(open, network, t) {
  const page = await open('alice', { whileBusy: 'reject' });
  const { sipp } = await network.callee(t);
  await page.call(OUTSIDE);
  await page.until('active');
  const second = await network.caller(t, 'caller-busy', { port: await freeUdpPort() });
  await second.sipp.done();
  assert.equal(await page.run(() => globalThis.bench.phone.calls.length), 1);
  assert.equal(await page.run(() => globalThis.bench.calls.length), 1, 'the page is not told');
  await page.do('hangup');
  await sipp.done();
}

export async function blindTransfer(open, network, t) {
  const page = await open('alice');
  const first = await network.callee(t, 'callee-hangs-up');
  const second = await network.callee(t, 'callee', { says: 'other', port: network.elsewherePort });
  await page.call(OUTSIDE);
  await page.until('active');
  await first.rtp.hear(0.5);
  assert.equal((await page.do('transfer', [ELSEWHERE])).code, undefined);
  await bothTalk(page, first, second, 1);
}

/** The first waits on hold while the second is asked; then the two hear each other, and the page has left. */
export async function attendedTransfer(open, network, t) {
  const page = await open('alice');
  const first = await network.callee(t, 'callee-waits');
  const second = await network.callee(t, 'callee-moves', { says: 'other', port: network.elsewherePort });
  await page.call(OUTSIDE);
  await page.until('active');
  await hears(first.rtp, 'caller', 'the first phone, asked to wait');
  await page.do('hold');
  await page.call(ELSEWHERE);
  await page.until('active');
  await Promise.all([hears(second.rtp, 'caller', 'the second phone, asked'), hears(page, 'other', 'the page')]);
  await page.run(() => {
    const [waiting, asked] = globalThis.bench.calls;
    return waiting.transfer(asked);
  });
  await bothTalk(page, first, second, 2);
}

async function bothTalk(page, first, second, calls) {
  await Promise.all([hears(first.rtp, 'other', 'the first phone'), hears(second.rtp, 'callee', 'the second phone')]);
  for (let n = 0; n < calls; n++) {
    await until(async () => (await page.seen(n)).state === 'ended', `the page to have left call ${n}`);
    assert.equal((await page.seen(n)).ended.cause, 'transferred');
  }
  await first.sipp.hangUp();
  await second.sipp.done();
  await first.sipp.done();
}

/** What would become of a number, before it is called. */
export async function check(open) {
  const page = await open('alice');
  const ask = (to) => page.run((number) => globalThis.bench.phone.check(number), to);
  const allowed = await ask('020 7946 0958');
  assert.deepEqual([allowed.allowed, allowed.number], [true, OUTSIDE]);
  const barred = await ask(PREMIUM);
  assert.deepEqual([barred.allowed, barred.cause, barred.text], [false, 'not-allowed', 'Premium numbers are barred']);
}

/** A token that runs out is told, and renewed by the page's function without an end of the session. */
export async function renewal(open, network) {
  const page = await open(null);
  await page.run((options, first, second) => {
    let asked = 0;
    globalThis.bench.open({ ...options, token: async () => (asked++ === 0 ? first : second) });
    return globalThis.bench.phone.start();
  }, network.options('alice'), network.token('alice', { lasts: 8 }), network.token('alice'));
  const { values } = await page.tells(({ event }) => event === 'tokenexpiring', 'that the token ends');
  assert.ok(values[0] > 0 && values[0] <= 8000, `${values}`);
  await page.run(async (token) => { await globalThis.bench.phone.renew(token); }, network.token('alice'));
  const { code } = await page.run((token) => globalThis.bench.phone.renew(token).catch(({ code: refused }) => ({ code: refused })), network.token('bob'));
  assert.equal(code, 'unauthorized');
  assert.equal(await page.run(() => globalThis.bench.phone.state), 'ready', 'the session goes on');
}

/** Devices: what there are, another microphone in mid-call, the level of one, volume. */
export async function devices(open, network, t) {
  const page = await open('alice');
  const { sipp, rtp } = await network.callee(t);
  await page.call(OUTSIDE);
  await page.until('active');
  await hears(rtp, 'caller', 'the phone');
  const known = await page.run(async () => {
    const { audio } = globalThis.bench.phone;
    const levels = [];
    const stop = await audio.testInput((db) => levels.push(db));
    await new Promise((resolve) => setTimeout(resolve, 600));
    stop();
    audio.volume = 2;
    audio.play('dtmf', '5');
    audio.play('ring');
    await audio.unlock();
    const ids = audio.inputs.map(({ deviceId }) => deviceId);
    await audio.useInput(ids.at(-1));
    return { ids, loudest: Math.max(...levels), volume: audio.volume, input: audio.input };
  });
  assert.ok(known.ids.length > 0 && known.input === known.ids.at(-1), JSON.stringify(known));
  assert.ok(known.loudest > -60, `the microphone's level: ${known.loudest} dB`);
  assert.equal(known.volume, 1);
  await rtp.hear(0.5);
  await hears(rtp, 'caller', 'the phone, of the other microphone');
  await page.do('hangup');
  await sipp.done();
}

// -- what a call outlives

/** The WebSocket breaks in mid-call: the call is the same afterwards, for both ends. */
export async function lostSocket(open, network, t) {
  const page = await open('alice');
  const { sipp, rtp } = await network.callee(t);
  await page.call(OUTSIDE);
  const { id } = await page.until('active');
  await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
  await page.run(() => globalThis.bench.sockets.at(-1).close(3000));
  await page.tells(({ event, values }) => event === 'state' && values[0] === 'reconnecting', 'that it reconnects');
  await page.until('active');
  await Promise.all([hears(rtp, 'caller', 'the phone, afterwards'), hears(page, 'callee', 'the page, afterwards')]);
  assert.equal((await page.seen()).id, id);
  await page.do('digits', ['7']);
  await until(() => rtp.digits === '7', 'a digit over the new socket');
  await page.do('hangup');
  await sipp.done();
  assert.equal(network.gateway.records.filter((record) => JSON.stringify(record).includes(id)).length, 1, 'one record of it');
}

/** The page is loaded anew in mid-call. */
export async function reload(open, network, t) {
  const page = await open('alice', { keepCalls: true, again: true });
  const { sipp, rtp } = await network.callee(t);
  await page.call(OUTSIDE);
  const { id } = await page.until('active');
  await hears(rtp, 'caller', 'the phone');
  const began = Date.now();
  await page.page.reload();
  await page.tells(({ event }) => event === 'resumed', 'that the call is back');
  const call = await page.until('active');
  console.log(`  from the reload to the call: ${Date.now() - began} ms`);
  assert.deepEqual([call.id, call.remote.number, call.direction], [id, OUTSIDE, 'out']);
  await Promise.all([hears(rtp, 'caller', 'the phone, afterwards'), hears(page, 'callee', 'the page, afterwards')]);
  assert.equal(rtp.sources.size, 1, 'all RTP comes from one address');
  await page.do('hangup');
  await sipp.done();
}

/** A closed page that would have kept its calls: they end when no other page has come. */
export async function closed(open, network, t) {
  const { sipp, rtp } = await network.callee(t);
  const page = await open('alice', { keepCalls: true });
  await page.call(OUTSIDE);
  await page.until('active');
  await rtp.hear(0.5);
  const began = Date.now();
  await page.run(() => location.assign('about:blank'));
  const bye = await sipp.message(/^BYE /, 'received', 15_000);
  const took = bye.at - began;
  console.log(`  from the page that went to BYE: ${took} ms`);
  assert.ok(took > 5000 && took < 9000, `${took} ms`);
  await sipp.done();
}

/** No path for sound while the gateway is in reach: the ICE restart finds it again. */
export async function iceRestart(open, network, t) {
  const page = await open('alice');
  const { sipp, rtp } = await network.callee(t);
  await page.call(OUTSIDE);
  await page.until('active');
  await hears(rtp, 'caller', 'the phone');
  const before = await page.run(() => globalThis.bench.calls[0].peerConnection.localDescription.sdp.match(/ice-ufrag:(\S+)/)[1]);
  await page.run(() => {
    // As if the path had gone: what the browser tells then.
    const pc = globalThis.bench.calls[0].peerConnection;
    Object.defineProperty(pc, 'connectionState', { value: 'failed', configurable: true });
    pc.onconnectionstatechange();
    delete pc.connectionState;
  });
  await until(async () => (await page.run(() => globalThis.bench.calls[0].peerConnection.localDescription.sdp.match(/ice-ufrag:(\S+)/)[1])) !== before, 'another description');
  await page.until('active');
  await Promise.all([hears(rtp, 'caller', 'the phone, afterwards'), hears(page, 'callee', 'the page, afterwards')]);
  await page.do('hangup');
  await sipp.done();
}
