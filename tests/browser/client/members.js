/** Options, methods and events of the client that no other case reaches, each with what both ends heard or told of it. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { dtmfDigits, goertzel, level } from '../lib/audio.js';
import { freeUdpPort, until } from '../lib/processes.js';
import { hears, OUTSIDE, speech } from '../lib/stage.js';
import { ELSEWHERE } from './network.js';

const SILENCE_DB = -60;
const SOUND_DB = -45;

/** What the other side does: it presses keys, holds us and takes us back; how loud both are; what the user thought of it. */
export async function theirs(open, network, t) {
  const page = await open('alice');
  const { sipp, rtp } = await network.callee(t, 'callee-holds');
  await page.call(OUTSIDE);
  await page.until('active');
  await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
  for (const key of '5#') {
    await rtp.press(key);
    await page.tells(({ event, values }) => event === 'digit' && values[0] === key, `the digit ${key}`);
  }
  const digits = (await page.told()).filter(({ event }) => event === 'digit').map(({ values }) => values[0]);
  assert.deepEqual(digits, ['5', '#'], 'each once');

  const levels = async (ms = 1000) => {
    await page.run(() => { globalThis.bench.levels.length = 0; });
    await pause(ms);
    return page.run(() => globalThis.bench.levels);
  };
  const loudest = (told, way) => Math.max(...told.map((one) => one[way]));
  const talking = await levels(2000);
  assert.ok(talking.length >= 10 && talking.length <= 45, `${talking.length} levels in two seconds`);
  assert.ok(talking.every(({ heard, said }) => heard >= -100 && heard <= 0 && said >= -100 && said <= 0), 'in dB below full scale');
  for (const way of ['heard', 'said']) assert.ok(loudest(talking, way) > SOUND_DB, `${way}: ${loudest(talking, way)} dB`);
  await page.do('mute');
  assert.equal(loudest(await levels(), 'said'), -100, 'nothing is said by one who is muted');
  await page.do('mute', [false]);

  const holds = (on) => page.tells(({ event, values }) => event === 'hold' && values[0] === 'them' && values[1] === on, `that they ${on ? 'hold' : 'are back'}`);
  await sipp.word();
  await holds(true);
  const held = await page.seen();
  assert.deepEqual([held.heldByThem, held.held, held.state], [true, false, 'active']);
  await until(async () => {
    const from = rtp.recorded();
    await pause(500);
    const to = rtp.recorded();
    return to === from || level(rtp.recording(from, to)) < SILENCE_DB;
  }, 'the phone that holds to be told nothing of us');
  await sipp.word();
  await holds(false);
  assert.equal((await page.seen()).heldByThem, false);
  await Promise.all([hears(rtp, 'caller', 'the phone, that is back'), hears(page, 'callee', 'the page, taken back')]);

  const { id } = await page.seen();
  await page.do('hangup');
  await page.do('feedback', [2, 'echo']);
  await until(() => network.gateway.output.split('\n').some((line) => line.includes(id) && /echo/.test(line)), 'the score in the gateway’s log');
  await sipp.done();
}

/** The codings that a description names, best first. */
const inOrder = (sdp) => [...new Set([...sdp.matchAll(/^a=rtpmap:\d+ ([\w-]+)/gm)].map(([, name]) => name))];

/** One coding and nothing else; a server for candidates; a page that is not left without a question; a call that is aborted. */
export async function options(open, network, t) {
  const iceServers = [{ urls: ['stun:127.0.0.1:9'] }];
  const page = await open('alice', { codecs: ['PCMU'], guardPage: true, iceServers });
  assert.equal(await page.run(() => globalThis.bench.Phone.supported), true);
  const unloads = () => page.run(() => dispatchEvent(new Event('beforeunload', { cancelable: true })));
  assert.equal(await unloads(), true, 'a page without calls may go');
  await page.run(() => { globalThis.abort = new AbortController(); });
  const aborted = (to) => page.run((number) => globalThis.bench.call(number, { signal: globalThis.abort.signal }), to);

  const first = await network.callee(t);
  await aborted(OUTSIDE);
  await page.until('active');
  await Promise.all([hears(first.rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
  await until(async () => (await page.seen()).quality, 'the first second’s quality');
  const { down, up } = (await page.seen()).quality;
  assert.deepEqual([down.codec, up.codec], ['PCMU', 'PCMU']);
  const { sdp, servers } = await page.run(() => {
    const { peerConnection: pc } = globalThis.bench.calls[0];
    return { sdp: pc.localDescription.sdp, servers: pc.getConfiguration().iceServers };
  });
  assert.deepEqual(inOrder(sdp), ['PCMU', 'telephone-event']);
  assert.deepEqual(servers.map(({ urls }) => [urls].flat()), [iceServers[0].urls]);

  // Browsers ask only for a page that was used.
  await page.page.mouse.click(5, 5);
  const question = new Promise((resolve) => page.page.once('dialog', resolve));
  await page.run(() => { setTimeout(() => location.reload()); });
  const dialog = await question;
  assert.equal(dialog.type(), 'beforeunload');
  await dialog.dismiss();
  await hears(page, 'callee', 'the page, which has stayed');

  await page.run(() => globalThis.abort.abort());
  const { ended: inCall } = await page.until('ended');
  assert.deepEqual([inCall.by, inCall.cause], ['us', 'normal']);
  await first.sipp.done();
  assert.equal(await unloads(), true, 'its call is over');

  const second = await network.callee(t, 'callee-rings');
  await page.run(() => { globalThis.abort = new AbortController(); });
  await aborted(OUTSIDE);
  await page.until('ringing');
  await page.run(() => globalThis.abort.abort());
  const { ended: ringing } = await page.until('ended');
  assert.deepEqual([ringing.by, ringing.cause], ['us', 'cancelled']);
  await second.sipp.done();
  const never = await page.run((number) => globalThis.bench.phone.call(number, { signal: AbortSignal.abort() }).then(() => 'placed', ({ name }) => name), OUTSIDE);
  assert.notEqual(never, 'placed', 'what is aborted before is never placed');
  assert.equal(await page.run(() => globalThis.bench.phone.calls.length), 0);
}

/** A call taken with a stream of the page's own, which is the page's still when the call is over. */
export async function ownStream(open, network, t) {
  const HZ = 1000;
  const page = await open('alice');
  const { sipp, rtp } = await network.caller(t);
  await page.until('ringing');
  await page.run(async (hz) => {
    const context = new AudioContext();
    const tone = new OscillatorNode(context, { frequency: hz });
    const out = context.createMediaStreamDestination();
    tone.connect(new GainNode(context, { gain: 0.3 })).connect(out);
    tone.start();
    await context.resume();
    globalThis.own = out.stream;
    await globalThis.bench.calls[0].accept({ audio: out.stream });
  }, HZ);
  await page.until('active');
  await until(async () => {
    const { rate, samples } = await rtp.hear(0.5);
    const all = samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
    return all > 1e-4 && goertzel(samples, 0, samples.length, rate, HZ) > 0.8 * all;
  }, 'the phone to hear the page’s tone and nothing else');
  await hears(page, 'callee', 'the page');
  await page.do('hangup');
  assert.equal(await page.run(() => globalThis.own.getAudioTracks()[0].readyState), 'live', 'the stream is the page’s');
  await sipp.done();
}

/** Refusals as the page words them: the caller is told busy, or not available. */
export async function refusals(open, network, t) {
  const page = await open('alice');
  for (const [n, [code, scenario]] of [[486, 'caller-busy'], [480, 'caller-unavailable']].entries()) {
    const { sipp } = await network.caller(t, scenario, { port: await freeUdpPort() });
    await until(async () => (await page.run(() => globalThis.bench.calls.length)) === n + 1, 'the call to come in');
    await page.do('reject', [code]);
    const { ended } = await page.until('ended', { n });
    assert.deepEqual([ended.by, ended.cause, ended.sip], ['us', 'declined', code]);
    await sipp.done();
  }
}

/** Loudspeakers: one for calls, one for the ring, and one that is not there. */
export async function loudspeakers(open, network, t) {
  const page = await open('alice');
  const outputs = await page.run(async () => {
    const { audio } = globalThis.bench.phone;
    (await audio.testInput(() => {}))(); // then the devices have names
    return audio.outputs.map(({ deviceId }) => deviceId).filter((id) => id && id !== 'default');
  });
  assert.ok(outputs.length >= 2, `two to choose from: ${outputs}`);
  const [speaker, ringer] = outputs;
  const playing = () => page.run(() => globalThis.bench.players.filter(({ paused, srcObject }) => !paused && srcObject).map(({ sinkId }) => sinkId));
  await page.run((one, other) => Promise.all([globalThis.bench.phone.audio.useOutput(one), globalThis.bench.phone.audio.useRinger(other)]), speaker, ringer);
  const { sipp, rtp } = await network.caller(t);
  await page.until('ringing');
  await until(async () => (await playing()).includes(ringer), 'it to ring at the ringer');
  await page.do('accept');
  await page.until('active');
  await hears(rtp, 'caller', 'the phone that called');
  await until(async () => (await playing()).includes(speaker), 'the far end at the speaker');
  const refused = await page.run(() => globalThis.bench.phone.audio.useOutput('no such device').catch(({ code }) => code));
  const { output, ringer: rings } = await page.run(() => ({ output: globalThis.bench.phone.audio.output, ringer: globalThis.bench.phone.audio.ringer }));
  assert.deepEqual([refused, output, rings], ['output-failed', speaker, ringer], 'what was chosen stays');
  assert.ok((await playing()).includes(speaker));
  await page.run(() => globalThis.bench.phone.audio.useOutput(null));
  assert.ok((await playing()).includes(''), 'at the system’s choice again, in the same call');
  await page.do('hangup');
  await sipp.done();
}

/** The microphone goes in mid-call and there is no other; then there is one again. */
export async function unplugged(open, network, t) {
  const page = await open('alice');
  const { sipp, rtp } = await network.callee(t);
  await page.call(OUTSIDE);
  await page.until('active');
  await hears(rtp, 'caller', 'the phone');
  await page.page.context().clearPermissions(); // the browser takes it away, and gives none
  const isOurs = ({ event, values }) => event === 'warning' && values[0].code === 'microphone-unplugged';
  const { values: [{ code, text, causes, remedies }] } = await page.tells(isOurs, 'that the microphone is gone');
  assert.ok(text && causes.length > 0 && remedies.length > 0, JSON.stringify({ text, causes, remedies }));
  const seen = await page.seen();
  assert.deepEqual([seen.state, seen.warnings.map((warning) => warning.code).includes(code)], ['active', true], 'the call goes on');
  await hears(page, 'callee', 'the page, which hears all the same');
  const devices = (shown) => page.run((on) => {
    const { mediaDevices } = navigator;
    if (on) delete mediaDevices.enumerateDevices;
    else mediaDevices.enumerateDevices = async () => [];
    mediaDevices.dispatchEvent(new Event('devicechange'));
  }, shown);
  await devices(false);
  await page.tells(({ event, values }) => event === 'devices' && values[0].inputs.length === 0, 'that there is no microphone');
  await page.page.context().grantPermissions(['microphone']);
  await devices(true);
  await page.tells(({ event, values }) => event === 'cleared' && values[0] === code, 'that it is back');
  await hears(rtp, 'caller', 'the phone, of the microphone that is back');
  assert.ok((await page.seen()).warnings.every((warning) => warning.code !== code));
  await page.do('hangup');
  await sipp.done();
}

/** Pages and browsers that cannot make calls say why. */
export async function unsupported(open, network) {
  const page = await open(null, { page: { before: () => { delete globalThis.RTCPeerConnection; } } });
  const told = await page.run(async (options) => {
    const { Phone } = globalThis.bench;
    const phone = globalThis.bench.open(options);
    const code = await phone.call('600').catch((error) => error.code);
    return { supported: Phone.supported, code };
  }, network.options('alice'));
  assert.deepEqual(told, { supported: 'This browser cannot make calls.', code: 'unsupported' });
}

/** Who calls is seen by the phone as the page wants it, and by the page as the network vouches for it; then somebody else is there. */
export async function whoIsThere(open, network, t) {
  const page = await open('alice');
  assert.equal(await page.run(() => globalThis.bench.phone.user), 'alice');
  const refers = await network.callee(t, 'callee-refers', { args: ['-key', 'refer_to', ELSEWHERE] });
  const asked = await network.callee(t, 'callee', { says: 'other', port: network.elsewherePort });
  const clicked = Date.now();
  await page.call(OUTSIDE, { from: '+442079460142', params: { customer: '4711' } });
  const { text: invite } = await refers.sipp.message(/^INVITE /);
  assert.match(invite, /^From: [^\r\n]*<sip:\+442079460142@/m);
  assert.match(invite, /^X-Param-customer: 4711\r?$/mi);
  const before = await page.until('active');
  const { startedAt, answeredAt } = before;
  assert.ok(clicked <= startedAt && startedAt <= answeredAt && answeredAt <= Date.now(), JSON.stringify({ clicked, startedAt, answeredAt }));
  await Promise.all([hears(refers.rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
  await refers.sipp.word();
  const { values } = await page.tells(({ event }) => event === 'transferred', 'that it is somebody else’s');
  assert.deepEqual(values, [{ number: ELSEWHERE }]);
  await Promise.all([hears(asked.rtp, 'caller', 'the phone it was transferred to'), hears(page, 'other', 'the page')]);
  await refers.sipp.done();
  const { remote, id, state } = await page.seen();
  assert.deepEqual({ remote, id, state }, { remote: { number: ELSEWHERE }, id: before.id, state: 'active' }, 'the same call');
  await page.do('hangup');
  await asked.sipp.done();

  await page.call(OUTSIDE, { from: '+441234567890' });
  const { ended } = await page.until('ended');
  assert.deepEqual([ended.by, ended.cause], ['gateway', 'caller-id-not-allowed']);

  const { sipp, rtp } = await network.caller(t, 'caller-vouched');
  await until(async () => (await page.seen()).direction === 'in', 'a call to come in');
  const vouched = await page.seen();
  assert.deepEqual([vouched.remote, vouched.params], [{ number: '+441632960001', name: 'Ada Lovelace', verified: 'A' }, { queue: 'sales' }]);
  await page.do('accept');
  await page.until('active');
  await hears(rtp, 'caller', 'the phone that called');
  await page.do('hangup');
  await sipp.done();
}

/** A-law, also behind G.722, which the gateway takes from trunks alone; what is heard is the page’s to use, as loud as it wants. */
export async function asItIsHeard(open, network, t) {
  for (const codecs of [['PCMA'], ['G722', 'PCMA']]) {
    const page = await open('alice', { codecs });
    const { sipp, rtp } = await network.callee(t);
    await page.run(() => { globalThis.bench.phone.audio.volume = 0.5; });
    await page.call(OUTSIDE);
    await page.until('active');
    await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
    await until(async () => (await page.seen()).quality, 'the first second’s quality');
    const { down, up } = (await page.seen()).quality;
    assert.deepEqual([down.codec, up.codec], ['PCMA', 'PCMA']);
    const { offer, answer } = await page.run(() => {
      const { localDescription, remoteDescription } = globalThis.bench.calls[0].peerConnection;
      return { offer: localDescription.sdp, answer: remoteDescription.sdp };
    });
    assert.deepEqual(inOrder(offer), [...codecs, 'telephone-event']);
    assert.deepEqual(inOrder(answer), ['PCMA', 'telephone-event']);

    const played = (volume) => page.run((wanted) => {
      const { phone, calls: [call], players } = globalThis.bench;
      if (wanted !== null) phone.audio.volume = wanted;
      const all = players.filter(({ srcObject }) => srcObject === call.remoteStream);
      return all.map((player) => ({ plays: !player.paused && !player.muted, volume: player.volume }));
    }, volume);
    assert.deepEqual(await played(null), [{ plays: true, volume: 0.5 }], 'as was chosen before the call');
    assert.deepEqual(await played(0.1), [{ plays: true, volume: 0.1 }], 'quieter in the same call');
    assert.deepEqual(await played(-1), [{ plays: true, volume: 0 }], 'not at all');
    await page.run(() => {
      const [track, ...more] = globalThis.bench.calls[0].remoteStream.getTracks();
      if (more.length > 0) throw new Error('one track is all there is');
      globalThis.ringbackTest.record(track);
    });
    await hears(page, 'callee', 'who listens to the call’s stream');
    await page.do('hangup');
    await sipp.done();
  }
}

/** Sounds of the page’s own in place of the phone’s, for so long; the tones of a key; what the browser holds back is let go. */
export async function sounds(open, network, t, pages) {
  const fetched = [];
  const file = (name) => {
    pages.answer(`/${name}.wav`, () => { fetched.push(name); return readFileSync(speech.other.file); });
    return `/${name}.wav`;
  };
  const page = await open('alice', {
    sounds: { ring: file('ring'), ringback: file('ringback'), busy: file('busy'), end: file('end') },
    page: { before: tapped },
  });
  const plays = (name) => page.run((end) => {
    const { paused, loop, currentTime } = globalThis.bench.players.find(({ src }) => src.endsWith(end)) ?? {};
    return paused === false && currentTime > 0 && { loop };
  }, `/${name}.wav`);
  const heard = async (name, loop) => {
    assert.deepEqual(await until(() => plays(name), `the page’s own ${name}`), { loop });
    assert.ok(fetched.includes(name), `${name} was fetched; ${fetched} were`);
  };
  const silent = (name) => until(async () => !(await plays(name)), `no ${name} any more`);
  const play = (...args) => page.run((...words) => globalThis.bench.phone.audio.play(...words), ...args);

  await page.run(() => globalThis.bench.phone.audio.unlock());
  await play('busy');
  await heard('busy', false);
  await play('dtmf', '5');
  await until(async () => (await page.recorded()) && dtmfDigits(await page.recording(0, await page.recorded())) === '5', 'the tones of the key');

  const far = await network.callee(t, 'callee-rings');
  await page.call(OUTSIDE);
  await page.until('ringing');
  await heard('ringback', true);
  await page.do('hangup');
  await silent('ringback');
  await far.sipp.done();

  const { sipp, rtp } = await network.caller(t, 'caller-hangs-up');
  await until(async () => (await page.seen()).direction === 'in', 'a call to come in');
  await heard('ring', true);
  await page.run(() => { globalThis.ringbackTest.holdsBack = true; });
  await page.do('accept');
  await page.until('active');
  await silent('ring');
  const farEnd = () => page.run(() => {
    const player = globalThis.bench.players.find(({ srcObject }) => srcObject === globalThis.bench.calls.at(-1).remoteStream);
    return [globalThis.ringbackTest.context.state, player.paused];
  });
  await until(async () => (await page.errors()).some(({ code }) => code === 'sound-blocked'), 'the page to be told that nothing is heard');
  await page.run(() => globalThis.ringbackTest.context.suspend());
  assert.deepEqual(await farEnd(), ['suspended', true]);
  await page.run(() => {
    globalThis.ringbackTest.holdsBack = false;
    return globalThis.bench.phone.audio.unlock();
  });
  assert.deepEqual(await farEnd(), ['running', false]);
  await Promise.all([hears(rtp, 'caller', 'the phone that called'), hears(page, 'callee', 'the page')]);
  await sipp.hangUp();
  await page.until('ended');
  await heard('end', false);
  await sipp.done();
}

/** Runs in the page, before its own scripts: what its tones are is recorded, and a browser that plays nothing before a click can be had. */
function tapped() {
  const { ringbackTest } = globalThis;
  const { connect } = AudioNode.prototype;
  AudioNode.prototype.connect = function (to, ...more) {
    if (to instanceof AudioDestinationNode) {
      if (!ringbackTest.tap) {
        ringbackTest.context = this.context;
        ringbackTest.tap = this.context.createMediaStreamDestination();
        ringbackTest.record(ringbackTest.tap.stream.getAudioTracks()[0]);
      }
      connect.call(this, ringbackTest.tap);
    }
    return connect.call(this, to, ...more);
  };
  const { play } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = function () {
    return ringbackTest.holdsBack ? Promise.reject(new DOMException('not before a click', 'NotAllowedError')) : play.call(this);
  };
}

/** Before a call: all that it needs is tried, and what takes time is done. */
export async function beforeCall(open, network, t) {
  const page = await open(null, { page: { before: countsMicrophones } });
  const options = network.options('alice');
  const { verdict, microphone, ice, turn, reasons, mos, websocketMs } = await page.run((wanted) => globalThis.bench.Phone.preflight({ ...wanted, seconds: 3 }), options);
  assert.deepEqual({ verdict, microphone, ice, turn, reasons }, { verdict: 'ready', microphone: 'ok', ice: 'udp', turn: false, reasons: [] });
  assert.ok(mos > 3.6 && mos <= 5 && websocketMs >= 0, JSON.stringify({ mos, websocketMs }));

  const nobody = await page.run(async (wanted) => {
    const { user } = globalThis.bench.open(wanted);
    globalThis.ringbackTest.asked = 0;
    await globalThis.bench.phone.warmUp();
    return user;
  }, options);
  assert.equal(nobody, null, 'the gateway has let nobody in');
  await page.tells(({ event, values }) => event === 'state' && values[0] === 'ready', 'that it is connected');
  const warm = () => page.run(() => ({ user: globalThis.bench.phone.user, asked: globalThis.ringbackTest.asked }));
  assert.deepEqual(await warm(), { user: 'alice', asked: 1 });
  const { sipp, rtp } = await network.callee(t);
  await page.call(OUTSIDE);
  await page.until('active');
  await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
  assert.deepEqual(await warm(), { user: 'alice', asked: 1 }, 'of the microphone that was open');
  await page.do('hangup');
  await sipp.done();
}

/** Runs in the page, before its own scripts. */
function countsMicrophones() {
  const { mediaDevices } = navigator;
  const open = mediaDevices.getUserMedia.bind(mediaDevices);
  mediaDevices.getUserMedia = (constraints) => {
    globalThis.ringbackTest.asked = (globalThis.ringbackTest.asked ?? 0) + 1;
    return open(constraints);
  };
}
