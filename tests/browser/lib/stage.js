/** What every case needs: the speech, a place for output, a gateway with SIPp as its telephone network. */

import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { downsample, makeSpeech, writeWav } from './audio.js';
import { Gateway } from './gateway.js';
import { LIKE, likeness, UNLIKE } from './likeness.js';
import { freeTcpPort, freeUdpPort, until } from './processes.js';
import { RtpPhone } from './rtp.js';
import { Sipp } from './sipp.js';

export const OUT = fileURLToPath(new URL('../out/', import.meta.url));
/** The number of the phone outside, and alice's own. */
export const OUTSIDE = '+442079460958';
export const ALICE = '+442079460100';
export const PREMIUM = '+449098790000';
/** What a likeness is taken of: so much tells the speakers apart, and more does so better. */
const HEARD_SECONDS = { least: 3, most: 5 };
const LISTEN_EVERY_MS = 500;
const SETTLE_MS = 30_000;

mkdirSync(OUT, { recursive: true });
export const speech = makeSpeech(`${OUT}speech`);
export const narrow = Object.fromEntries(Object.entries(speech).map(([name, sound]) => [name, downsample(sound, 8000)]));
/** A line that is open, and nothing on it. */
narrow.silence = { rate: 8000, samples: new Float32Array(8000) };

let recordings = 0;

/**
 * Waits until what is heard at a place (a page or a phone) from now on is `said`, and none of the other speakers.
 *
 * It listens on until the last seconds are: a browser that has just begun to play on a busy machine first plays what has
 * gathered, faster than it was said.
 */
export async function hears(place, said, where) {
  let from = await place.recorded();
  let heard;
  let scores = {};
  const listen = async () => {
    const to = await place.recorded();
    if (to < from) from = 0; // another recording, of a new connection
    if (to - from < HEARD_SECONDS.least) return false;
    heard = await place.recording(Math.max(from, to - HEARD_SECONDS.most), to);
    scores = Object.fromEntries(Object.keys(speech).map((name) => [name, likeness(heard, speech[name])]));
    return Object.entries(scores).every(([name, score]) => (name === said ? score > LIKE : score < UNLIKE));
  };
  const text = () => Object.entries(scores).map(([name, score]) => `${name} ${score.toFixed(2)}`).join(', ');
  try {
    await until(listen, () => `${where} to hear ${said} and nobody else; it is like ${text() || 'nothing yet'}`, SETTLE_MS, LISTEN_EVERY_MS);
  } finally {
    if (heard) writeWav(`${OUT}heard-${++recordings}.wav`, heard);
  }
  console.log(`  ${where}: likeness ${text()} (heard-${recordings}.wav)`);
}

const base64url = (value) => Buffer.from(value).toString('base64url');

/** A case that failed leaves a call behind: its BYE is for this SIPp, not for the next one on the same port. */
async function hangUpAndEnd(sipp, rtp) {
  await until(() => !sipp.running, 'SIPp to end by itself', 3000).catch(() => {});
  rtp.close();
  await sipp.end();
}

/** A gateway whose one trunk is SIPp, and whose sessions need a token. */
export class Network {
  #secret = randomBytes(24).toString('hex');

  /**
   * `certificate` is what it shows where it speaks https and wss itself; pages of `origins` may come in beside its own; `http` and `trunk` are further lines of those sections, `sections` further sections, `rules` further rules of the dial plan; `within` the
   * namespace that it runs in.
   */
  static async start({ certificate, origins, http = '', trunk = '', sections = '', rules = '', within } = {}) {
    const network = new this();
    network.namespace = within;
    network.certificate = certificate;
    network.origins = origins;
    network.host = within?.address ?? '127.0.0.1';
    network.sippPort = await freeUdpPort();
    network.sipPort = await freeUdpPort();
    network.httpPort = await freeTcpPort();
    network.sipTcpPort = await freeTcpPort();
    network.gateway = await Gateway.configured(OUT, { config: network.#config(http, trunk) + sections, plan: PLAN + rules, within });
    return network;
  }

  #config(http, trunk) {
    return `
[http]
listen = "${this.host}:${this.httpPort}"
${this.certificate?.lines ?? ''}
${this.origins ? `origins = ${JSON.stringify([...this.origins, this.origin])}` : ''}
${http}

[sip]
udp = ["127.0.0.1:${this.sipPort}"]
tcp = ["127.0.0.1:${this.sipTcpPort}"]

[media]
browser = "${this.host}:0" # a free port, reached by Firefox too, which does not pair loopback addresses
rtp_address = "127.0.0.1"
rtp_ports = "21000-21199"

[auth]
hs256_secret = "${this.#secret}"

[dialplan]
dir = "plans"

[trunk.sipp]
# SIPp counts an OPTIONS as a call.
options = 0
address = "127.0.0.1:${this.sippPort}"
codecs = ["PCMU", "PCMA"]
sources = ["127.0.0.1"]
${trunk}
`;
  }

  /** That of its own page. */
  get origin() { return `${this.certificate ? 'https' : 'http'}://${this.host}:${this.httpPort}`; }

  /** The address of one of its WebSockets. */
  socket(door) { return `${this.origin.replace('http', 'ws')}/${door}`; }

  /** What tokens are signed with. */
  get secret() { return this.#secret; }

  /** `more` are further claims. */
  token(user, { secret = this.#secret, lasts = 3600, destinations = ['*'], ...more } = {}) {
    const claims = { sub: user, destinations, exp: Math.floor(Date.now() / 1000) + lasts, ...more };
    const signed = `${base64url('{"alg":"HS256","typ":"JWT"}')}.${base64url(JSON.stringify(claims))}`;
    return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
  }

  /** The page's address for a user. */
  url(user, options) { return `${this.gateway.url}?token=${this.token(user, options)}`; }

  /** SIPp as the phone that is called. It speaks as the callee unless told otherwise. */
  async callee(t, scenario = 'callee', { says = 'callee', args, port = this.sippPort } = {}) {
    const rtp = await RtpPhone.open(says && narrow[says]);
    const sipp = await Sipp.start({ scenario, port, out: OUT, keys: { rtp_port: rtp.port }, args });
    t.after(() => hangUpAndEnd(sipp, rtp));
    return { sipp, rtp };
  }

  /** SIPp as somebody who calls alice in. */
  async caller(t, scenario = 'caller', { says = 'callee', port = this.sippPort } = {}) {
    const rtp = await RtpPhone.open(says && narrow[says]);
    const keys = { rtp_port: rtp.port, did: ALICE };
    const sipp = await Sipp.start({ scenario, port, out: OUT, remote: `127.0.0.1:${this.sipPort}`, keys });
    t.after(() => hangUpAndEnd(sipp, rtp));
    return { sipp, rtp };
  }

  end() { return this.gateway.end(); }
}

const PLAN = `
[plan]
name = "browser-tests"

[numbering]
country = "44"
national = "0"
international = ["00", "+"]

[[out]]
name = "premium"
prefix = ["+449"]
reject = { code = 403, reason = "Premium numbers are barred" }

[[out]]
name = "uk"
prefix = ["+44"]
tiers = [["sipp"]]

[[in]]
name = "alice"
did = "${ALICE}"
ring = { users = ["alice"], for = "30s" }
`;

/**
 * The stage of a file's cases: a browser whose microphone says what the caller says, somebody else's pages, and a gateway that
 * lets these in. They are there, and `set` has had its turn, when the first case begins; they end after the last one.
 */
export function stage(Browser, Pages, Network, set) {
  const scene = {};
  before(async () => {
    scene.browser = await Browser.launch({ microphone: speech.caller.file });
    scene.pages = await Pages.start();
    scene.network = await Network.start({ origin: scene.pages.origin });
    await set?.(scene);
  });
  after(async () => {
    await scene.browser?.close();
    scene.pages?.close();
    await scene.network?.end();
  });
  return scene;
}
