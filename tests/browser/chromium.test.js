/** Chromium: the softphone page against the built-in test phone and against SIPp. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ClientNetwork, ELSEWHERE } from './client/network.js';
import { level } from './lib/audio.js';
import * as cases from './lib/cases.js';
import { Chromium } from './lib/chromium.js';
import { Gateway } from './lib/gateway.js';
import { likeness, UNLIKE } from './lib/likeness.js';
import { look } from './lib/looks.js';
import { goThrough, Lossy } from './lib/lossy.js';
import { freeTcpPort, freeUdpPort, until } from './lib/processes.js';
import { ALICE, hears, narrow, Network, OUT, OUTSIDE, PREMIUM, speech } from './lib/stage.js';

/** Louder than this there is sound, quieter than that there is none. */
const SOUND_DB = -45;
const SILENCE_DB = -60;
/** The page keeps its calls for so long, as it cannot know a closed tab from a reload. */
const CLOSED_TAB_MS = 8000;

let chromium;
before(async () => { chromium = await Chromium.launch({ microphone: speech.caller.file }); });
after(() => chromium?.close());
const opener = (t) => cases.opener(t, () => chromium);

function assertSound(recording, what) {
  assert.ok(level(recording) > SOUND_DB, `${what}: ${level(recording).toFixed(1)} dB`);
}

describe('Chromium and the test phone', () => {
  let gateway;
  before(async () => { gateway = await Gateway.embedded(); });
  after(() => gateway?.end());

  test('600 says back what was said', (t) => cases.echo(opener(t), gateway, 'chromium'));
  test('601 is heard soon after the click', (t) => cases.clickToSound(opener(t), gateway, 'chromium'));

  test('601 plays its prompt', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.click('[data-dial="601"]');
    await page.inCall();
    const heard = await page.hear(4);
    assertSound(heard, 'the prompt');
    assert.ok(likeness(heard, speech.caller) < UNLIKE, 'the prompt is not the caller’s own voice');
    await page.click('#hangup');
    assert.equal((await page.outcome()).title, 'You hung up.');
  });

  test('602 plays back the digits that are pressed', (t) => cases.digits(opener(t), gateway));

  test('602 hears the browser’s own telephone-events too', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.page.evaluate(keepConnections);
    await page.dial('602');
    await page.inCall();
    await page.hear(0.5);
    const sent = await page.page.evaluate(insertDtmf, '7420');
    assert.ok(sent, 'the browser may send telephone-events');
    await cases.playedBack(page, '7420');
    await page.press('Escape');
  });

  test('narrowband is sent to a side that has G.711, for that is what is asked for', async (t) => {
    const page = await opener(t)(gateway.url);
    const asked = await page.page.evaluate(sentFrames, true);
    assert.deepEqual([...new Set(asked.map(bandwidth))], ['narrowband']);
    const unasked = await page.page.evaluate(sentFrames, false);
    assert.ok(!unasked.map(bandwidth).includes('narrowband'), 'what it sends by itself costs more to decode');
  });

  test('603 is busy, and the page says so', (t) => cases.busy(opener(t), gateway, 'chromium'));

  test('604 rings until the page hangs up', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.dial('604');
    await page.shows('#call[data-state="ringing"]');
    assertSound(await page.hear(5), 'the ringback tone');
    await page.driver.screenshot(`${OUT}chromium-ringing.png`);
    await page.press('Escape');
    const outcome = await page.outcome();
    assert.equal(outcome.title, 'You hung up.');
    assert.match(outcome.detail, /not answered/);
  });

  test('605 is heard before it answers', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.dial('605');
    await page.shows('#call[data-state="early"]');
    assertSound(await page.hear(1), 'early media');
    await page.inCall();
    assertSound(await page.hear(2), 'the prompt after the answer');
    await page.press('Escape');
    assert.equal((await page.outcome()).title, 'You hung up.');
  });

  test('606 calls back', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.dial('606');
    await page.shows('#incoming', 20_000);
    await page.driver.screenshot(`${OUT}chromium-incoming.png`);
    await page.press('Enter');
    await page.inCall();
    assertSound(await page.hear(2), 'the call back');
    await page.press('Escape');
    assert.equal((await page.outcome()).title, 'You hung up.');
  });

  test('mute is silence at the far end, and hold too', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.dial('600');
    await page.inCall();
    await hears(page, 'caller', 'the page, before it is muted');
    await page.press('m');
    await page.shows('#mute[aria-pressed="true"]');
    await silent(page, 'the echo while muted');
    await page.press('m');
    await until(async () => level(await page.hear(0.5)) > SOUND_DB, 'the echo to come back after mute');
    await page.press('h');
    await page.shows('#hold[aria-pressed="true"]');
    await silent(page, 'the echo while held');
    await page.driver.screenshot(`${OUT}chromium-held.png`);
    await page.press('h');
    await page.shows('#hold[aria-pressed="false"]');
    await until(async () => level(await page.hear(0.5)) > SOUND_DB, 'the echo to come back after hold');
    await page.press('Escape');
  });

  test('a refused microphone is explained, and nobody is called', async (t) => {
    const page = await opener(t)(gateway.url, { microphone: false });
    await page.dial('600');
    const outcome = await page.outcome();
    assert.equal(outcome.code, 'microphone-denied');
    assert.match(outcome.title, /microphone/);
    assert.match(outcome.remedies.join(' '), /allow/i);
    await page.driver.screenshot(`${OUT}chromium-no-microphone.png`);
  });

  test('a number that is none cannot be called, and one that nobody has says so', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.driver.fill('#number', 'sip:alice@example.org');
    assert.match(await page.text('#number-hint'), /SIP addresses/);
    assert.ok(await page.driver.evaluate(() => document.querySelector('#dial').disabled));
    await page.dial('699');
    const outcome = await page.outcome();
    assert.equal(outcome.code, 'unknown-number');
    assert.match(outcome.detail, /600 echo/, 'the dial plan says what there is');
  });

  test('all of a call by keyboard alone, and told to a screen reader', async (t) => {
    const page = await opener(t)(gateway.url);
    for (const key of '600') await page.press(key);
    await page.press('Enter');
    await page.inCall();
    const told = await page.driver.evaluate(() => ({
      state: document.querySelector('#state[role="status"]').innerText,
      unnamed: [...document.querySelectorAll('button, input')].filter((e) => e.checkVisibility() && !(e.innerText || e.ariaLabel || e.labels?.length)).length,
      focus: document.activeElement.id,
    }));
    assert.deepEqual(told, { state: 'In call', unnamed: 0, focus: 'remote' }, 'the name of who is there is read, and the next Enter ends nothing');
    await page.press('Enter');
    await page.inCall();
    await page.press('Escape');
    assert.equal((await page.outcome()).title, 'You hung up.');
    assert.match(await page.driver.evaluate(() => document.querySelector('[role="alert"]').textContent), /You hung up/);
  });
});

describe('Chromium and SIPp', () => {
  let network;
  before(async () => {
    const nowhere = await freeTcpPort(); // refused at once: over UDP it would be known after 32 s (RFC 3261 timer B)
    const sections = `\n[trunk.nowhere]\noptions = 0\naddress = "127.0.0.1:${nowhere}"\ntransport = "tcp"\ncodecs = ["PCMU"]\n`;
    network = await Network.start({ sections, rules: '\n[[out]]\nname = "nowhere"\nprefix = ["+33"]\ntiers = [["nowhere"]]\n' });
  });
  after(() => network?.end());

  test('a call out, hung up by the page, heard at both ends', (t) => cases.outbound(opener(t), network, t));
  test('a call out, hung up by the phone', (t) => cases.hungUpByPhone(opener(t), network, t));
  test('a call in, hung up by the page, heard at both ends', (t) => cases.inbound(opener(t), network, t));
  test('a call in, hung up by the phone', (t) => cases.inboundHungUpByPhone(opener(t), network, t));

  test('SIPp’s own echo brings the caller’s voice back', async (t) => {
    const page = await opener(t)(network.url('alice'));
    const { sipp } = await network.callee(t, 'callee-echo', { says: null, args: ['-rtp_echo', '-mi', '127.0.0.1'] });
    await page.dial(OUTSIDE);
    await page.inCall();
    await hears(page, 'caller', 'the page, of SIPp’s echo');
    await page.press('Escape');
    await sipp.done();
  });

  test('digits arrive at the phone as telephone-events', async (t) => {
    const page = await opener(t)(network.url('alice'));
    const { sipp, rtp } = await network.callee(t);
    await page.dial(OUTSIDE);
    await page.inCall();
    await rtp.hear(0.5);
    for (const key of '0123456789*#') await page.press(key);
    await until(() => rtp.digits.length >= 12, () => `twelve digits at the phone; there were “${rtp.digits}”`, 15_000);
    assert.equal(rtp.digits, '0123456789*#');
    await page.press('Escape');
    await sipp.done();
  });

  test('what is lost on the way is heard from the next packet', async (t) => {
    const page = await opener(t)(network.url('alice'));
    const lossy = await Lossy.start();
    t.after(() => lossy.close());
    await page.page.evaluate(goThrough, lossy.port);
    const { sipp, rtp } = await network.callee(t);
    await page.dial(OUTSIDE);
    const media = await until(() => page.page.evaluate(() => globalThis.ringbackTest.mediaAt), 'the gateway’s answer');
    lossy.leadTo(media);
    await page.inCall();
    await hears(rtp, 'caller', 'the phone');
    const id = await page.callId();
    const sent = await page.page.evaluate(outboundCodecs);
    await page.press('Escape');
    await sipp.done();
    const record = await until(() => network.gateway.records.find(({ call }) => call === id), 'the call’s record');
    const { lost, repaired, concealed_ms: concealed } = record.media.a;
    console.log(`  Chromium sent ${sent}, payload type ${[...lossy.types]}: ${lossy.lost} packets lost, ${repaired} heard all the same, ${concealed} ms made up`);
    assert.ok(lossy.types.has(63), `redundancy (RFC 2198), not ${[...lossy.types]}`);
    // The first ones are made up, and what was lost last is in no packet.
    assert.ok(lost > 5 && repaired >= lost / 2, `${repaired} of ${lost}`);
  });

  test('the page shows how both legs sound', async (t) => {
    const page = await opener(t)(network.url('alice'));
    const { sipp } = await network.callee(t);
    await page.dial(OUTSIDE);
    await page.inCall();
    await page.shows('#legs');
    await until(async () => /opus[^]*Round trip/.test(await page.text('#leg-up')), () => 'the round trip to be known');
    assert.match(await page.text('#leg-down'), /Codec\s+PCMU[^]*Lost\s+\d+\.\d %[^]*Jitter\s+\d+ ms[^]*Score \(1–5\)\s+\d\.\d/);
    assert.match(await page.text('#quality'), /(Excellent|Good|Fair|Poor) sound\s+· \d+ ms/);
    assert.match(await page.text('#timings'), /\d ms\s+Answered/);
    assert.ok(await page.driver.evaluate(() => document.querySelector('#warning').hidden), 'nothing is wrong');
    await look(page, 'quality', ['#hangup']);
    await page.press('Escape');
    await sipp.done();
  });

  test('a phone that sends nothing is told with what helps, until it is heard', async (t) => {
    const page = await opener(t)(network.url('alice'));
    const { sipp, rtp } = await network.callee(t, 'callee', { says: null });
    await page.dial(OUTSIDE);
    await page.inCall();
    await page.shows('#warning[data-code="down-no-rtp"]', 5_000);
    assert.match(await page.text('#warning'), /You cannot hear them[^]*rtp_ports/);
    await until(async () => /No sound/.test(await page.text('#quality')), 'the next second’s grade');
    await look(page, 'no-audio', ['#hangup', '#warning-title']);
    rtp.say(narrow.callee);
    await until(() => page.driver.evaluate(() => document.querySelector('#warning').hidden), 'the warning to go');
    await page.press('Escape');
    await sipp.done();
    const record = await until(() => network.gateway.records.find((cdr) => cdr.no_audio), 'the call’s record');
    assert.ok(record.no_audio.some(({ from, cause }) => from === 'b' && cause === 'no-rtp'), JSON.stringify(record.no_audio));
  });

  test('a line with nothing on it is told as silence', async (t) => {
    const page = await opener(t)(network.url('alice'));
    const { sipp } = await network.callee(t, 'callee', { says: 'silence' });
    await page.dial(OUTSIDE);
    await page.inCall();
    await page.shows('#warning[data-code="down-silent"]', 5_000);
    assert.match(await page.text('#warning'), /nothing but silence/);
    await page.press('Escape');
    await sipp.done();
  });

  test('a page that mutes itself is not told that it is silent', async (t) => {
    const page = await opener(t)(network.url('alice'));
    const { sipp, rtp } = await network.callee(t);
    await page.dial(OUTSIDE);
    await page.inCall();
    await page.press('m');
    await rtp.hear(5);
    assert.ok(await page.driver.evaluate(() => document.querySelector('#warning').hidden), await page.text('#warning'));
    await page.press('Escape');
    await sipp.done();
  });

  test('a refusal is shown', async (t) => {
    const page = await opener(t)(network.url('alice'));
    const { sipp } = await network.callee(t, 'callee-declines');
    await page.dial(OUTSIDE);
    const outcome = await page.outcome();
    assert.equal(outcome.code, 'declined');
    assert.equal(outcome.title, 'They declined.');
    await sipp.done();
  });

  test('what the dial plan bars is shown with its reason', async (t) => {
    const page = await opener(t)(network.url('alice'));
    await page.dial(PREMIUM);
    const outcome = await page.outcome();
    assert.equal(outcome.code, 'not-allowed');
    assert.match(outcome.title, /Premium numbers are barred/);
    await page.driver.screenshot(`${OUT}chromium-barred.png`);
  });

  test('a telephone network that is not there is explained', async (t) => {
    const page = await opener(t)(network.url('alice'));
    await page.dial('+33142685300');
    const outcome = await page.outcome();
    assert.equal(outcome.kind, 'problem');
    assert.equal(outcome.code, 'trunk-unreachable');
  });

  test('a call in can be declined', async (t) => {
    const page = await opener(t)(network.url('alice'));
    const { sipp } = await network.caller(t, 'caller-declined');
    await page.shows('#incoming');
    await page.press('Escape');
    assert.equal((await page.outcome()).title, 'You declined.');
    await sipp.done();
  });

  test('a call that the caller gives up is a missed call', async (t) => {
    const page = await opener(t)(network.url('alice'));
    await page.click('[data-go="audio"]'); // who looks at the list sees it there
    const { sipp } = await network.caller(t, 'caller-gives-up');
    await page.shows('#incoming');
    const outcome = await page.outcome();
    assert.equal(outcome.title, 'Missed call.');
    await sipp.done();
    assert.match(await page.text('#missed'), /^1/);
    await page.click('[data-go="recents"]');
    assert.match(await page.text('#recents li[data-missed]'), /Ada Lovelace/);
    assert.ok(await page.driver.evaluate(() => document.querySelector('#missed').hidden), 'seen is seen');
  });

  test('two browsers of one user ring, and the first to accept has the call', async (t) => {
    const open = opener(t);
    const [first, second] = [await open(network.url('alice'), { name: 'the first page' }), await open(network.url('alice'), { name: 'the second page' })];
    const { sipp, rtp } = await network.caller(t);
    await Promise.all([first.shows('#incoming'), second.shows('#incoming')]);
    await second.press('Enter');
    await second.inCall();
    const outcome = await first.outcome();
    assert.equal(outcome.title, 'Answered elsewhere.');
    await hears(rtp, 'caller', 'the phone that called');
    await second.press('Escape');
    await sipp.done();
  });

  test('a closed tab ends its call within seconds', async (t) => {
    const { sipp, rtp } = await network.callee(t);
    const page = await chromium.open(network.url('alice'));
    await page.ready();
    await page.dial(OUTSIDE);
    await page.inCall();
    await rtp.hear(1);
    const closed = Date.now();
    await page.close();
    const bye = await sipp.message(/^BYE /);
    const took = bye.at - closed;
    console.log(`  from the closed tab to BYE: ${took} ms`);
    assert.ok(took < CLOSED_TAB_MS, `${took} ms`);
    await sipp.done();
  });

  test('a token leaves the address bar, and survives a reload', async (t) => {
    const page = await opener(t)(network.url('alice'));
    assert.equal(new URL(page.page.url()).search, '');
    await page.page.reload();
    await page.ready();
    assert.match(await page.text('#status-text'), /alice/);
  });

  test('a wrong token is explained', async (t) => {
    const page = await chromium.open(network.url('alice', { secret: 'another secret, of another gateway' }));
    t.after(() => page.close());
    const outcome = await page.outcome();
    assert.equal(outcome.code, 'unauthorized');
    assert.match(outcome.remedies.join(' '), /token/);
    await page.driver.screenshot(`${OUT}chromium-wrong-token.png`);
  });

  test('a gateway that stops ends the call, and the page finds it again', async (t) => {
    const own = await Network.start();
    t.after(() => own.end());
    const page = await opener(t)(own.url('alice'));
    const { sipp, rtp } = await own.callee(t);
    await page.dial(OUTSIDE);
    await page.inCall();
    await rtp.hear(1);
    own.gateway.child.kill('SIGTERM');
    await sipp.message(/^BYE /);
    await page.outcome();
    assert.equal(await own.gateway.exited, 0, own.gateway.output);
    const record = own.gateway.records.at(-1);
    assert.ok(record, 'a call record was written');
    await page.shows('#status[data-state="reconnecting"]');
    await sipp.done();
  });
});

describe('Chromium and two phones', () => {
  let network;
  before(async () => { network = await ClientNetwork.start(); });
  after(() => network?.end());

  /** What connects the other side with a number at once. */
  const transfers = {
    keyboard: async (page) => {
      await page.press('t');
      await page.page.keyboard.type(ELSEWHERE);
      await page.shows('#transfer-hint.good');
      await page.press('Enter');
    },
    mouse: async (page) => {
      await page.click('#transfer-open');
      await page.driver.fill('#transfer-to', ELSEWHERE);
      await page.shows('#transfer-hint.good');
      await page.click('#transfer');
    },
  };

  /** A page in a call with the first phone. */
  async function talking(t, scenario) {
    const page = await opener(t)(network.url('alice'));
    const phone = await network.callee(t, scenario);
    await page.dial(OUTSIDE);
    await page.inCall();
    await Promise.all([hears(phone.rtp, 'caller', 'the first phone'), hears(page, 'callee', 'the page')]);
    return { page, phone };
  }

  for (const [means, transfer] of Object.entries(transfers)) {
    test(`a call is transferred at once, by ${means}: the phones hear each other, and the page has left`, async (t) => {
      const { page, phone } = await talking(t, 'callee-hangs-up');
      const other = await network.callee(t, 'callee', { says: 'other', port: network.elsewherePort });
      await transfer(page);
      await Promise.all([hears(phone.rtp, 'other', 'the first phone, transferred'), hears(other.rtp, 'callee', 'the new phone')]);
      const { code, title } = await page.outcome();
      assert.deepEqual({ code, title }, { code: 'transferred', title: 'Transferred.' });
      await page.shows('#number');
      await phone.sipp.hangUp();
      await other.sipp.done();
      await phone.sipp.done();
    });
  }

  test('a transfer that the new phone refuses is told, and the call goes on', async (t) => {
    const { page, phone } = await talking(t);
    const other = await network.callee(t, 'callee-declines', { port: network.elsewherePort });
    await transfers.keyboard(page);
    assert.equal((await page.outcome()).code, 'transfer-failed');
    await other.sipp.done();
    await page.inCall();
    await Promise.all([hears(phone.rtp, 'caller', 'the first phone, still'), hears(page, 'callee', 'the page, still')]);
    await page.press('Escape');
    await phone.sipp.done();
  });

  test('a call that waits is taken in place of the one that is up', async (t) => {
    const { page, phone } = await talking(t);
    const { sipp, rtp } = await network.caller(t, 'caller', { says: 'other', port: await freeUdpPort() });
    await page.shows('#incoming[data-waiting]');
    await page.click('#end-answer');
    await phone.sipp.message(/^BYE /);
    await phone.sipp.done();
    await until(async () => /Ada Lovelace/.test(await page.text('#remote')), 'who waited to be on the screen');
    await page.inCall();
    await Promise.all([hears(rtp, 'caller', 'the phone that waited'), hears(page, 'other', 'the page')]);
    assert.ok(await page.driver.evaluate(() => document.querySelector('#other-line').hidden), 'nobody else is there');
    await page.press('Escape');
    await sipp.done();
  });
});

/** The way to and fro is some 100 ms long: at first there may still be sound. */
async function silent(page, what) {
  let loudness = 0;
  await until(async () => (loudness = level(await page.hear(1))) < SILENCE_DB, () => `${what} to be silent; it is ${loudness.toFixed(1)} dB`);
}

function keepConnections() {
  const add = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (...args) {
    globalThis.ringbackTest.connection = this;
    return add.apply(this, args);
  };
}

/** What the page says that it sends. */
async function outboundCodecs() {
  const stats = [...(await globalThis.ringbackTest.connection.getStats()).values()];
  const sent = stats.filter(({ type }) => type === 'outbound-rtp').map(({ codecId }) => codecId);
  return stats.filter(({ id }) => sent.includes(id)).map(({ mimeType }) => mimeType).join();
}

/** Calls the echo by WHIP: the first bytes (TOC) of the Opus frames that this browser sends, as it is asked to or as it would by itself. */
async function sentFrames(asAsked) {
  const RED = 63;
  // The newest of several in one packet, behind their headers (RFC 2198 section 3).
  const toc = (frame) => {
    const data = new Uint8Array(frame.data);
    if (frame.getMetadata().payloadType !== RED) return data[0];
    let header = 0;
    let older = 0;
    for (; data[header] & 0x80; header += 4) older += (data[header + 2] & 3) << 8 | data[header + 3];
    return data[header + 1 + older];
  };
  const connection = new RTCPeerConnection({ encodedInsertableStreams: true });
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const sender = connection.addTrack(stream.getAudioTracks()[0], stream);
  const frames = sender.createEncodedStreams();
  const sent = [];
  const enough = new Promise((resolve) => {
    const look = new TransformStream({
      transform(frame, controller) {
        if (sent.push(toc(frame)) === 100) resolve();
        controller.enqueue(frame);
      },
    });
    frames.readable.pipeThrough(look).pipeTo(frames.writable);
  });
  await connection.setLocalDescription();
  const headers = { 'Content-Type': 'application/sdp' };
  const made = await fetch('/whip/call?to=600', { method: 'POST', headers, body: connection.localDescription.sdp });
  const answer = await made.text();
  await connection.setRemoteDescription({ type: 'answer', sdp: asAsked ? answer : answer.replace(/^a=fmtp:111 .*\r\n/m, '') });
  await Promise.race([enough, new Promise((_, fail) => { setTimeout(fail, 30_000, new Error('no frames')); })]);
  await fetch(made.headers.get('Location'), { method: 'DELETE' });
  connection.close();
  stream.getTracks()[0].stop();
  // The encoder's first decision may come before the answer's parameters.
  return sent.slice(10);
}

/** By the configuration in a TOC byte (RFC 6716 section 3.1). */
function bandwidth(toc) {
  if (toc === undefined) return 'an empty frame';
  const configuration = toc >> 3;
  if (configuration < 12) return ['narrowband', 'mediumband', 'wideband'][configuration >> 2];
  if (configuration < 16) return configuration < 14 ? 'super-wideband' : 'fullband';
  return ['narrowband', 'wideband', 'super-wideband', 'fullband'][(configuration - 16) >> 2];
}

function insertDtmf(digits) {
  const [sender] = globalThis.ringbackTest.connection.getSenders();
  if (!sender.dtmf?.canInsertDTMF) return false;
  sender.dtmf.insertDTMF(digits, 120, 80);
  return true;
}
