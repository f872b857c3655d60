/** A gateway that speaks https and wss itself, with a real browser: no proxy in between. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Certificate } from '../lib/certificate.js';
import { Chromium } from '../lib/chromium.js';
import { hears, OUT, OUTSIDE, speech, stage } from '../lib/stage.js';
import * as cases from './cases.js';
import { OpenNetwork } from './network.js';
import { Pages } from './pages.js';
import { ForeignPhone } from './phone.js';

const certificate = new Certificate(OUT);
const Trusting = { launch: (options) => Chromium.launch({ ...options, trust: certificate }) };
const Sealed = { start: (options) => OpenNetwork.start({ ...options, certificate }) };

const scene = stage(Trusting, Pages, Sealed);

describe('over wss, with the gateway’s own certificate, in Chromium', () => {
  const holds = (what, library, run, account) => test(what, (t) => run(cases.opener(t, scene, library), scene.network, t, account));
  holds('jssip calls out with a session token', 'jssip', cases.outbound, { bearer: true });
  holds('jssip is called, registered by password', 'jssip', cases.inbound);

  test('our client calls out', async (t) => {
    const phone = await cases.opener(t, scene, 'ringback')('alice', { bearer: true });
    const { sipp, rtp } = await scene.network.callee(t);
    await phone.do('call', OUTSIDE);
    await phone.call(0, 'active');
    await Promise.all([hears(rtp, 'caller', 'the phone'), hears(phone, 'callee', phone.name)]);
    await phone.do('hangup', 0);
    await sipp.done();
  });

  test('the softphone page calls out by https', async (t) => {
    assert.match(scene.network.gateway.url, /^https:/);
    const page = await scene.browser.open(`${scene.network.origin}/?token=${scene.network.token('alice')}`, { name: 'the softphone' });
    t.after(() => page.close());
    const { sipp, rtp } = await scene.network.callee(t);
    await page.ready();
    await page.dial(OUTSIDE);
    await page.inCall();
    await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
    await page.click('#hangup');
    await sipp.done();
    assert.deepEqual(page.problems, [], 'errors in the page');
  });

  test('a browser that was not told to trust the certificate does not come in', async (t) => {
    const wary = await Chromium.launch({ microphone: speech.caller.file });
    t.after(() => wary.close());
    const page = await wary.open(scene.pages.url('jssip'), { name: 'jssip that trusts nobody' });
    const phone = new ForeignPhone(page.driver, page.name);
    await phone.do('start', scene.network.account('alice', { bearer: true }));
    const { registration } = await phone.sees(({ events }) => events.some((event) => event.includes('disconnected')), 'to be let down');
    assert.equal(registration, 'none');
  });
});
