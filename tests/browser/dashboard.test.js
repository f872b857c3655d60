/** The operator's page in Chromium: live calls of the softphone with the test phone and with SIPp. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import * as cases from './lib/cases.js';
import { Chromium } from './lib/chromium.js';
import { Gateway } from './lib/gateway.js';
import { violations } from './lib/looks.js';
import { freeTcpPort, until } from './lib/processes.js';
import { Network, OUT, OUTSIDE, PREMIUM, speech } from './lib/stage.js';

const SIZES = { wide: { width: 1360, height: 1000 }, narrow: { width: 390, height: 844 } };
const HEARD_SECONDS = 4;

let chromium;
before(async () => { chromium = await Chromium.launch({ microphone: speech.caller.file }); });
after(() => chromium?.close());
const opener = (t) => cases.opener(t, () => chromium);

/** The operator's page; it must have had no error of its own. */
async function dashboard(t, url) {
  const profile = await chromium.browser.newContext({ viewport: SIZES.wide, reducedMotion: 'reduce' });
  const page = await profile.newPage();
  const problems = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  // Answers of 401, 403 and 404 are ones that the page counts on.
  page.on('console', (message) => { if (message.type() === 'error' && !/status of 40[134]/.test(message.text())) problems.push(message.text()); });
  t.after(async () => {
    await profile.close();
    assert.deepEqual(problems, [], 'errors in the page');
  });
  await page.goto(url);
  return page;
}

/** The cells of each row of a table. */
const rows = (page, table) => page.$$eval(`#${table} tbody tr`, (found) => found.map((row) => [...row.cells].map((cell) => cell.innerText.trim())));
const text = (page, selector) => page.$eval(selector, (found) => found.innerText);
const PATIENCE_MS = 30_000;

/** Waits for a row that is as wanted, and gives its cells. */
function rowOf(page, table, wanted, what) {
  let seen;
  const found = async () => { seen = await rows(page, table); return seen.find(wanted); };
  return until(found, () => `${what}; there are ${JSON.stringify(seen)}`, PATIENCE_MS);
}

/** Waits until an element says so. */
function says(page, selector, pattern) {
  let said;
  const found = async () => { said = await text(page, selector); return pattern.test(said); };
  return until(found, () => `${selector} to say ${pattern}; it says ${said}`, PATIENCE_MS);
}

/** How it looks in both schemes and sizes: kept, accessible, and no wider than the window. */
async function look(page, state) {
  for (const [shape, size] of Object.entries(SIZES)) {
    await page.setViewportSize(size);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.screenshot({ path: `${OUT}dashboard-${state}-${shape}-${colorScheme}.png`, fullPage: true });
      if (shape === 'wide' || colorScheme === 'light') assert.deepEqual(await violations(page), [], `${state}-${shape}-${colorScheme}: accessible`);
    }
    const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= window, `${state}-${shape}: ${wide} px of ${window}`);
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(SIZES.wide);
}

/** The points of a chart's lines. */
const points = (page) => page.$$eval('#charts path[d]', (paths) => paths.map((path) => path.getAttribute('d')).join(' ').length);

describe('The operator’s page and the test phone', () => {
  let gateway;
  before(async () => { gateway = await Gateway.embedded(); });
  after(() => gateway?.end());

  test('a call appears, is looked into, is hung up, and goes', async (t) => {
    const page = await dashboard(t, `${gateway.url}dashboard`);
    await page.waitForSelector('#status[data-state="serving"]');
    assert.equal(await text(page, '#no-calls'), 'Nobody is on a call.');
    await rowOf(page, 'trunks-table', ([name, state]) => name === 'testphone' && state === 'up', 'the test phone’s trunk');

    const phone = await opener(t)(`${gateway.url}?user=ada`);
    await phone.dial('600');
    await phone.inCall();
    const id = await phone.callId();
    const row = await rowOf(page, 'calls-table', ([call, state]) => call === id && state === 'talking', 'the call');
    assert.deepEqual([row[2], row[3]], ['ada (browser)', '600 by testphone']);
    await rowOf(page, 'calls-table', ([call, , , , , , heard]) => call === id && Number(heard) > 1, 'its score');
    await look(page, 'overview');
    await page.fill('#find', 'nobody');
    assert.equal(await text(page, '#no-calls'), 'No call is like that.');
    await page.fill('#find', 'ada');
    assert.equal((await rows(page, 'calls-table')).length, 1);

    // By keyboard alone: to the call, and what was said.
    await page.focus(`#calls-table a[href$="${id}"]`);
    await page.keyboard.press('Enter');
    await page.waitForSelector('#call:not([hidden]) .ladder li[data-label^="INVITE 600"]');
    const labels = await page.$$eval('.ladder li', (found) => found.map((li) => li.dataset.label));
    const at = (start) => labels.findIndex((label) => label.startsWith(start));
    assert.ok(at('call 600') === 0 && at('call 600') < at('INVITE 600, SDP') && at('INVITE') < at('200 OK (INVITE), SDP') && at('200 OK') < at('answered'), labels.join('; '));
    assert.deepEqual(await page.$$eval('.lanes b', (found) => found.map((lane) => lane.innerText)), ['browser', 'ringback', 'SIP, udp']);
    const invite = page.locator('.ladder li[data-label^="INVITE 600"]');
    await invite.locator('summary').focus();
    await page.keyboard.press('Enter');
    await invite.locator('pre', { hasText: 'CSeq: 1 INVITE' }).waitFor();
    assert.match(await page.$eval('#ladder', (ladder) => ladder.innerHTML), /<summary>/);

    // It sounds, and the lines go on.
    await page.waitForSelector('#charts svg[aria-label*="who called: now "]', { timeout: 30_000 });
    const drawn = await points(page);
    await until(async () => (await points(page)) > drawn + 5 * HEARD_SECONDS, 'the lines to go on', PATIENCE_MS);
    await rowOf(page, 'legs-table', ([side, , codec]) => side === 'who called' && codec === 'opus', 'the caller’s codec');
    await look(page, 'call');

    await page.click('#hangup');
    await page.keyboard.press('Escape');
    assert.equal(await page.$eval('#confirm', (dialog) => dialog.open), false, 'it was thought better of');
    assert.ok(await page.$('#call:not([hidden])'), 'and the call’s page stays');
    await page.click('#hangup');
    await page.click('#confirm [value="yes"]');
    await phone.outcome();
    await says(page, '#call-lead', /over since .*hung up|over since .*by an operator/);
    assert.ok(await page.$('#hangup[hidden]'));
    await page.waitForSelector('.ladder li[data-label^="200 OK (BYE)"]');
    assert.ok((await points(page)) > drawn, 'how it sounded stays');
    await look(page, 'call-over');
    await page.keyboard.press('Escape');
    await page.waitForSelector('#overview:not([hidden])');
    await until(async () => (await text(page, '#no-calls')) === 'Nobody is on a call.' && (await rows(page, 'calls-table')).length === 0, 'the call to go', PATIENCE_MS);
    await rowOf(page, 'ended-table', ([call]) => call === id, 'it among those that ended last');
  });

  test('a call that nothing is remembered of says so', async (t) => {
    const page = await dashboard(t, `${gateway.url}dashboard/#/call/0000000000000000`);
    await says(page, '#call-lead', /Nothing is remembered/);
    await page.goto(`${gateway.url}dashboard/#/call/nonsense`);
    await page.waitForSelector('#overview:not([hidden])');
  });
});

describe('The operator’s page and SIPp', () => {
  const reader = randomBytes(24).toString('hex');
  let network;
  let api;
  before(async () => {
    api = await freeTcpPort();
    const sha256 = createHash('sha256').update(reader).digest('hex');
    network = await Network.start({ sections: `
[control]
socket = "control.sock"
[limits.user]
calls = 3
[api]
listen = "127.0.0.1:${api}"
[[api.token]]
name = "reader"
sha256 = "${sha256}"
scopes = ["read"]
` });
  });
  after(() => network?.end());

  test('a key opens it; failed calls count under their cause; a call with SIPp shows its trunk', async (t) => {
    const page = await dashboard(t, `${network.gateway.url}dashboard/`);
    await page.waitForSelector('#sign-in:not([hidden])');
    await look(page, 'sign-in');
    await page.fill('#key', 'wrong');
    await page.keyboard.press('Enter');
    await says(page, '#sign-in-problem', /does not know/);
    const url = execFileSync(process.env.RINGBACK_BIN, ['--config', network.gateway.file, 'dashboard'], { encoding: 'utf8' }).trim();
    await page.goto(url);
    await page.reload();
    await page.waitForSelector('#overview:not([hidden])');
    assert.doesNotMatch(page.url(), /key=/, 'the key does not stay in the address');

    const alice = await opener(t)(network.url('alice'));
    await alice.dial(PREMIUM);
    await alice.outcome();
    await rowOf(page, 'causes-table', ([cause, by, calls]) => cause === 'not-allowed' && by === 'gateway' && calls === '1', 'the refused call');
    await alice.dial(PREMIUM);
    await rowOf(page, 'causes-table', ([cause, , calls]) => cause === 'not-allowed' && calls === '2', 'both of them');
    assert.match(await text(page, '#causes-table'), /Premium numbers are barred/);

    const { sipp } = await network.callee(t);
    await alice.dial(OUTSIDE);
    await alice.inCall();
    const id = await alice.callId();
    await rowOf(page, 'calls-table', (row) => row[0] === id && row[3] === `${OUTSIDE} by sipp`, 'the call by SIPp');
    await rowOf(page, 'trunks-table', ([name, , , , , calls]) => name === 'sipp' && calls === '1', 'its trunk');
    await rowOf(page, 'limits-table', ([of, limit, used, most]) => of === 'user alice' && limit === 'calls' && used === '1' && most === '3', 'how much of her limit is used');
    await look(page, 'causes');
    await alice.press('Escape');
    await alice.outcome();
    await sipp.done();
    await rowOf(page, 'causes-table', ([cause, , calls]) => cause === 'normal' && calls === '1', 'the call that went well');

    // From the cause to the call: why it was refused.
    const [refused] = await rowOf(page, 'ended-table', (row) => row[3] === PREMIUM, 'the refused call among those that ended last');
    await page.click(`#ended-table a[href$="${refused}"]`);
    await says(page, '#call-lead', /Premium numbers are barred \(not-allowed/);
    await page.waitForSelector('.ladder li[data-label^="ended not-allowed"]');
    await look(page, 'refused');
  });

  test('a token that may only read sees the call, and neither what was said nor its end', async (t) => {
    const page = await dashboard(t, `http://127.0.0.1:${api}/dashboard/`);
    await page.fill('#key', reader);
    await page.keyboard.press('Enter');
    const alice = await opener(t)(network.url('alice'));
    const { sipp } = await network.callee(t);
    await alice.dial(OUTSIDE);
    await alice.inCall();
    const id = await alice.callId();
    await rowOf(page, 'calls-table', ([call]) => call === id, 'the call');
    await page.click(`#calls-table a[href$="${id}"]`);
    await says(page, '#ladder-lead', /It is not shown: .*`trace`/);
    assert.equal(await page.$$eval('.ladder li', (found) => found.length), 0);
    await page.click('#hangup');
    await page.click('#confirm [value="yes"]');
    await says(page, '#call-problem', /It is not ended: this token may only read/);
    await alice.press('Escape');
    await alice.outcome();
    await sipp.done();
  });

  test('a call whose callee sends nothing says so, and why', async (t) => {
    const url = execFileSync(process.env.RINGBACK_BIN, ['--config', network.gateway.file, 'dashboard'], { encoding: 'utf8' }).trim();
    const page = await dashboard(t, url);
    const alice = await opener(t)(network.url('alice'));
    const { sipp } = await network.callee(t, 'callee', { says: null });
    await alice.dial(OUTSIDE);
    await alice.inCall();
    const id = await alice.callId();
    await rowOf(page, 'calls-table', (row) => row[0] === id && row[6] === 'no-rtp', 'the call without sound');
    await says(page, '#health-list', /One call has a side that is not heard/);
    await page.click(`#calls-table a[href$="${id}"]`);
    await says(page, '#verdict-list', /who was called was not heard, and it is so still\. No sound arrives/);
    assert.match(await text(page, '#verdict-list'), /On the line of who was called \(no-rtp\)\. A firewall stands before rtp_ports/);
    await look(page, 'no-audio');
    await alice.press('Escape');
    await alice.outcome();
    await sipp.done();
    await says(page, '#call-lead', /over since/);
    assert.match(await text(page, '#verdict-list'), /No sound arrives/, 'that stays');
  });
});
