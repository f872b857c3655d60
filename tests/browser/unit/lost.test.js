/** Calls outlive what carries them: a lost socket, a lost sound path, a page that is loaded anew. */

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { Connection, mediaDevices, pageEvents, sessionStorage, Socket, Stream } from '../lib/stand-ins.js';
import { Bench, RESUMABLE, settled, turns, WELCOME } from '../lib/client.js';

let bench;
beforeEach(() => { sessionStorage.clear(); });
afterEach(async () => {
  mock.timers.reset();
  await bench.phone.stop();
});

const entry = (call, more = {}) => ({ call: call._key, id: call.id, direction: call.direction, remote: '600', state: 'answered', held_by_us: false, held_by_them: false, since_ms: 5000, ...more });
const statesOf = (call) => {
  const states = [];
  call.on('state', (state) => states.push(state));
  return states;
};

/** The socket breaks, and the next one is opened when its time has come. */
async function reconnect(welcome) {
  const before = bench.socket;
  pageEvents.fire('online'); // or a second's wait
  await settled();
  assert.notEqual(bench.socket, before, 'another socket');
  if (welcome) bench.open(welcome);
  await settled();
}

test('a call outlives its socket: hello brings the secret, and the call is restarted', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  const states = statesOf(call);
  bench.socket.break();
  assert.deepEqual([call.state, bench.phone.state, bench.errors], ['reconnecting', 'reconnecting', ['connection-lost']]);
  await reconnect({ ...RESUMABLE, resume: 'secret-2', calls: [entry(call)] });
  assert.deepEqual(bench.socket.sent[0], { type: 'hello', resume: 'secret-1' });
  const [restart] = bench.said('restart');
  assert.equal(restart.call, call._key);
  assert.equal(call.peerConnection.restarts, 1);
  assert.equal(call.state, 'reconnecting');
  bench.tells(call, 'answer', { id: call.id, sdp: 'v=0\r\n' });
  await settled();
  assert.deepEqual(states, ['reconnecting', 'active']);
  assert.equal(bench.phone.state, 'ready');
});

test('TURN servers that are told anew are those of the next restart, and of the next call', async () => {
  const turn = (username) => [{ urls: ['turn:turn.example'], username, credential: 'c' }];
  const used = (call) => call.peerConnection.getConfiguration().iceServers;
  bench = await new Bench().start({ ...RESUMABLE, ice_servers: turn('1:alice') });
  const call = await bench.active();
  bench.hears({ type: 'ice-servers', ice_servers: turn('2:alice') });
  assert.deepEqual([used(call), used(await bench.active())], [turn('1:alice'), turn('2:alice')]);
  call.peerConnection.becomes('failed');
  await settled();
  assert.deepEqual([used(call), call.peerConnection.restarts], [turn('2:alice'), 1]);
  assert.equal(call.peerConnection.getConfiguration().bundlePolicy, 'max-bundle', 'nothing else is another');
});

test('each loss uses the secret of the last welcome', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  for (const n of [2, 3, 4]) {
    bench.socket.break();
    await reconnect({ ...RESUMABLE, resume: `secret-${n}`, calls: [entry(call)] });
    assert.equal(bench.socket.sent[0].resume, `secret-${n - 1}`);
    assert.equal(bench.said('restart').length, 1);
  }
});

test('without a secret calls end with their socket', async () => {
  bench = await new Bench().start(WELCOME);
  const call = await bench.active();
  bench.socket.break();
  assert.deepEqual([call.ended.by, call.ended.cause], ['network', 'connection-lost']);
});

test('a new session has no calls of the old one', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  bench.socket.break();
  await reconnect(WELCOME);
  assert.equal(call.ended.cause, 'connection-lost');
});

test('what became of a call meanwhile is told as it was', async () => {
  bench = await new Bench().start(RESUMABLE);
  const [ended, held] = [await bench.active(), await bench.active()];
  bench.socket.break();
  await reconnect({ ...RESUMABLE, calls: [entry(held, { held_by_them: true })] });
  bench.tells(ended, 'ended', { by: 'them', cause: 'normal', text: 'The call was hung up' });
  assert.deepEqual([ended.ended.by, ended.ended.cause], ['them', 'normal']);
  assert.equal(held.heldByThem, true);
});

test('a call that never began ends when nothing follows', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.phone.call('600');
  bench.socket.break();
  mock.timers.enable({ apis: ['setTimeout'] });
  pageEvents.fire('online');
  await turns();
  bench.open({ ...RESUMABLE, calls: [] });
  mock.timers.tick(1000);
  assert.equal(call.ended.cause, 'connection-lost');
});

test('a call that was answered meanwhile is active', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.phone.call('600');
  bench.socket.break();
  await reconnect({ ...RESUMABLE, calls: [{ ...entry(call), id: '7f' }] });
  bench.tells(call, 'answer', { id: '7f', sdp: 'v=0\r\n' });
  await settled();
  call.peerConnection.becomes('connected');
  assert.deepEqual([call.id, call.state], ['7f', 'active']);
  assert.ok(call.answeredAt);
});

test('hanging up while the gateway is away is told when it is back', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  bench.socket.break();
  call.hangup();
  assert.equal(call.ended.by, 'us');
  await reconnect({ ...RESUMABLE, calls: [entry(call)] });
  assert.ok(bench.said('hangup').some((message) => message.call === call._key));
});

test('a phone that was not started comes back to tell a hang-up, and rests', async () => {
  bench = new Bench();
  const call = await bench.phone.call('600');
  await settled();
  bench.open(RESUMABLE);
  bench.tells(call, 'answer', { id: '1f', sdp: 'v=0\r\n' });
  bench.tells(call, 'answered');
  bench.socket.break();
  call.hangup();
  assert.equal(bench.phone.state, 'reconnecting');
  await reconnect();
  bench.socket.break(); // one that fails is not the last
  await reconnect({ ...RESUMABLE, calls: [] });
  assert.deepEqual(bench.said('hangup'), [{ type: 'hangup', call: call._key }]);
  assert.deepEqual([bench.socket.closedWith, bench.phone.state], [1000, 'offline']);
});

/** A stopped phone: its call was active, and the socket lost. */
async function stoppedWhileAway() {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  mock.timers.enable({ apis: ['setTimeout'] });
  bench.socket.break();
  const states = [];
  bench.phone.on('state', (state) => states.push(state));
  await bench.phone.stop();
  assert.deepEqual([states, call.ended.by], [['closed'], 'us']);
  return call;
}

async function pass(seconds) {
  for (; seconds > 0; seconds--) {
    mock.timers.tick(1000);
    await turns();
  }
}

test('a phone that is stopped while the gateway is away tells what it hung up, and no more', async () => {
  const call = await stoppedWhileAway();
  const lost = bench.socket;
  await pass(1);
  assert.notEqual(bench.socket, lost);
  bench.open({ ...RESUMABLE, calls: [] });
  assert.deepEqual(bench.said('hangup'), [{ type: 'hangup', call: call._key }]);
  assert.deepEqual([bench.socket.closedWith, bench.phone.state], [1000, 'closed']);
  const { length } = bench.sockets;
  await pass(60);
  assert.equal(bench.sockets.length, length);
});

test('nobody is told of a hang-up when the grace time is over', async () => {
  await stoppedWhileAway();
  await pass(29);
  assert.equal(bench.socket.readyState, Socket.CONNECTING);
  await pass(1);
  assert.deepEqual([bench.socket.closedWith, bench.phone.state], [1000, 'closed']);
  const { length } = bench.sockets;
  await pass(60);
  assert.equal(bench.sockets.length, length);
});

test('a sign-in that is refused on the way back is tried again with a fresh token', async () => {
  const tokens = ['first', 'too old', 'fresh'];
  bench = await new Bench({ token: async () => tokens.shift() }).start(RESUMABLE);
  const call = await bench.active();
  bench.socket.break();
  await reconnect({ type: 'error', code: 'unauthorized', text: 'the token has expired', re: 'hello' });
  assert.deepEqual([call.state, bench.phone.state], ['reconnecting', 'reconnecting']);
  await reconnect({ ...RESUMABLE, calls: [entry(call)] });
  assert.deepEqual(bench.socket.sent[0], { type: 'hello', token: 'fresh', resume: 'secret-1' });
  assert.equal(bench.said('restart').length, 1);
});

test('with a token that cannot change, a refused sign-in is the end', async () => {
  bench = await new Bench({ token: 'given' }).start(RESUMABLE);
  const call = await bench.active();
  bench.socket.break();
  await reconnect({ type: 'error', code: 'unauthorized', text: 'the token has expired', re: 'hello' });
  assert.deepEqual([call.ended.cause, bench.phone.state], ['unauthorized', 'offline']);
});

test('the grace time over, the call has ended', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  bench = new Bench();
  const started = bench.phone.start();
  await turns();
  bench.open({ ...RESUMABLE, grace_ms: 3000 });
  await started;
  const dialling = bench.phone.call('600');
  await turns();
  const call = await dialling;
  bench.tells(call, 'answer', { id: '1f', sdp: 'v=0\r\n' });
  bench.tells(call, 'answered');
  bench.socket.break();
  mock.timers.tick(2999);
  assert.equal(call.state, 'reconnecting');
  mock.timers.tick(1);
  assert.deepEqual([call.ended.by, call.ended.cause], ['network', 'media-lost']);
});

test('what the phone could not do meanwhile is refused, not kept', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  const held = assert.rejects(call.hold(), { code: 'connection-lost' });
  const moved = assert.rejects(call.transfer('603'), { code: 'connection-lost' });
  bench.socket.break();
  await Promise.all([held, moved]);
  await assert.rejects(call.hold(), { code: 'not-answered' });
  await assert.rejects(call.digits('1'), { code: 'not-answered' });
  call.mute();
  assert.equal(call.muted, true);
});

test('digits that the way was lost for reject; the next ones go again', async () => {
  bench = await new Bench({ sounds: { dtmf: null } }).start(RESUMABLE);
  const call = await bench.active();
  const digits = assert.rejects(call.digits('1w2', { ms: 40 }), { code: 'connection-lost' });
  await settled();
  const broken = bench.socket;
  broken.break();
  await digits;
  while (bench.socket === broken) await settled(); // the next attempt begins by itself
  bench.open({ ...RESUMABLE, calls: [entry(call)] });
  await call.digits('3', { ms: 40 });
  assert.deepEqual(bench.said('digits').map(({ digits: sent }) => sent), ['3']);
  const late = assert.rejects(call.digits('4w5', { ms: 40 }), { code: 'normal' });
  await settled();
  call.hangup();
  await late;
});

test('a call placed while the gateway is away goes with the next hello, and not twice', async () => {
  bench = await new Bench().start(RESUMABLE);
  await bench.active();
  bench.socket.break();
  const late = await bench.phone.call('603'); // does not wait for the next attempt
  bench.open({ ...RESUMABLE, calls: [] });
  assert.equal(bench.said('call').filter((message) => message.call === late._key).length, 1);
  assert.notEqual(late.state, 'ended');
});

test('an incoming call that rang before the loss can be accepted after it', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.incoming();
  bench.socket.break();
  assert.equal(call.state, 'ringing');
  await reconnect({ ...RESUMABLE, calls: [entry(call, { state: 'incoming' })] });
  bench.hears({ type: 'incoming', call: '2f', id: '2f', from: '+447700900123', to: '600', sdp: 'v=0\r\n' });
  assert.equal(bench.phone.calls.length, 1, 'it is the same call');
  await call.accept();
  assert.equal(bench.said('accept').length, 1);
});

test('an accept that was lost is said again', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.incoming();
  await call.accept();
  bench.socket.break();
  await reconnect({ ...RESUMABLE, calls: [entry(call, { state: 'incoming' })] });
  assert.equal(bench.said('accept').length, 1);
  assert.equal(call.state, 'connecting');
});

test('an accept that waits for the gateway outlives an attempt that fails', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.incoming();
  bench.socket.break();
  await call.accept();
  await reconnect();
  bench.socket.break();
  assert.equal(call.ended, null);
  await reconnect({ ...RESUMABLE, calls: [entry(call, { state: 'incoming' })] });
  assert.deepEqual([bench.said('accept').length, call.state], [1, 'connecting']);
});

test('an accept that was under way when the socket was lost is said once', async (t) => {
  bench = await new Bench().start(RESUMABLE);
  const open = mediaDevices.getUserMedia;
  t.after(() => { mediaDevices.getUserMedia = open; });
  for (const opensAgain of ['before', 'after']) {
    let opened;
    mediaDevices.getUserMedia = () => new Promise((resolve) => { opened = resolve; });
    const call = await bench.incoming({ call: opensAgain });
    const accepted = call.accept();
    await settled();
    bench.socket.break();
    if (opensAgain === 'after') opened(new Stream());
    await settled();
    await reconnect({ ...RESUMABLE, calls: [entry(call, { state: 'incoming' })] });
    if (opensAgain === 'before') opened(new Stream());
    await accepted;
    assert.deepEqual([bench.said('accept').length, call.state], [1, 'connecting'], `the gateway is back ${opensAgain} the microphone`);
    call.hangup();
  }
});

test('another page that takes the session over has its calls', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  bench.socket.break(4001);
  assert.deepEqual([call.ended.cause, bench.phone.state, bench.errors], ['taken-over', 'offline', ['taken-over']]);
});

// -- the sound path alone

test('a sound path that fails in a call is sought anew over the same socket', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  const states = statesOf(call);
  call.peerConnection.becomes('failed');
  await settled();
  assert.equal(bench.said('restart').length, 1);
  assert.equal(bench.said('ping').length, 1, 'the gateway is asked whether it is in reach');
  bench.tells(call, 'answer', { id: call.id, sdp: 'v=0\r\n' });
  await settled();
  assert.equal(call.state, 'reconnecting', 'until the path stands');
  call.peerConnection.becomes('connected');
  assert.deepEqual(states, ['reconnecting', 'active']);
});

test('while the way is sought anew, the error of another message is not taken for that of the restart', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  call.peerConnection.becomes('failed');
  await settled();
  for (const re of ['digits', undefined]) bench.tells(call, 'error', { code: 'wrong-state', text: 'the call is in no state for this', re });
  assert.deepEqual([call.state, bench.errors], ['reconnecting', ['wrong-state', 'wrong-state']]);
  bench.tells(call, 'error', { code: 'bad-sdp', text: 'no audio', re: 'restart' });
  assert.equal(call.ended.cause, 'media-lost');
});

test('a gateway that does not answer in time is given up, and sought anew', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  mock.timers.enable({ apis: ['setTimeout'] });
  call.peerConnection.becomes('failed');
  mock.timers.tick(2000);
  assert.equal(bench.socket.readyState, 3);
  assert.deepEqual([call.state, bench.phone.state], ['reconnecting', 'reconnecting']);
});

test('a path that was never there is a failed call', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.phone.call('600');
  call.peerConnection.becomes('failed');
  assert.equal(call.ended.cause, 'media-failed');
});

// -- a page that is loaded anew

async function reload(options = { keepCalls: true }) {
  pageEvents.fire('pagehide', { persisted: false });
  const left = bench;
  bench = new Bench({ ...options, url: left.url });
  return left;
}

test('a page that keeps its calls says so when it goes, and the next one has them', async () => {
  bench = await new Bench({ keepCalls: true }).start(RESUMABLE);
  const before = await bench.active();
  before.mute();
  const { socket } = bench;
  const left = await reload();
  assert.deepEqual(socket.sent.at(-1), { type: 'bye', within_ms: 6000 });
  const resumed = [];
  bench.phone.on('resumed', (call) => resumed.push(call));
  await bench.start({ ...RESUMABLE, calls: [entry(before)] });
  const [call] = resumed;
  assert.equal(bench.socket.sent[0].resume, 'secret-1');
  assert.deepEqual([call.id, call.state, call.muted, call.remote.number, bench.phone.calls.length], [before.id, 'reconnecting', true, '600', 1]);
  await settled();
  const [restart] = bench.said('restart');
  assert.equal(restart.call, before._key);
  bench.tells(call, 'answer', { id: call.id, sdp: 'v=0\r\n' });
  await settled();
  Connection.made.at(-1).becomes('connected');
  assert.equal(call.state, 'active');
  assert.ok(call.answeredAt < Date.now());
  assert.equal(sessionStorage.size, 0, 'a secret works once');
  await left.phone.stop();
});

test('a page that keeps no calls ends them when it goes', async () => {
  bench = await new Bench().start(RESUMABLE);
  const call = await bench.active();
  const { socket } = bench;
  const left = await reload({});
  assert.deepEqual(socket.sent.slice(-2), [{ type: 'hangup', call: call._key }, { type: 'bye' }]);
  assert.equal(socket.closedWith, 1000);
  assert.equal(call.state, 'ended');
  assert.equal(sessionStorage.size, 0);
  await left.phone.stop();
});

test('a session of which nothing is known here is hung up', async () => {
  bench = await new Bench().start({ ...RESUMABLE, calls: [{ call: 'c7', id: '7f', direction: 'out', remote: '600', state: 'answered', held_by_us: false, held_by_them: false, since_ms: 1 }] });
  assert.deepEqual(bench.said('hangup'), [{ type: 'hangup', call: 'c7' }]);
  assert.equal(bench.sockets.length, 1);
});
