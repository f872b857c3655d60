/** What the client says to the gateway, and when it takes a call for over; the browser's parts are stand-ins. */

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Connection, Socket } from '../lib/stand-ins.js';
import { Phone } from '../../../web/client/index.js';

let phone;
let socket;
let errors;

beforeEach(async () => {
  phone = new Phone({ url: 'wss://gw.example/phone', log: 'silent' });
  errors = [];
  phone.on('error', (error) => errors.push(error.code));
  const ready = phone.start();
  await settled();
  socket = Socket.last;
  socket.open();
  socket.hear({ type: 'welcome', user: 'alice', session: '1', version: 1 });
  await ready;
});
afterEach(() => phone.stop());

/** Lets what is waiting for nothing but its turn run. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
const said = (call) => socket.sent.filter((message) => message.call === call._key).map(({ type, code }) => (code ? `${type} ${code}` : type));
const hear = (call, type, more = {}) => socket.hear({ type, call: call._key, ...more });
const hearError = (call, re, code) => hear(call, 'error', { code, text: 'as the gateway says it', re });

async function called() {
  const call = await phone.call('600');
  hear(call, 'answer', { id: '1f', sdp: 'v=0\r\n' });
  hear(call, 'ringing');
  await settled();
  return call;
}

function incoming() {
  return new Promise((resolve) => {
    phone.on('incoming', resolve);
    socket.hear({ type: 'incoming', call: '2f', id: '2f', from: '+447700900123', to: '600', sdp: 'v=0\r\n' });
  });
}

test('digits before the answer are refused here, and never sent', async () => {
  const call = await called();
  await assert.rejects(call.digits('1'), { code: 'not-answered' });
  hear(call, 'early');
  await assert.rejects(call.digits('1'), { code: 'not-answered' });
  assert.deepEqual(said(call), ['call']);
  hear(call, 'answered');
  await call.digits('1');
  assert.deepEqual(said(call), ['call', 'digits']);
});

test('a digit lasts as long as the protocol takes', async () => {
  const call = await called();
  hear(call, 'answered');
  for (const ms of [1, 100, 5000]) await call.digits('1', { ms });
  assert.deepEqual(socket.sent.filter(({ type }) => type === 'digits').map(({ ms }) => ms), [40, 100, 1000]);
});

test('an error about a call on its way leaves it as it is: hanging up still tells the gateway', async () => {
  for (const [re, code] of [['digits', 'wrong-state'], [undefined, 'bad-message'], ['hangup', 'unknown-call']]) {
    const call = await called();
    hearError(call, re, code);
    assert.deepEqual([call.state, errors.splice(0)], ['ringing', [code]]);
    call.hangup();
    assert.deepEqual(said(call), ['call', 'hangup']);
  }
});

test('a call that is given up before its connection was made makes none', async () => {
  const own = new Phone({ url: 'wss://gw.example/phone', log: 'silent', iceTransportPolicy: 'relay' });
  const { length } = Connection.made;
  const calling = assert.rejects(own.call('600'), { code: 'cancelled' });
  await settled();
  own.calls[0].hangup(); // while the gateway has not named its TURN servers
  Socket.last.open();
  Socket.last.hear({ type: 'welcome', user: 'alice', session: '2', version: 1 });
  await calling;
  assert.equal(Connection.made.length, length);
  await own.stop();
});

test('a call that the gateway refuses by an error has not begun', async () => {
  const call = await phone.call('600');
  hearError(call, 'call', 'bad-sdp');
  assert.deepEqual([call.ended.by, call.ended.cause, call.peerConnection.closed], ['gateway', 'bad-sdp', true]);
  assert.deepEqual(said(call), ['call']);
});

test('an accept that is refused is told as a reject, as the call still rings', async () => {
  const call = await incoming();
  await call.accept();
  hearError(call, 'accept', 'bad-sdp');
  assert.deepEqual(said(call), ['accept', 'reject 480']);
  assert.equal(call.ended.cause, 'bad-sdp');
});

test('a call that breaks after its accept is hung up', async () => {
  const call = await incoming();
  await call.accept();
  hear(call, 'answered');
  call.peerConnection.connectionState = 'failed';
  call.peerConnection.onconnectionstatechange();
  assert.deepEqual(said(call), ['accept', 'hangup']);
});

test('what crosses the end of its call is no error', async () => {
  const ours = await called();
  ours.hangup();
  hearError(ours, 'hangup', 'unknown-call');
  const theirs = await incoming();
  theirs.reject();
  hearError(theirs, 'reject', 'unknown-call');
  const taken = await incoming();
  await taken.accept();
  hear(taken, 'ended', { by: 'them', cause: 'cancelled', q850: 16, text: '' });
  hearError(taken, 'accept', 'unknown-call');
  assert.deepEqual(errors, []);
});

async function active() {
  const call = await called();
  hear(call, 'answered');
  return call;
}

test('a call is transferred to a number, and ends', async () => {
  const call = await active();
  const states = [];
  call.on('transfer', (state) => states.push(state));
  const done = call.transfer('603');
  assert.deepEqual(socket.sent.at(-1), { type: 'transfer', call: call._key, to: '603' });
  for (const state of ['asked', 'ringing', 'done']) hear(call, 'transfer', { state });
  await done;
  hear(call, 'ended', { by: 'us', cause: 'transferred', text: 'The call was transferred' });
  assert.deepEqual(states, ['asked', 'ringing', 'done']);
  assert.equal(call.ended.cause, 'transferred');
});

test('a call is transferred to another call', async () => {
  const [call, other] = [await active(), await active()];
  const done = call.transfer(other);
  assert.deepEqual(socket.sent.at(-1), { type: 'transfer', call: call._key, with: other._key });
  hear(call, 'ended', { by: 'us', cause: 'transferred', text: '' });
  await done;
});

test('a transfer that comes to nothing says why, and the call goes on', async () => {
  const call = await active();
  const failing = assert.rejects(call.transfer('603'), (error) => error.code === 'transfer-failed' && error.text === 'The called person is busy');
  await assert.rejects(call.transfer('604'), /under way/);
  hear(call, 'transfer', { state: 'failed', sip: 486, text: 'The called person is busy' });
  await failing;
  assert.equal(call.state, 'active');
  const refused = assert.rejects(call.transfer('605'), { code: 'wrong-state' });
  hearError(call, 'transfer', 'wrong-state');
  await refused;
  const ended = assert.rejects(call.transfer('605'), { code: 'normal' });
  hear(call, 'ended', { by: 'them', cause: 'normal', text: '' });
  await ended;
});

test('a hold and its end at once resolve each with its own', async () => {
  const call = await active();
  const order = [];
  const [on, off] = [call.hold().then(() => order.push('on')), call.hold(false).then(() => order.push('off'))];
  hear(call, 'held', { by: 'us', on: true });
  await on;
  await settled();
  assert.deepEqual([order, call.held], [['on'], true]);
  hear(call, 'held', { by: 'us', on: false });
  await off;
  assert.equal(call.held, false);
  const all = [call.hold(), call.hold(false), call.hold()]; // the gateway follows the last wish
  hear(call, 'held', { by: 'us', on: true });
  await Promise.all(all);
});

test('a hold that is refused is none, and a transfer beside it goes on', async () => {
  const call = await active();
  const [held, moved] = [assert.rejects(call.hold(), { code: 'wrong-state' }), call.transfer('603')];
  hearError(call, 'hold', 'wrong-state');
  await held;
  hear(call, 'transfer', { state: 'done' });
  await moved;
});

test('the other side may transfer us', async () => {
  const call = await active();
  const told = new Promise((resolve) => { call.on('transferred', resolve); });
  hear(call, 'transferred', { remote: '+442079460958' });
  assert.deepEqual({ ...await told }, { number: '+442079460958' });
  assert.equal(call.remote.number, '+442079460958');
  assert.equal(call.state, 'active');
});

test('only an answered call is transferred', async () => {
  const call = await called();
  await assert.rejects(call.transfer('603'), { code: 'not-answered' });
});

// -- how it sounds

const LEG = { codec: 'opus', loss_pct: 0.5, jitter_ms: 3, rtt_ms: 20, delay_ms: 60, mos: 4.37 };

/** What a call told its page of sound. */
function soundOf(call) {
  const told = [];
  call.on('quality', ({ grade }) => told.push(grade));
  call.on('warning', ({ code }) => told.push(`+${code}`));
  call.on('cleared', (code) => told.push(`-${code}`));
  return told;
}

test('quality is told as the page knows it, with what only the browser knows', async () => {
  const call = await active();
  call.peerConnection.getStats = async () => new Map([['i', {
    type: 'inbound-rtp', kind: 'audio', totalSamplesReceived: 48_000, concealedSamples: 960, silentConcealedSamples: 480,
    jitterBufferDelay: 40, jitterBufferEmittedCount: 1000,
  }]]);
  const told = new Promise((resolve) => { call.on('quality', resolve); });
  hear(call, 'quality', { grade: 'good', delay_ms: 118, down: LEG, trunk_down: { ...LEG, codec: 'PCMU', buffer_ms: 20 } });
  const { grade, delayMs, down, up, trunkDown } = await told;
  assert.deepEqual([grade, delayMs, up], ['good', 118, undefined]);
  assert.deepEqual([down.lossPct, down.jitterMs, down.rttMs, down.mos, down.concealedPct, down.bufferMs], [0.5, 3, 20, 4.37, 1, 40]);
  assert.deepEqual([trunkDown.codec, trunkDown.bufferMs, trunkDown.concealedPct], ['PCMU', 20, undefined]);
  assert.equal(call.quality.grade, 'good');
  hear(call, 'ended', { by: 'them', cause: 'normal', text: '' });
  assert.equal(call.ended.quality.grade, 'good');
});

test('each reason for silence has its words, and is cleared', async () => {
  const call = await active();
  const told = soundOf(call);
  for (const cause of ['no-ice', 'no-dtls', 'no-rtp', 'wrong-payload-type', 'stranger', 'not-authentic', 'silent', 'held']) {
    for (const [way, at] of [['down', 'them'], ['down', 'us']]) {
      hear(call, 'no-audio', { way, at, cause, text: 'as the gateway says it' });
      const [warning] = call.warnings;
      assert.equal(warning.code, `${way}-${cause}`);
      assert.notEqual(warning.text, 'as the gateway says it', `${cause} at ${at} has words of the page's own`);
      assert.ok(warning.causes.length > 0 && warning.remedies.length > 0, warning.code);
    }
  }
  assert.deepEqual(told.slice(0, 4), ['+down-no-ice', '-down-no-ice', '+down-no-dtls', '-down-no-dtls']);
  hear(call, 'audio', { way: 'down' });
  assert.deepEqual([told.at(-1), call.warnings], ['-down-held', []]);
  hear(call, 'no-audio', { way: 'up', at: 'us', cause: 'of-a-later-version', text: 'as the gateway says it' });
  assert.equal(call.warnings[0].text, 'as the gateway says it');
});

test('one who mutes himself is not told that he is silent', async () => {
  const call = await active();
  const told = soundOf(call);
  call.mute();
  hear(call, 'no-audio', { way: 'up', at: 'us', cause: 'silent', text: '' });
  assert.deepEqual(told, []);
  call.mute(false);
  hear(call, 'audio', { way: 'up' });
  assert.deepEqual(told, []);
});

test('loss that stays is warned of, and is over when it has stayed away', async () => {
  const call = await active();
  const told = soundOf(call);
  for (const loss_pct of [9, 0, 9, 9, 9, 3, 0, 0, 0, 0, 0]) {
    hear(call, 'quality', { grade: 'fair', up: { ...LEG, loss_pct } });
    await settled();
  }
  assert.deepEqual(told.filter((word) => word !== 'fair'), ['+high-loss', '-high-loss']);
});
