/** What each foreign library must manage through the gateway. Each case ends with what was heard. */

import assert from 'node:assert/strict';
import { level } from '../lib/audio.js';
import { until } from '../lib/processes.js';
import { ALICE, hears, OUTSIDE, PREMIUM } from '../lib/stage.js';
import { ELSEWHERE, uri } from './network.js';
import { ForeignPhone } from './phone.js';

const SOUND_DB = -45;

/** `registered(user, account)` opens the library's page and registers; it is closed with the test. */
export function opener(t, { browser, pages, network }, library) {
  return async (user, account) => {
    const page = await browser.open(pages.url(library), { name: `${library} of ${user}` });
    t.after(async () => {
      await page.page.goto('about:blank'); // ends its calls now: of a page closed with its process the gateway learns late
      await page.close();
      assert.deepEqual(page.problems, [], 'errors in the page');
    });
    return ForeignPhone.registered(page, network.account(user, account));
  };
}

export async function outbound(registered, network, t, account) {
  const phone = await registered('alice', account);
  const { sipp, rtp } = await network.callee(t);
  await phone.do('call', uri(OUTSIDE));
  await phone.call(0, 'active');
  await Promise.all([hears(rtp, 'caller', 'the phone'), hears(phone, 'callee', phone.name)]);
  assert.equal(rtp.sources.size, 1, 'all RTP comes from one address');
  await phone.do('hangup', 0);
  await phone.call(0, 'ended');
  await sipp.done();
}

export async function hungUpByPhone(registered, network, t) {
  const phone = await registered('alice');
  const { sipp } = await network.callee(t, 'callee-hangs-up');
  await phone.do('call', uri(OUTSIDE));
  await phone.call(0, 'active');
  await hears(phone, 'callee', phone.name);
  await sipp.hangUp();
  await phone.call(0, 'ended');
  await sipp.done();
}

export async function inbound(registered, network, t) {
  const phone = await registered('alice');
  const { sipp, rtp } = await network.caller(t);
  const call = await phone.call(0, 'incoming');
  assert.match(`${call.name} ${call.remote}`, /Ada Lovelace|1632960001/);
  await phone.do('answer', 0);
  await phone.call(0, 'active');
  await Promise.all([hears(rtp, 'caller', 'the phone that called'), hears(phone, 'callee', phone.name)]);
  await phone.do('hangup', 0);
  await sipp.message(/^BYE /);
  await sipp.done();
}

export async function declined(registered, network, t) {
  const phone = await registered('alice');
  const { sipp } = await network.caller(t, 'caller-declined');
  await phone.call(0, 'incoming');
  await phone.do('decline', 0);
  await phone.call(0, 'ended');
  await sipp.done();
}

/** Every registration rings, and the first to accept has the call. */
export async function twoRing(registered, network, t) {
  const [first, second] = [await registered('alice'), await registered('alice')];
  const { sipp, rtp } = await network.caller(t);
  await Promise.all([first.call(0, 'incoming'), second.call(0, 'incoming')]);
  await second.do('answer', 0);
  await second.call(0, 'active');
  await first.call(0, 'ended');
  await hears(rtp, 'caller', 'the phone that called');
  await second.do('hangup', 0);
  await sipp.done();
}

export async function digits(registered, network, t, { how }) {
  const phone = await registered('alice');
  const { sipp, rtp } = await network.callee(t);
  await phone.do('call', uri(OUTSIDE));
  await phone.call(0, 'active');
  await rtp.hear(0.5);
  await phone.do('digits', 0, '159#', how);
  await until(() => rtp.digits.length >= 4, () => `four digits at the phone; there were “${rtp.digits}”`, 15_000);
  await hears(rtp, 'caller', 'the phone, after the digits');
  assert.equal(rtp.digits, '159#');
  await phone.do('hangup', 0);
  await sipp.done();
}

export async function hold(registered, network, t) {
  const phone = await registered('alice');
  const { sipp, rtp } = await network.callee(t, 'callee-held');
  await phone.do('call', uri(OUTSIDE));
  await phone.call(0, 'active');
  await hears(rtp, 'caller', 'the phone');
  // Twice: what a hold leaves behind in the library's connection is there at the next.
  for (const time of ['once', 'twice']) {
    await phone.do('hold', 0, true);
    await phone.sees(({ calls }) => calls[0].held, 'to hold');
    await sipp.message(/^INVITE [^]*a=sendonly/);
    await until(() => phone.hearsNothing(), 'the page to be silent while it holds');
    for (const tone of [true, false]) {
      await until(async () => level(await rtp.hear(0.5)) > SOUND_DB === tone, `the comfort tone at the phone, ${tone ? 'heard' : 'and its rest'}`);
    }
    await phone.do('hold', 0, false);
    await phone.sees(({ calls }) => !calls[0].held, 'to take the call back');
    await Promise.all([hears(rtp, 'caller', `the phone, taken back ${time}`), hears(phone, 'callee', `${phone.name}, held ${time}`)]);
  }
  await phone.do('hangup', 0);
  await sipp.done();
}

export async function refused(registered, network, t) {
  const phone = await registered('alice');
  const { sipp } = await network.callee(t, 'callee-declines');
  await phone.do('call', uri(OUTSIDE));
  assert.match((await phone.call(0, 'ended')).cause, /603/);
  await sipp.done();
  await phone.do('call', uri(PREMIUM));
  assert.match((await phone.call(1, 'ended')).cause, /403/);
}

/** Given up while it rings. */
export async function cancelled(registered, network, t) {
  const phone = await registered('alice');
  const { sipp } = await network.callee(t, 'callee-rings');
  await phone.do('call', uri(OUTSIDE));
  await sipp.message(/^SIP\/2.0 180/, 'sent');
  await phone.sees(({ calls }) => ['ringing', 'early'].includes(calls[0].state), 'to ring');
  await phone.do('hangup', 0);
  await phone.call(0, 'ended');
  await sipp.done();
}

export async function earlyMedia(registered, network, t) {
  const phone = await registered('alice', { earlyMedia: true }); // which SIP.js takes only then
  const { sipp, rtp } = await network.callee(t, 'callee-early');
  await phone.do('call', uri(OUTSIDE));
  await phone.call(0, 'early');
  await until(async () => level(await phone.hear(0.5)) > SOUND_DB, 'sound before the answer');
  assert.equal((await phone.seen()).calls[0].state, 'early', 'heard before the answer');
  await phone.call(0, 'active');
  await Promise.all([hears(rtp, 'caller', 'the phone'), hears(phone, 'callee', phone.name)]);
  await phone.do('hangup', 0);
  await sipp.done();
}

/** The other side is connected with a third: the two phones hear each other, and the browser has left. */
export async function transfer(registered, network, t) {
  const phone = await registered('alice');
  const first = await network.callee(t, 'callee-hangs-up');
  const second = await network.callee(t, 'callee', { says: 'other', port: network.elsewherePort });
  await phone.do('call', uri(OUTSIDE));
  await phone.call(0, 'active');
  await first.rtp.hear(0.5);
  await phone.do('transfer', 0, uri(ELSEWHERE));
  await second.sipp.message(/^ACK /);
  await transferred(phone, first, second);
}

export async function attendedTransfer(registered, network, t) {
  const phone = await registered('alice');
  const first = await network.callee(t, 'callee-hangs-up');
  const second = await network.callee(t, 'callee-moves', { says: 'other', port: network.elsewherePort });
  await phone.do('call', uri(OUTSIDE));
  await phone.call(0, 'active');
  await phone.do('call', uri(ELSEWHERE));
  await phone.call(1, 'active');
  await second.rtp.hear(0.5);
  await phone.do('transfer', 0, uri(ELSEWHERE), 1);
  await transferred(phone, first, second);
}

async function transferred(phone, first, second) {
  await phone.sees(({ calls }) => calls[0].transfer === 'accepted', 'to be told that the transfer was done');
  await Promise.all([hears(first.rtp, 'other', 'the first phone'), hears(second.rtp, 'callee', 'the second phone')]);
  await phone.sees(({ calls }) => calls.every(({ state }) => state === 'ended'), 'to have left');
  await first.sipp.hangUp();
  await second.sipp.done();
  await first.sipp.done();
}

/** A page that is left without a word of SIP: its call ends with its transport (DTLS close_notify). */
export async function left(registered, network, t) {
  const phone = await registered('alice');
  const { sipp, rtp } = await network.callee(t);
  await phone.do('call', uri(OUTSIDE));
  await phone.call(0, 'active');
  await rtp.hear(0.5);
  await phone.page.goto('about:blank');
  await sipp.message(/^BYE /);
  await sipp.done();
}

export async function wrongPassword(t, { browser, pages, network }, library) {
  const page = await browser.open(pages.url(library), { name: library });
  t.after(() => page.close());
  const phone = new ForeignPhone(page.driver, library);
  await phone.do('start', { ...network.account('alice'), password: 'the password of nobody' });
  const { registration } = await phone.sees((seen) => seen.registration !== 'none', 'to be told of its password');
  assert.match(registration, /^failed/);
}
