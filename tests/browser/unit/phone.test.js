/** The phone itself: questions, tokens, devices, sounds, a second call; the gateway is played by the test. */

import assert from 'node:assert/strict';
import { afterEach, mock, test } from 'node:test';
import { beeps, mediaDevices, pageEvents, Socket, Stream } from '../lib/stand-ins.js';
import { Bench, settled, turns, WELCOME } from '../lib/client.js';
import { Phone } from '../../../web/client/index.js';

let bench;
afterEach(async () => {
  mock.timers.reset();
  await bench?.phone.stop();
  bench = null;
});

test('what a number would come to is asked for, and answered to who asked', async () => {
  bench = await new Bench().start();
  const [first, second] = [bench.phone.check('020 7946 0958'), bench.phone.check('0909', { from: 'anonymous' })];
  const [one, two] = bench.said('check');
  assert.deepEqual([one.to, two.to, two.from], ['020 7946 0958', '0909', 'anonymous']);
  bench.hears({ type: 'checked', n: two.n, to: '0909', allowed: false, cause: 'not-allowed', text: 'Premium numbers are barred' });
  bench.hears({ type: 'checked', n: one.n, to: '020 7946 0958', allowed: true, number: '+442079460958', kind: 'geographic', text: '' });
  assert.deepEqual([(await first).number, (await second).cause], ['+442079460958', 'not-allowed']);
  const refused = assert.rejects(bench.phone.check('1'), { code: 'too-often' });
  bench.hears({ type: 'error', code: 'too-often', text: 'asked too often', re: 'check', n: bench.said('check').at(-1).n });
  await refused;
  const lost = assert.rejects(bench.phone.check('2'), { code: 'connection-lost' });
  bench.socket.break();
  await lost;
});

test('a call brings what the page gives it, and an incoming one what the network says', async () => {
  bench = await new Bench().start();
  const call = await bench.phone.call('600', { from: 'anonymous', params: { customer: '4711' } });
  const [message] = bench.said('call');
  assert.deepEqual([message.to, message.from, message.params, call.params], ['600', 'anonymous', { customer: '4711' }, { customer: '4711' }]);
  const incoming = await bench.incoming({ name: 'Zoë', params: { queue: 'sales' }, verified: 'A' });
  assert.deepEqual([{ ...incoming.remote }, incoming.params], [{ number: '+447700900123', name: 'Zoë', verified: 'A' }, { queue: 'sales' }]);
});

test('who is busy says so, where the page wants it', async () => {
  bench = await new Bench({ whileBusy: 'reject' }).start();
  await bench.active();
  bench.phone.on('incoming', () => assert.fail('the page is not told'));
  bench.hears({ type: 'incoming', call: '3f', id: '3f', from: 'anonymous', to: '600', sdp: 'v=0\r\n' });
  assert.deepEqual(bench.said('reject'), [{ type: 'reject', call: '3f', code: 486 }]);
});

test('an ignored call ends here and is refused nowhere', async () => {
  bench = await new Bench().start();
  const call = await bench.incoming();
  call.ignore();
  assert.deepEqual([call.ended.cause, bench.said('reject'), bench.said('hangup')], ['ignored', [], []]);
});

test('feedback names the call as the gateway knows it, after its end too', async () => {
  bench = await new Bench().start();
  const call = await bench.active();
  call.hangup();
  call.feedback(2, 'echo');
  assert.deepEqual(bench.said('feedback'), [{ type: 'feedback', id: '1f', score: 2, issue: 'echo' }]);
});

// -- tokens

test('a token of the page’s function is renewed before its end, in the same session', async () => {
  const now = Date.now();
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now });
  const tokens = ['first', 'second'];
  bench = new Bench({ token: async () => tokens.shift() });
  const told = [];
  bench.phone.on('tokenexpiring', (left) => told.push(left));
  const started = bench.phone.start();
  await turns();
  bench.open({ ...WELCOME, expires: now / 1000 + 600 });
  await started;
  mock.timers.tick(539_000);
  assert.deepEqual(told, []);
  mock.timers.tick(1000);
  await turns();
  assert.deepEqual([told, bench.said('hello')[0].token, bench.said('renew')[0].token], [[60_000], 'first', 'second']);
  bench.hears({ type: 'renewed', expires: now / 1000 + 1200 });
  assert.equal(bench.phone.state, 'ready');
});

/** A phone of which the token, a function's, ends so many seconds after its welcome; timers stand still. */
async function expiring(seconds) {
  const now = Date.now();
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now });
  bench = new Bench({ token: async () => 'the same' });
  const started = bench.phone.start();
  await turns();
  bench.open({ ...WELCOME, expires: now / 1000 + seconds });
  await started;
  return now / 1000;
}

test('a renewal that brings no later end is not tried over and over', async () => {
  const now = await expiring(600);
  mock.timers.tick(540_000);
  await turns();
  bench.hears({ type: 'renewed', expires: now + 600 });
  mock.timers.tick(3_600_000);
  await turns();
  assert.equal(bench.said('renew').length, 1);
});

test('no two renewals follow within five seconds, however short tokens live', async () => {
  const now = await expiring(6);
  mock.timers.tick(1000);
  await turns();
  assert.equal(bench.said('renew').length, 1);
  bench.hears({ type: 'renewed', expires: now + 7 });
  mock.timers.tick(4999);
  await turns();
  assert.equal(bench.said('renew').length, 1);
  mock.timers.tick(1);
  await turns();
  assert.equal(bench.said('renew').length, 2);
});

test('a token is kept for the next connection when the gateway has taken it', async () => {
  bench = await new Bench({ token: 'given' }).start();
  for (const [token, answer, kept] of [
    ['of somebody else', { type: 'error', code: 'unauthorized', text: 'the token is another user’s', re: 'renew' }, 'given'],
    ['fresh', { type: 'renewed' }, 'fresh'],
  ]) {
    const renewed = bench.phone.renew(token).catch(() => {});
    await settled();
    bench.hears(answer);
    await renewed;
    bench.socket.break();
    pageEvents.fire('online');
    await settled();
    bench.open(WELCOME);
    assert.equal(bench.said('hello')[0].token, kept);
  }
});

test('a renewal that is refused leaves the session as it is', async () => {
  bench = await new Bench({ token: 'given' }).start();
  const refused = assert.rejects(bench.phone.renew('of somebody else'), { code: 'unauthorized' });
  await settled();
  bench.hears({ type: 'error', code: 'unauthorized', text: 'the token is another user’s', re: 'renew' });
  await refused;
  assert.equal(bench.phone.state, 'ready');
});

test('a token that never comes is not waited for, at first or at a renewal', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  const tokens = [new Promise(() => {}), 'given', new Promise(() => {})];
  bench = new Bench({ token: () => tokens.shift() });
  const late = { code: 'token-unavailable', text: 'The page got no token in time.' };
  const refused = assert.rejects(bench.phone.start(), late);
  await turns();
  mock.timers.tick(10_000);
  await refused;
  await turns();
  assert.deepEqual([bench.phone.state, bench.errors], ['reconnecting', ['token-unavailable']]);
  mock.timers.tick(500);
  await turns();
  bench.open(WELCOME);
  assert.deepEqual([bench.said('hello')[0].token, bench.phone.state], ['given', 'ready']);
  const renewal = assert.rejects(bench.phone.renew(), late);
  mock.timers.tick(10_000);
  await renewal;
  assert.equal(bench.phone.state, 'ready');
});

test('a sign-in that is refused is tried again only where another token may come', async () => {
  for (const [token, state] of [['given', 'offline'], [async () => 'asked for', 'reconnecting']]) {
    const own = new Bench({ token });
    const refused = assert.rejects(own.phone.start(), { code: 'unauthorized' });
    await settled();
    own.open({ type: 'error', code: 'unauthorized', text: 'the token has expired', re: 'hello' });
    await refused;
    assert.equal(own.phone.state, state);
    await own.phone.stop();
  }
});

// -- what is heard, and what hears

test('an incoming call rings until it is taken; digits sound here too, unless the page says otherwise', async () => {
  bench = await new Bench().start();
  beeps.length = 0;
  const call = await bench.incoming();
  assert.ok(beeps.length > 0, 'it rings');
  await call.accept();
  bench.tells(call, 'answered');
  beeps.length = 0;
  await call.digits('5', { ms: 40 });
  assert.equal(beeps.length, 2, 'two tones of a key');
  const quiet = await new Bench({ sounds: { dtmf: null } }).start();
  const silent = await quiet.active();
  beeps.length = 0;
  await silent.digits('5', { ms: 40 });
  assert.equal(beeps.length, 0);
  await quiet.phone.stop();
});

test('the devices are told, and the chosen microphone is the one that opens', async (t) => {
  const wanted = [];
  const open = mediaDevices.getUserMedia;
  mediaDevices.enumerateDevices = async () => [{ kind: 'audioinput', deviceId: 'headset', label: 'Headset' }, { kind: 'audiooutput', deviceId: 'speaker', label: 'Speaker' }];
  mediaDevices.getUserMedia = (constraints) => {
    wanted.push(constraints.audio);
    return open(constraints);
  };
  t.after(() => {
    delete mediaDevices.enumerateDevices;
    mediaDevices.getUserMedia = open;
  });
  bench = new Bench();
  const told = new Promise((resolve) => { bench.phone.on('devices', resolve); });
  const { inputs, outputs } = await told;
  assert.deepEqual([inputs[0].label, outputs[0].label], ['Headset', 'Speaker']);
  await bench.start();
  await bench.active();
  await bench.phone.audio.useInput('headset');
  assert.deepEqual(wanted, [true, { deviceId: { exact: 'headset' } }], 'in the present call too');
});

/** Microphones that open when the test says so, told by what was asked for. */
function slowMicrophones(t) {
  const opened = [];
  const open = mediaDevices.getUserMedia;
  mediaDevices.getUserMedia = () => new Promise((resolve) => { opened.push(() => { const stream = new Stream(); resolve(stream); return stream; }); });
  t.after(() => { mediaDevices.getUserMedia = open; });
  return opened;
}

test('warming up twice opens one microphone, which the next call has', async (t) => {
  const opened = slowMicrophones(t);
  bench = await new Bench().start();
  const warm = [bench.phone.warmUp(), bench.phone.warmUp()];
  await settled();
  assert.equal(opened.length, 1);
  const [track] = opened[0]().getTracks();
  await Promise.all(warm);
  await bench.phone.warmUp();
  const call = await bench.phone.call('600');
  assert.deepEqual([opened.length, track.stopped], [1, undefined]);
  await settled();
  call.hangup();
  assert.equal(track.stopped, true);
});

test('a microphone that opens when the phone was stopped, or another was chosen, is closed again', async (t) => {
  const opened = slowMicrophones(t);
  for (const late of [() => bench.phone.stop(), () => bench.phone.audio.useInput('headset')]) {
    bench = await new Bench().start();
    const warm = bench.phone.warmUp();
    await settled();
    await late();
    const [track] = opened.pop()().getTracks();
    await warm;
    assert.equal(track.stopped, true);
  }
});

test('of two microphones chosen quickly the last one is used, whichever opens first', async (t) => {
  bench = await new Bench().start();
  const call = await bench.active();
  const wanted = [];
  const open = mediaDevices.getUserMedia;
  mediaDevices.getUserMedia = ({ audio }) => new Promise((resolve) => {
    const stream = new Stream();
    wanted.push({ id: audio.deviceId.exact, stream, opens: () => resolve(stream) });
  });
  t.after(() => { mediaDevices.getUserMedia = open; });
  const chosen = [bench.phone.audio.useInput('slow'), bench.phone.audio.useInput('quick')];
  await settled();
  const [slow, quick] = wanted;
  quick.opens();
  await settled();
  slow.opens();
  await settled();
  const [again] = wanted.slice(2);
  again.opens();
  await Promise.all(chosen);
  assert.deepEqual(wanted.map(({ id }) => id), ['slow', 'quick', 'quick']);
  assert.deepEqual(wanted.map(({ stream }) => Boolean(stream.getTracks()[0].stopped)), [true, true, false], 'one is open');
  call.hangup();
  assert.equal(again.stream.getTracks()[0].stopped, true);
});

test('digits with a gap of the page’s go one by one', async () => {
  bench = await new Bench({ sounds: { dtmf: null } }).start();
  const call = await bench.active();
  await call.digits('12', { ms: 40, gap: 100 });
  await call.digits('34', { ms: 40 });
  assert.deepEqual(bench.said('digits').map(({ digits }) => digits), ['1', '2', '34']);
});

// -- before the first call

async function preflight(answer) {
  const asked = Phone.preflight({ url: 'wss://gw.example/phone', seconds: 2, log: 'silent' });
  await settled();
  const socket = Socket.last;
  socket.open();
  socket.hear(WELCOME);
  await settled();
  const probe = socket.sent.find(({ type }) => type === 'probe');
  answer((type, more) => socket.hear({ type, call: probe.call, ...more }));
  return asked;
}

test('preflight tries the way and tells how it sounds', async () => {
  const leg = { codec: 'opus', loss_pct: 0, jitter_ms: 4, rtt_ms: 20, delay_ms: 60, mos: 4.3 };
  const report = await preflight((tell) => {
    tell('answer', { id: '9f', sdp: 'v=0\r\n' });
    tell('answered');
    for (let second = 0; second < 3; second++) tell('quality', { grade: 'good', delay_ms: 60, down: { ...leg }, up: { ...leg, loss_pct: 12 } });
  });
  assert.deepEqual([report.verdict, report.microphone, report.mos, report.lossPct], ['degraded', 'ok', 4.3, 6]);
  assert.deepEqual(report.reasons.map(({ code, value, limit }) => [code, value, limit]), [['high-loss', 6, 2]]);
});

test('preflight says why no call can be made', async () => {
  for (const code of ['wrong-state', 'too-often']) {
    const refused = await preflight((tell) => tell('error', { code, text: 'not now', re: 'probe' }));
    assert.deepEqual([refused.verdict, refused.ice], ['ready', undefined], 'a gateway that has no probe, or none at present');
  }
  const draining = await preflight((tell) => tell('ended', { by: 'gateway', cause: 'draining', sip: 503, text: '' }));
  assert.deepEqual([draining.verdict, draining.reasons[0].code], ['blocked', 'draining']);
  const ended = await preflight((tell) => {
    tell('answer', { id: '9f', sdp: 'v=0\r\n' });
    tell('ended', { by: 'network', cause: 'media-lost', text: '' });
  });
  assert.deepEqual([ended.verdict, ended.reasons[0].code], ['blocked', 'media-lost']);
});
