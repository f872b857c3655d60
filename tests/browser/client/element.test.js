/** The element <ringback-call> in each of its states: accessible, and operated by keyboard alone. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Chromium } from '../lib/chromium.js';
import { breakable } from '../lib/in-page.js';
import { violations } from '../lib/looks.js';
import { hears, OUT, OUTSIDE, PREMIUM, stage } from '../lib/stage.js';
import { ClientNetwork } from './network.js';
import { Pages } from './pages.js';

const SCHEMES = ['light', 'dark'];

const scene = stage(Chromium, Pages, ClientNetwork);

/** A page of a shop's with the element in it; the shop gives its token when `letIn` is called. */
async function shop(t) {
  const { browser, network, pages } = scene;
  let letIn;
  const opening = new Promise((resolve) => { letIn = resolve; });
  pages.answer('/token', async () => {
    await opening;
    return network.token('visitor');
  });
  pages.put('/shop.html', `<!doctype html><html lang="en"><meta charset="utf-8"><title>Shop</title><main><h1>Shop</h1>
    <p>Questions? <ringback-call url="${network.phoneUrl}" to="${OUTSIDE}" token-from="/token">Call our hotline</ringback-call></p></main>
    <script type="module" src="/web/ringback-call.js"></script></html>`);
  const page = await browser.open(`${pages.origin}/shop.html`, { name: 'the shop', before: breakable });
  t.after(async () => {
    await page.close();
    assert.deepEqual(page.problems, [], 'errors in the page');
  });
  return Object.assign(page, { letIn });
}

/** Waits for a state, and looks at it. `name` is what the screenshot is called. */
async function looks(page, state, name = state) {
  await page.shows(`ringback-call[state="${state}"]`);
  for (const colorScheme of SCHEMES) {
    await page.page.emulateMedia({ colorScheme });
    await page.page.screenshot({ path: `${OUT}element-${name}-${colorScheme}.png` });
    assert.deepEqual(await violations(page.page), [], `${name}, ${colorScheme}: accessible`);
  }
}

/** The part of the element that has the focus. */
const focus = (page) => page.driver.evaluate(() => document.querySelector('ringback-call').shadowRoot.activeElement?.part.value ?? null);
const status = (page) => page.driver.evaluate(() => document.querySelector('ringback-call').shadowRoot.querySelector('[part="status"]').textContent);

describe('the element <ringback-call>', () => {
  test('is accessible in every state, and all of a call is made by keyboard', async (t) => {
    const page = await shop(t);
    await looks(page, 'idle');
    await page.press('Tab');
    assert.equal(await focus(page), 'button');
    await page.press('Enter');
    await looks(page, 'connecting');
    assert.equal(await status(page), 'Connecting…');

    const rings = await scene.network.callee(t, 'callee-rings');
    page.letIn();
    await looks(page, 'ringing');
    assert.equal(await focus(page), 'hangup', 'what can be done next');
    await page.press('Enter');
    await page.shows('ringback-call[state="idle"]');
    assert.equal(await focus(page), 'button');
    await rings.sipp.done();

    const early = await scene.network.callee(t, 'callee-early');
    await page.press('Enter');
    await looks(page, 'early');
    await looks(page, 'active');
    assert.equal(await focus(page), 'hangup');
    await hears(early.rtp, 'caller', 'the phone');
    await page.press('Shift+Tab');
    assert.equal(await focus(page), 'mute');
    await page.press('Enter');
    await looks(page, 'active', 'muted');
    assert.equal(await page.driver.evaluate(() => document.querySelector('ringback-call').shadowRoot.querySelector('[part="mute"]').ariaPressed), 'true');
    await page.page.evaluate(() => globalThis.ringbackTest.network(false));
    await looks(page, 'reconnecting');
    assert.equal(await focus(page), 'hangup', 'there is nothing to mute');
    await page.page.evaluate(() => globalThis.ringbackTest.network(true));
    await page.shows('ringback-call[state="active"]');
    await page.press('Enter');
    await page.shows('ringback-call[state="idle"]');
    await early.sipp.done();

    await page.driver.evaluate((number) => document.querySelector('ringback-call').setAttribute('to', number), PREMIUM);
    await page.press('Enter');
    await looks(page, 'failed');
    assert.match(await status(page), /^Premium numbers are barred/);
    assert.equal(await focus(page), 'button', 'to be tried again');
  });

  test('leaves the focus to who has gone on reading meanwhile', async (t) => {
    const page = await shop(t);
    await page.driver.evaluate(() => document.querySelector('main').append(Object.assign(document.createElement('button'), { id: 'basket', textContent: 'Basket' })));
    await page.press('Tab');
    await page.press('Enter');
    await page.shows('ringback-call[state="connecting"]');
    await page.page.focus('#basket');
    const { sipp } = await scene.network.callee(t, 'callee-rings');
    page.letIn();
    await page.shows('ringback-call[state="ringing"]');
    assert.deepEqual([await focus(page), await page.driver.evaluate(() => document.activeElement.id)], [null, 'basket']);
    await page.click('ringback-call [part="hangup"]');
    await page.shows('ringback-call[state="idle"]');
    await sipp.done();
  });
});
