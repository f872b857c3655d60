/** Calls that reach the gateway by way of a TURN server alone, with the credentials that the gateway hands out; and WHIP. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { opener } from './lib/cases.js';
import { Chromium } from './lib/chromium.js';
import { until } from './lib/processes.js';
import { hears, Network, OUT, OUTSIDE, speech } from './lib/stage.js';
import { ComposedTurn, Turn } from './lib/turn.js';

const EXAMPLE = readFileSync(new URL('../../examples/whip.html', import.meta.url));

let chromium;
before(async () => { chromium = await Chromium.launch({ microphone: speech.caller.file }); });
after(() => chromium?.close());

/** Put into a page before its own scripts: no connection but through a relay, and all of them kept. */
function onlyByRelay() {
  globalThis.connections = [];
  const Original = globalThis.RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Original {
    constructor(configuration = {}, ...more) {
      super({ ...configuration, iceTransportPolicy: 'relay' }, ...more);
      globalThis.connections.push(this);
    }

    setConfiguration(configuration) { super.setConfiguration({ ...configuration, iceTransportPolicy: 'relay' }); }
  };
}

/** The pair that carries the sound: the type of our candidate, and how it reaches its relay. */
async function way() {
  const stats = [...(await globalThis.connections.at(-1).getStats()).values()];
  const transport = stats.find(({ type }) => type === 'transport');
  const pair = stats.find(({ id }) => id === transport?.selectedCandidatePairId);
  const local = stats.find(({ id }) => id === pair?.localCandidateId);
  return local && [local.candidateType, local.relayProtocol];
}

/** A page whose connections go through a relay. */
async function relayed(t, url) {
  const page = await chromium.open('about:blank', { name: 'the page behind the relay' });
  t.after(() => page.close());
  await page.page.addInitScript(onlyByRelay);
  await page.page.goto(url);
  return page;
}

/** In containers too where the tests are told that there is an engine: `tests/browser/run --full`. */
const SERVERS = process.env.RINGBACK_ENGINE ? [Turn, ComposedTurn] : [Turn];

for (const [Server, transport] of SERVERS.flatMap((each) => [[each, 'udp'], [each, 'tcp']])) {
  describe(`TURN over ${transport.toUpperCase()}, ${Server.kind}`, () => {
    let turn;
    let network;
    before(async () => {
      turn = await Server.start(OUT);
      network = await Network.start({ sections: turn.section(transport) });
    });
    after(async () => {
      await network?.end();
      await turn?.end();
    });

    test('the softphone calls out, heard at both ends', async (t) => {
      const page = await relayed(t, network.url('alice'));
      await page.ready();
      const { sipp, rtp } = await network.callee(t);
      await page.dial(OUTSIDE);
      await page.inCall();
      await until(() => page.driver.evaluate(way), 'a pair of candidates');
      assert.deepEqual(await page.driver.evaluate(way), ['relay', transport]);
      if (turn.users) assert.match(turn.users.at(-1), /^\d+:alice$/, 'the relay knows the gateway’s user');
      await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
      await page.press('Escape');
      await sipp.done();
    });
  });
}

/** The example, served by somebody else's web server. */
class Shop {
  static async start() {
    const shop = new Shop();
    shop.server = http.createServer((request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' }).end(EXAMPLE);
    }).listen(0, '127.0.0.1');
    await once(shop.server, 'listening');
    shop.origin = `http://localhost:${shop.server.address().port}`;
    return shop;
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

describe('WHIP', () => {
  let shop;
  let turn;
  let network;
  before(async () => {
    shop = await Shop.start();
    turn = await Turn.start(OUT);
    network = await Network.start({ http: `origins = ["${shop.origin}"]`, sections: turn.section('udp') });
  });
  after(async () => {
    shop?.close();
    await network?.end();
    await turn?.end();
  });

  const url = () => `${shop.origin}/?gateway=http://localhost:${network.httpPort}&token=${network.token('alice')}`;
  const state = (page) => page.text('#state');
  const shows = (page, wanted) => until(async () => (await state(page)) === wanted, async () => `the example to show ${wanted}; it shows ${await state(page)}`);
  async function opened(t) {
    const page = await chromium.open(url(), { name: 'the example' });
    t.after(async () => {
      await page.close();
      assert.deepEqual(page.problems, [], 'errors in the page');
    });
    return page;
  }

  test('the example calls, is heard at both ends, and hangs up', async (t) => {
    const page = await opened(t);
    const { sipp, rtp } = await network.callee(t);
    await page.driver.fill('#to', OUTSIDE);
    await page.click('#call');
    await shows(page, 'answered');
    await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the example')]);
    await page.click('#hangup');
    await sipp.message(/^BYE /);
    await sipp.done();
    await shows(page, 'The call was hung up');
  });

  test('the example tells that the phone has hung up, and why it may not call', async (t) => {
    const page = await opened(t);
    const { sipp } = await network.callee(t, 'callee-hangs-up');
    await page.driver.fill('#to', OUTSIDE);
    await page.click('#call');
    await shows(page, 'answered');
    await sipp.hangUp();
    await sipp.done();
    await shows(page, 'The call was hung up');
    await page.driver.fill('#to', '+449098790000');
    await page.click('#call');
    await shows(page, 'Premium numbers are barred');
  });

  test('a call of the example outlives an ICE restart (RFC 9725 section 4.3.3), heard at both ends', async (t) => {
    const page = await chromium.open('about:blank', { name: 'the example' });
    t.after(() => page.close());
    await page.page.addInitScript(kept);
    await page.page.goto(url());
    const { sipp, rtp } = await network.callee(t);
    await page.driver.fill('#to', OUTSIDE);
    await page.click('#call');
    await shows(page, 'answered');
    await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the example')]);
    const [before] = await page.driver.evaluate(credentials);
    assert.equal(await page.page.evaluate(restart), 200);
    await until(async () => (await page.driver.evaluate(credentials))[1] !== before, 'another pair of candidates');
    const [offered, used] = await page.driver.evaluate(credentials);
    assert.ok(used === offered && offered !== before, `the sound goes by the new credentials: ${before}, ${offered}, ${used}`);
    await Promise.all([hears(rtp, 'caller', 'the phone, after the restart'), hears(page, 'callee', 'the example, after the restart')]);
    await page.click('#hangup');
    await sipp.done();
    await shows(page, 'The call was hung up');
  });

  test('calls through a relay that OPTIONS has named', async (t) => {
    const page = await relayed(t, url());
    const { sipp, rtp } = await network.callee(t);
    const called = await page.page.evaluate(callByRelay, { to: OUTSIDE, ...Object.fromEntries(new URL(url()).searchParams) });
    assert.equal(called, 201);
    await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
    assert.deepEqual(await page.driver.evaluate(way), ['relay', 'udp']);
    await page.page.evaluate(() => globalThis.hangUp());
    await sipp.done();
  });
});

/** Put into the page before its own scripts: its connection and the address of its session are kept. */
function kept() {
  const { RTCPeerConnection, fetch } = globalThis;
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...words) {
      super(...words);
      globalThis.connection = this;
    }
  };
  globalThis.fetch = async (address, how) => {
    const answer = await fetch(address, how);
    if (how?.method === 'POST') globalThis.session = new URL(answer.headers.get('Location'), address).href;
    return answer;
  };
}

/** In the page: the ICE user name of its own description, and that by which the sound goes. */
async function credentials() {
  const { connection } = globalThis;
  const stats = await connection.getStats();
  const transport = [...stats.values()].find(({ type }) => type === 'transport');
  const pair = stats.get(transport.selectedCandidatePairId);
  return [/a=ice-ufrag:(.*)/.exec(connection.localDescription.sdp)[1].trim(), stats.get(pair?.localCandidateId)?.usernameFragment];
}

/** In the page: what the guide's table asks for. */
async function restart() {
  const { connection, session } = globalThis;
  const lines = (sdp) => sdp.match(/^a=ice-(ufrag|pwd):.*$/gm).map((line) => line.trim());
  connection.restartIce();
  await connection.setLocalDescription();
  const headers = { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '*' };
  const answer = await fetch(session, { method: 'PATCH', headers, body: lines(connection.localDescription.sdp).map((line) => `${line}\r\n`).join('') });
  const [ufrag, pwd] = lines(await answer.text());
  const sdp = connection.remoteDescription.sdp.replace(/^a=ice-ufrag:.*$/gm, ufrag).replace(/^a=ice-pwd:.*$/gm, pwd);
  await connection.setRemoteDescription({ type: 'answer', sdp });
  return answer.status;
}

/** In the page: RFC 9725 section 4.6, for a client that needs the servers before its offer. */
async function callByRelay({ gateway, token, to }) {
  const headers = { Authorization: `Bearer ${token}` };
  const door = `${gateway}/whip/call?to=${encodeURIComponent(to)}`;
  const links = (await fetch(door, { method: 'OPTIONS', headers })).headers.get('Link');
  const servers = links.split(/,\s*(?=<)/).filter((link) => link.includes('rel="ice-server"')).map((link) => ({
    urls: /<([^>]*)>/.exec(link)[1], username: /username="([^"]*)"/.exec(link)?.[1], credential: /credential="([^"]*)"/.exec(link)?.[1],
  }));
  const connection = new RTCPeerConnection({ iceServers: servers });
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  connection.addTrack(microphone.getAudioTracks()[0], microphone);
  connection.ontrack = ({ track }) => { document.querySelector('audio').srcObject = new MediaStream([track]); };
  await connection.setLocalDescription();
  const made = await fetch(door, { method: 'POST', headers: { ...headers, 'Content-Type': 'application/sdp' }, body: connection.localDescription.sdp });
  await connection.setRemoteDescription({ type: 'answer', sdp: await made.text() });
  globalThis.hangUp = () => fetch(gateway + made.headers.get('Location'), { method: 'DELETE', headers });
  return made.status;
}
