/** Calls that outlive a reload of the page and a change of its network. Our own client, on a page of another origin. */

import assert from 'node:assert/strict';
import { hears, OUTSIDE } from '../lib/stage.js';

const KEEPING = { bearer: true, options: { keepCalls: true } };
const RECOVERS_WITHIN_MS = 30_000;

/** The page is loaded anew in mid-call: the phone is not told, and both are heard again. */
export async function reload(registered, network, t) {
  const phone = await registered('alice', KEEPING);
  const { sipp, rtp } = await network.callee(t);
  await phone.do('call', OUTSIDE);
  await phone.call(0, 'active');
  await Promise.all([hears(rtp, 'caller', 'the phone'), hears(phone, 'callee', phone.name)]);
  await phone.page.reload();
  await phone.do('start', network.account('alice', KEEPING));
  await phone.call(0, 'active', RECOVERS_WITHIN_MS);
  await Promise.all([hears(rtp, 'caller', 'the phone, after the reload'), hears(phone, 'callee', `${phone.name}, after the reload`)]);
  assert.equal(rtp.sources.size, 1, 'all RTP comes from one address');
  assert.equal(toldOf(sipp), 1, 'the phone was told of nothing but the call');
  await phone.do('hangup', 0);
  await sipp.done();
}

/** The page's network changes in mid-call; SIPp's echo tells whether both directions come back. */
export async function networkChange(registered, network, t, change) {
  const phone = await registered('alice', KEEPING);
  const sipp = await network.echo(t);
  await phone.do('call', OUTSIDE);
  await phone.call(0, 'active');
  await hears(phone, 'caller', 'the page, of the echo');
  const changed = Date.now();
  await change();
  const missed = ({ calls, events }) => calls[0].state === 'ended' || events.some((event) => /call 0 reconnecting/.test(event));
  await phone.sees(missed, 'to miss its network', RECOVERS_WITHIN_MS);
  await phone.call(0, 'active', RECOVERS_WITHIN_MS);
  console.log(`  ${phone.name}: in the call again ${Date.now() - changed} ms after the change`);
  await hears(phone, 'caller', 'the page, of the echo after the change');
  assert.equal(toldOf(sipp), 1, 'the phone was told of nothing but the call');
  await phone.do('hangup', 0);
  await sipp.done();
}

/** How many INVITEs and BYEs of its own call a phone has got, however often each was sent. */
function toldOf(sipp) {
  const header = (text, name) => new RegExp(`^${name}: *(.*?)\\s*$`, 'mi').exec(text)?.[1];
  const requests = sipp.messages.filter(({ way, text }) => way === 'received' && /^(BYE|INVITE) /.test(text)).map(({ text }) => text);
  const call = header(requests.find((text) => /^INVITE /.test(text)), 'Call-ID');
  return new Set(requests.filter((text) => header(text, 'Call-ID') === call).map((text) => header(text, 'CSeq'))).size;
}
