/** The core cases, which every browser must pass: each ends with what was heard at the far end. */

import assert from 'node:assert/strict';
import { dtmfDigits } from './audio.js';
import { until } from './processes.js';
import { hears, OUT, OUTSIDE } from './stage.js';

const CALLS_TIMED = 5;
/** Generous, as a machine that runs tests is busy; the figures are printed. */
const SOUND_WITHIN_MS = 1000;

/** `open(url)` gives a page; it is closed with the test, and must have had no error of its own. */
export function opener(t, browser) {
  return async (url, options) => {
    const page = await browser().open(url, options);
    t.after(async () => {
      await page.close();
      assert.deepEqual(page.problems, [], 'errors in the page');
    });
    await page.ready();
    return page;
  };
}

/** From the click to the first sound of a phone that answers at once and plays at once, as the page itself tells it. */
export async function clickToSound(open, gateway, browserName) {
  const page = await open(gateway.url);
  const times = [];
  for (let call = 0; call < CALLS_TIMED; call++) {
    await page.dial('601');
    await page.inCall();
    await page.sounds();
    await page.press('Escape');
    times.push(soundAfter(await page.outcome()));
    await page.press('Escape'); // dismisses the outcome
  }
  console.log(`  ${browserName}: click to first sound ${times.map((ms) => `${ms} ms`).join(', ')}`);
  assert.ok(Math.min(...times) < SOUND_WITHIN_MS, `${times}`);
}

function soundAfter({ detail }) {
  const [, ms] = detail.match(/sound after (\d+) ms/) ?? assert.fail(`no time of the first sound in “${detail}”`);
  return Number(ms);
}

export async function echo(open, gateway, browserName) {
  const page = await open(gateway.url);
  await page.dial('600');
  await page.inCall();
  await hears(page, 'caller', 'the page, of its own echo');
  await page.driver.screenshot(`${OUT}${browserName}-in-call.png`);
  const id = await page.callId();
  assert.match(id, /^[0-9a-f]{16}$/, 'the gateway’s id of the call');
  await page.press('Escape');
  const outcome = await page.outcome();
  assert.equal(outcome.title, 'You hung up.');
  assert.equal(outcome.callId, id);
}

/** Digits by keyboard and keypad, read by the far end and heard again as its tones. */
export async function digits(open, gateway) {
  const page = await open(gateway.url);
  await page.dial('602');
  await page.inCall();
  await page.hear(0.5);
  await page.press('1');
  await page.press('5');
  await page.press('k'); // the keypad, which is behind a button in a call
  await page.click('[data-key="9"]');
  await page.click('[data-key="#"]');
  assert.equal(await page.text('#digits-sent'), '159#');
  await playedBack(page, '159'); // # ends the entry
  await page.press('Escape');
}

/** Waits until the page has heard these digits in a row. */
export async function playedBack(page, digits) {
  let heard = '';
  await until(async () => {
    heard = dtmfDigits(await page.recording(0, await page.recorded()));
    return heard.includes(digits);
  }, () => `the digits ${digits} to be played back; “${heard}” was heard`, 20_000);
}

export async function busy(open, gateway, browserName) {
  const page = await open(gateway.url);
  await page.dial('603');
  const outcome = await page.outcome();
  assert.equal(outcome.kind, 'problem');
  assert.equal(outcome.code, 'busy');
  assert.match(outcome.title, /busy/i);
  assert.notEqual(outcome.remedies.length, 0);
  await page.driver.screenshot(`${OUT}${browserName}-busy.png`);
}

export async function outbound(open, network, t) {
  const page = await open(network.url('alice'));
  const { sipp, rtp } = await network.callee(t);
  await page.dial(OUTSIDE);
  await page.inCall();
  await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
  assert.equal(rtp.sources.size, 1, 'all RTP comes from one address');
  await page.press('Escape');
  await sipp.message(/^BYE /);
  await sipp.done();
  assert.equal((await page.outcome()).title, 'You hung up.');
}

export async function hungUpByPhone(open, network, t) {
  const page = await open(network.url('alice'));
  const { sipp } = await network.callee(t, 'callee-hangs-up');
  await page.dial(OUTSIDE);
  await page.inCall();
  await hears(page, 'callee', 'the page');
  await sipp.hangUp();
  const outcome = await page.outcome();
  assert.equal(outcome.title, 'They hung up.');
  await sipp.done();
}

export async function inbound(open, network, t) {
  const page = await open(network.url('alice'));
  const { sipp, rtp } = await network.caller(t);
  await page.shows('#incoming');
  assert.match(await page.text('#incoming'), /Ada Lovelace|1632\s*960001/);
  await page.press('Enter');
  await page.inCall();
  await Promise.all([hears(rtp, 'caller', 'the phone that called'), hears(page, 'callee', 'the page')]);
  await page.press('Escape');
  await sipp.message(/^BYE /);
  await sipp.done();
}

export async function inboundHungUpByPhone(open, network, t) {
  const page = await open(network.url('alice'));
  const { sipp } = await network.caller(t, 'caller-hangs-up');
  await page.shows('#incoming');
  await page.click('#answer');
  await page.inCall();
  await hears(page, 'callee', 'the page');
  await sipp.hangUp();
  assert.equal((await page.outcome()).title, 'They hung up.');
  await sipp.done();
}
