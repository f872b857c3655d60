/** What a page, or whoever takes a token from it, can do with the token: the gateway holds them to it, and no phone is told. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { visitorToken } from '../../../examples/click-to-call/token.js';
import { Chromium } from '../lib/chromium.js';
import { hears, OUTSIDE, stage } from '../lib/stage.js';
import { opener } from './cases.js';
import { ClientNetwork, ELSEWHERE } from './network.js';
import { Pages } from './pages.js';

/** Another number of the trunk that the token's own goes by, as it is and as people dial it. */
const ANOTHER = ['+442079460111', '020 7946 0111'];

const scene = stage(Chromium, Pages, ClientNetwork);

/** The numbers that a phone was called by, each call once however often its INVITE came. */
function called({ messages }) {
  const invites = messages.filter(({ way, text }) => way === 'received' && /^INVITE /.test(text)).map(({ text }) => text);
  return [...new Map(invites.map((text) => [/^Call-ID: *(\S+)/mi.exec(text)[1], /^INVITE sip:([^@;]+)@/.exec(text)[1]])).values()];
}

/** A page that is let in with a token of its own. */
async function pageWith(t, token) {
  const page = await opener(t, scene)(null);
  await page.start({ url: scene.network.phoneUrl, token, log: 'silent' });
  return page;
}

/** How a call of a page ends that the gateway refuses. */
async function refused(page, number) {
  await page.call(number);
  const { ended: { by, cause, sip } } = await page.until('ended');
  return { by, cause, sip };
}

async function talks(page, { rtp }) {
  await page.call(OUTSIDE);
  await page.until('active');
  await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
}

describe('a token that a page was given', () => {
  test('for one number reaches no other, by a call or by a transfer', async (t) => {
    const { network } = scene;
    const page = await pageWith(t, visitorToken(network.secret, OUTSIDE, 'a visitor'));
    const phone = await network.callee(t);
    const elsewhere = await network.callee(t, 'callee', { says: 'other', port: network.elsewherePort });
    for (const number of [...ANOTHER, ELSEWHERE, 'hotline']) {
      assert.deepEqual(await refused(page, number), { by: 'gateway', cause: 'not-allowed', sip: 403 }, number);
      const check = await page.run((to) => globalThis.bench.phone.check(to), number);
      assert.deepEqual([check.allowed, check.cause], [false, 'not-allowed'], number);
    }
    // The phones are there: the first INVITE that each gets is that of a call which may be.
    await talks(page, phone);
    assert.equal((await page.do('transfer', [ELSEWHERE])).code, 'transfer-failed');
    await Promise.all([hears(phone.rtp, 'caller', 'the phone, not transferred'), hears(page, 'callee', 'the page, not transferred')]);
    await page.do('hangup');
    await phone.sipp.done();
    assert.deepEqual(called(phone.sipp), [OUTSIDE]);

    const alice = await pageWith(t, network.token('alice'));
    await alice.call(ELSEWHERE);
    await alice.until('active');
    await hears(elsewhere.rtp, 'caller', 'the phone elsewhere');
    await alice.do('hangup');
    await elsewhere.sipp.done();
    assert.deepEqual(called(elsewhere.sipp), [ELSEWHERE], 'by nobody else');
  });

  test('for one call makes no second one, in that page or in another', async (t) => {
    const { network } = scene;
    const good = (jti) => network.token('a-visitor', { destinations: [OUTSIDE], once: true, jti });
    const page = await pageWith(t, good('first'));
    const first = await network.callee(t);
    await talks(page, first);
    await page.do('hangup');
    await first.sipp.done();

    const second = await network.callee(t);
    const used = { by: 'gateway', cause: 'token-used', sip: 403 };
    assert.deepEqual(await refused(page, OUTSIDE), used);
    const thief = await pageWith(t, good('first'));
    assert.deepEqual(await refused(thief, OUTSIDE), used);
    const honest = await pageWith(t, good('second'));
    await talks(honest, second);
    await honest.do('hangup');
    await second.sipp.done();
    assert.deepEqual([called(first.sipp), called(second.sipp)], [[OUTSIDE], [OUTSIDE]]);
  });

  test('for one call is told to be used by the button', async (t) => {
    const { network, pages, browser } = scene;
    const token = network.token('another-visitor', { destinations: [OUTSIDE], once: true, jti: 'of-the-button' });
    pages.answer('/token', () => token);
    pages.answer('/gateway.json', () => JSON.stringify({ url: network.phoneUrl, to: OUTSIDE }));
    const page = await browser.open(`${pages.origin}/examples/click-to-call/index.html`, { name: 'the button' });
    t.after(async () => {
      await page.close();
      assert.deepEqual(page.problems, [], 'errors in the page');
    });
    const { sipp, rtp } = await network.callee(t);
    await page.click('ringback-call');
    await page.shows('ringback-call[state="active"]');
    await hears(rtp, 'caller', 'the phone');
    await page.click('ringback-call [part="hangup"]');
    await page.shows('ringback-call[state="idle"]');
    await sipp.done();
    await page.click('ringback-call');
    await page.shows('ringback-call[state="failed"]');
    const told = await page.driver.evaluate(() => document.querySelector('ringback-call').shadowRoot.querySelector('[part="status"]').textContent);
    assert.match(told, /good for one call, and is used/);
  });
});
