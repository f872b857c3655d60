/** The softphone page, in Chromium against the built-in test phone: how each state looks, and what can be done in it. */

import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { Pages } from './client/pages.js';
import * as cases from './lib/cases.js';
import { Chromium } from './lib/chromium.js';
import { Gateway } from './lib/gateway.js';
import { breakable } from './lib/in-page.js';
import { look } from './lib/looks.js';
import { until } from './lib/processes.js';
import { hears, OUT, speech } from './lib/stage.js';

/** An ended call that lasted so long is asked how it sounded. */
const RATED_MS = 5500;

let chromium;
let gateway;
before(async () => {
  chromium = await Chromium.launch({ microphone: speech.caller.file });
  gateway = await Gateway.embedded();
});
after(async () => {
  await chromium?.close();
  await gateway?.end();
});
const opener = (t) => cases.opener(t, () => chromium);
const STILL = { reducedMotion: 'reduce', viewport: { width: 1280, height: 860 } };

/** A page in an answered call. Each page is a guest of its own: a call back rings nobody else. */
async function inCall(t, number, options) {
  const page = await opener(t)(gateway.url, options);
  await page.dial(number);
  await page.inCall();
  return page;
}

const numberOf = (page) => page.driver.evaluate(() => document.querySelector('#number').value);
const recents = (page) => page.driver.evaluate(() => [...document.querySelectorAll('#recents > li')].map((li) => li.innerText.replace(/\s+/g, ' ')));

describe('Every state of the page is accessible, and has in view what it needs: ', () => {
  test('a number, allowed and not', async (t) => {
    const page = await opener(t)(gateway.url, STILL);
    await look(page, 'dial', ['#number', '#dial', '[data-key="0"]']);
    await page.driver.fill('#number', '600');
    await page.shows('#number-hint.good');
    await look(page, 'number', ['#dial', '#number-hint']);
    await page.driver.fill('#number', 'tel:+44-20-7946-0958');
    await page.shows('#number-hint.problem');
    assert.match(await page.text('#number-hint'), /There is no trunk yet/, 'why not is said before the call');
    await look(page, 'number-refused', ['#dial', '#number-hint']);
  });

  test('a call that rings, is up, is busy', async (t) => {
    const page = await opener(t)(gateway.url, STILL);
    await page.dial('604');
    await page.shows('#call[data-state="ringing"]');
    assert.equal(await page.page.evaluate(() => document.getAnimations().length), 0, 'nothing moves for who wants no motion');
    await look(page, 'ringing', ['#hangup', '#remote', '#state']);
    await page.press('Escape');
    await page.dial('603');
    await page.outcome();
    await look(page, 'busy', ['#dial', '#outcome-title', '#again']);
    await page.dial('600');
    await page.inCall();
    await page.shows('#quality');
    await look(page, 'call', ['#hangup', '#mute', '#hold', '#timer', '#quality']);
    await page.press('k');
    await look(page, 'call-keypad', ['#hangup', '[data-key="#"]']);
    await page.press('Escape');
    await page.press('m');
    await page.press('h');
    await page.shows('#hold[aria-pressed="true"]');
    await look(page, 'held', ['#hangup', '#hold', '#mute']);
    await page.press('h');
    await page.press('t');
    await page.driver.fill('#transfer-to', '601');
    await page.shows('#transfer-hint.good');
    await look(page, 'transfer', ['#hangup', '#transfer', '#consult']);
    await page.press('Escape');
    await page.shows('#controls');
    await until(() => page.driver.evaluate((ms) => performance.now() > ms, RATED_MS), 'a call long enough to be judged', RATED_MS);
    await page.press('Escape');
    await page.shows('#rate');
    await look(page, 'ended', ['#dial', '#outcome-title', '#rate-scores']);
  });

  test('a call and what is beside it, on a telephone too', async (t) => {
    const page = await inCall(t, '600', STILL);
    await page.shows('#legs');
    await page.click('#quality');
    await look(page, 'call-details', ['#hangup']);
    await page.click('#audio');
    await look(page, 'call-settings', ['#hangup']);
    await page.page.setViewportSize({ width: 390, height: 844 });
    await page.shows('#side-close');
    await page.press('Escape');
    assert.equal(await page.driver.evaluate(() => document.querySelector('#side').checkVisibility()), false, 'the sheet goes first');
    await page.press('Escape');
    await page.outcome();
  });

  test('two calls', async (t) => {
    const page = await inCall(t, '600', STILL);
    await page.press('a');
    await look(page, 'second-number', ['#dial', '#deck-back', '#swap']);
    await page.dial('601');
    await page.shows('#join');
    await look(page, 'two-calls', ['#hangup', '#swap', '#join']);
  });

  test('a call in, alone and beside another', async (t) => {
    const page = await inCall(t, '606', STILL);
    await page.outcome();
    await page.shows('#incoming', 20_000);
    await look(page, 'incoming', ['#answer', '#decline', '#incoming-from']);
    await page.press('Escape');
    await page.dial('606');
    await page.inCall();
    await page.outcome();
    await page.dial('600');
    await page.shows('#incoming[data-waiting]', 20_000);
    await look(page, 'waiting', ['#answer', '#end-answer', '#decline', '#hangup']);
  });

  test('recents, numbers to try, settings', async (t) => {
    const page = await opener(t)(gateway.url, STILL);
    await page.dial('603');
    await page.outcome();
    await page.page.evaluate(() => document.querySelector('#outcome-close').click());
    for (const panel of ['try', 'audio', 'recents']) {
      await page.click(`[data-go="${panel}"]`);
      await page.shows(`[data-panel="${panel}"]`);
      if (panel === 'recents') await page.click('#recents .icon');
      await look(page, `panel-${panel}`);
    }
  });

  test('no microphone', async (t) => {
    const page = await opener(t)(gateway.url, { ...STILL, microphone: false });
    await page.dial('600');
    await page.outcome();
    await look(page, 'no-microphone', ['#outcome-title', '#outcome-remedies']);
  });
});

describe('What can be done on the page: ', () => {
  test('a second call, to and fro, and both sides connected', async (t) => {
    const page = await inCall(t, '600');
    await page.click('#add');
    await page.dial('601');
    await page.shows('#join');
    assert.match(await page.text('#other-line'), /600\s+On hold/);
    await page.press('s');
    await until(async () => (await page.text('#remote')) === '600' && /601\s+On hold/.test(await page.text('#other-line')), 'the first call to be on the screen again');
    await page.shows('#hold[aria-pressed="false"]');
    await page.click('#hangup');
    await until(async () => (await page.text('#remote')) === '601', 'the other call to be what is left');
    assert.equal(await page.text('#state'), 'On hold', 'nobody is heard by whom he has not taken back');
    await page.press('h');
    await page.shows('#hold[aria-pressed="false"]');
    await page.click('#transfer-open');
    await page.driver.fill('#transfer-to', '600');
    await page.click('#consult');
    await page.shows('#join');
    await page.click('#join');
    const outcome = await page.outcome(20_000);
    assert.equal(outcome.code, 'transferred');
    await page.shows('#number');
  });

  test('a call that waits is taken, and the other held', async (t) => {
    const page = await inCall(t, '606');
    await page.outcome();
    await page.dial('600');
    await page.shows('#incoming[data-waiting]', 20_000);
    await page.click('#answer');
    await page.inCall();
    await until(async () => /600\s+On hold/.test(await page.text('#other-line')), 'the first call to be held');
    assert.match(await page.text('#remote'), /test phone/);
  });

  test('digits that are typed while a call comes in do not answer it', async (t) => {
    const page = await inCall(t, '606');
    await page.outcome();
    const typing = setInterval(() => page.page.keyboard.press('5').catch(() => {}), 150);
    await page.shows('#incoming', 20_000).finally(() => clearInterval(typing));
    await page.press('Enter');
    assert.ok(await page.driver.evaluate(() => document.querySelector('#incoming').checkVisibility()), 'it still rings');
    await page.press('Escape');
    assert.equal((await page.outcome()).title, 'You declined.');
  });

  test('calls are remembered, called again, and forgotten', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.dial('603');
    await page.outcome();
    await page.dial('606');
    await page.shows('#incoming', 20_000);
    await page.press('Escape');
    await page.click('[data-go="recents"]');
    await until(async () => (await recents(page)).length === 3, 'three calls');
    await page.page.reload();
    await page.ready();
    await page.click('[data-go="recents"]');
    const [declined, , busy] = await until(async () => { const rows = await recents(page); return rows.length === 3 && rows; }, 'the calls after a reload');
    assert.match(declined, /^Ringback test phone Incoming, /);
    assert.match(busy, /^603 Outgoing, /);
    await page.click('#recents li:nth-child(3) .icon');
    assert.match(await page.text('#recents li:nth-child(3)'), /busy[^]*Call id/i);
    await page.click('#recents li:nth-child(3) .recent-call');
    assert.equal((await page.outcome()).code, 'busy');
    await page.click('#clear-history');
    assert.deepEqual(await recents(page), []);
  });

  test('what was typed is erased, by button and by key', async (t) => {
    const page = await opener(t)(gateway.url);
    assert.ok(await page.driver.evaluate(() => document.querySelector('#erase').hidden), 'nothing to erase');
    for (const key of '6005') await page.click(`[data-key="${key}"]`);
    assert.equal(await numberOf(page), '6005');
    await page.click('#erase');
    assert.equal(await numberOf(page), '600');
    await until(async () => (await page.text('#number-hint')).includes('Will dial 600'), 'what is left to be checked');
    await page.driver.evaluate(() => document.activeElement.blur());
    await page.press('Backspace');
    assert.equal(await numberOf(page), '60');
    for (let digit = 0; digit < 2; digit++) await page.click('#erase');
    const left = await page.driver.evaluate(() => ['number', 'erase', 'dial'].map((id) => document.getElementById(id)).map(({ value, hidden, disabled }) => ({ value, hidden, disabled })));
    assert.deepEqual([left[0].value, left[1].hidden, left[2].disabled], ['', true, true]);
  });

  test('a call that came to nothing is made again with one press', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.dial('603');
    const first = await page.outcome();
    await page.click('#again');
    const second = await until(async () => {
      const outcome = await page.outcome();
      return outcome.callId !== first.callId && outcome;
    }, 'the end of another call');
    assert.deepEqual([first.code, second.code], ['busy', 'busy']);
    assert.match(second.callId, /^[0-9a-f]{16}$/);
    await page.click('[data-go="recents"]');
    assert.equal((await recents(page)).filter((row) => row.startsWith('603 Outgoing')).length, 2);
  });

  test('a call that the browser forbade is made again, by keyboard, when it may be', async (t) => {
    const page = await opener(t)(gateway.url, { microphone: false });
    await page.dial('600');
    assert.equal((await page.outcome()).code, 'microphone-denied');
    await page.page.context().grantPermissions(['microphone']);
    await page.page.focus('#again');
    await page.press('Enter');
    await page.inCall();
    await hears(page, 'caller', 'the page, of its own echo');
  });

  test('keys of one character do nothing where they are switched off', async (t) => {
    const page = await inCall(t, '600');
    page.page.on('dialog', (dialog) => dialog.accept());
    const pressed = async () => {
      for (const key of 'mk5ta') await page.press(key);
      return page.driver.evaluate(() => ({
        muted: document.querySelector('#mute').ariaPressed, sent: document.querySelector('#digits-sent').textContent, view: document.body.dataset.view,
        shown: ['keypad', 'transfer-form', 'controls'].filter((id) => !document.getElementById(id).hidden),
      }));
    };
    const switched = async (on) => {
      await page.click('#audio');
      await page.click('#shortcuts');
      await page.shows(`#shortcuts[aria-checked="${on}"]`);
    };
    const NOTHING = { muted: 'false', sent: '', view: 'call', shown: ['controls'] };
    await switched(false);
    assert.deepEqual(await pressed(), NOTHING);
    await page.page.reload();
    await page.inCall();
    await page.click('#audio');
    await page.shows('#shortcuts[aria-checked="false"]');
    assert.deepEqual(await pressed(), NOTHING, 'it is remembered');
    await switched(true);
    assert.deepEqual(await pressed(), { muted: 'true', sent: '5', view: 'call', shown: ['transfer-form'] });
    await page.press('Escape');
    await switched(false);
    await page.press('Escape');
    assert.equal((await page.outcome()).title, 'You hung up.', 'other keys are for everybody');
  });

  test('a call goes on over a reload of the page', async (t) => {
    const page = await inCall(t, '600');
    const id = await page.callId();
    page.page.on('dialog', (dialog) => dialog.accept());
    await page.page.reload();
    await page.inCall();
    assert.equal(await page.callId(), id, 'the same call');
    assert.equal(await page.text('#remote'), '600');
    await page.press('Escape');
    assert.equal((await page.outcome()).title, 'You hung up.');
  });

  test('a call goes on over a network that fails for a while', async (t) => {
    const page = await inCall(t, '600', { before: breakable });
    const id = await page.callId();
    await page.page.evaluate(() => globalThis.ringbackTest.network(false));
    await page.shows('#call[data-state="reconnecting"]');
    await page.shows('#status[data-state="reconnecting"]');
    await look(page, 'reconnecting', ['#hangup', '#state', '#mute']);
    await page.page.evaluate(() => globalThis.ringbackTest.network(true));
    await page.inCall();
    assert.equal(await page.callId(), id);
    await page.shows('#status[data-state="ready"]');
    await page.press('Escape');
    assert.equal((await page.outcome()).title, 'You hung up.');
  });

  test('microphone, volume and connection can be tried before a call', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.click('[data-go="audio"]');
    await page.click('#test-microphone');
    const loud = () => parseInt(document.querySelector('#microphone-level').style.getPropertyValue('--level'), 10) > 20;
    await until(() => page.driver.evaluate(loud), 'the bar to move');
    await page.click('#test-microphone');
    assert.ok(await page.driver.evaluate(() => document.querySelector('#microphone').options.length > 1), 'microphones to choose from');
    await page.page.selectOption('#microphone', { index: 1 });
    const chosen = await page.driver.evaluate(() => document.querySelector('#microphone').value);
    await page.driver.fill('#volume', '60');
    await page.page.reload();
    await page.ready();
    await page.click('[data-go="audio"]');
    await until(async () => (await page.driver.evaluate(() => document.querySelector('#microphone').value)) === chosen, 'the choice to be kept');
    assert.equal(await page.text('#volume-text'), '60 %');
    await page.click('#check');
    await page.shows('#verdict', 25_000);
    assert.match(await page.text('#verdict'), /^Ready for calls[^]*Microphone\s+works\s+Gateway\s+\d+ ms/);
    await look(page, 'devices-tried', [], '#verdict');
  });

  test('a number is pasted as it was copied, at the cursor', async (t) => {
    const page = await opener(t)(gateway.url);
    await page.page.context().grantPermissions(['clipboard-read', 'clipboard-write', 'microphone'], { origin: new URL(gateway.url).origin });
    const value = () => numberOf(page);
    const paste = async (text) => {
      await page.driver.evaluate((words) => navigator.clipboard.writeText(words), text);
      await page.page.focus('#number');
      await page.press('Control+V');
    };
    const hint = (text) => until(async () => (await page.text('#number-hint')).includes(text), () => `the line below the number to say “${text}”`);
    await paste('\n tel:6-0-0;ext=7 \r\n');
    assert.equal(await value(), 'tel:6-0-0;ext=7');
    await hint('Will dial 600');
    await page.shows('#number-hint.good');
    await page.driver.fill('#number', '');
    await paste('\t+44 (0)20 7946\u20110958\u00a0\n');
    assert.equal(await value(), '+44 (0)20 7946\u20110958');
    await hint('There is no trunk yet');
    await page.driver.fill('#number', '60');
    await page.press('Home');
    await page.press('ArrowRight');
    await paste(' 0 ');
    assert.equal(await value(), '600', 'where the cursor is');
    await page.press('Control+A');
    await paste('60 1');
    assert.equal(await value(), '60 1', 'in place of what is selected');
    await page.press('Enter');
    await page.inCall();
    assert.equal(await page.text('#remote'), '601');
  });

  test('the id of a call is copied: while it is up, when it has ended, and later', async (t) => {
    const page = await inCall(t, '600');
    await page.page.context().grantPermissions(['clipboard-read', 'clipboard-write', 'microphone'], { origin: new URL(gateway.url).origin });
    const id = await page.callId();
    const copies = async (selector) => {
      await page.driver.evaluate(() => navigator.clipboard.writeText('something else'));
      await page.click(selector);
      await page.shows(`${selector}[aria-label="Copied"]`);
      assert.equal(await page.driver.evaluate(() => navigator.clipboard.readText()), id);
      assert.match(await page.driver.evaluate(() => document.querySelector('#alert').textContent), /^Copied/, 'those who do not see it hear it');
    };
    await page.click('#quality');
    await copies('#copy-live-id');
    await page.shows('#copy-live-id[aria-label="Copy the call id"]');
    await page.press('Escape');
    await page.outcome();
    await copies('#copy-id');
    await page.click('#outcome-close');
    await page.click('[data-go="recents"]');
    await page.click('#recents .icon');
    await copies('#recents code + button');
  });

  test('speaker and ringer are chosen and tried', async (t) => {
    const page = await opener(t)(gateway.url, { before: listening });
    const tones = async (press, count) => {
      await page.page.evaluate(() => { globalThis.ringbackTest.tones.length = 0; });
      await page.click(press);
      await until(async () => (await page.page.evaluate(() => globalThis.ringbackTest.tones.length)) === count, `${count} tones`);
      return page.page.evaluate(() => globalThis.ringbackTest.tones);
    };
    const elements = () => page.page.evaluate(() => globalThis.ringbackTest.elements.map(({ sinkId, paused }) => ({ sinkId, paused })));
    const choose = async (what, at) => {
      const offered = await page.driver.evaluate((id) => [...document.querySelector(id).options].map(({ value }) => value), `#${what}`);
      await page.page.selectOption(`#${what}`, offered.at(at));
      return offered.at(at);
    };
    const keys = [697, 1209, 770, 1336, 852, 1477];
    await page.click('[data-go="audio"]');
    assert.deepEqual(await tones('#test-speaker', 6), keys.map((hz) => ({ hz, out: '' })), 'three keys, at the system’s choice');
    // What loudspeakers there are a page learns when it may use the microphone.
    await page.click('#test-microphone');
    await page.shows('#microphone-bar');
    await page.click('#test-microphone');
    const speaker = await choose('speaker', -1);
    await until(async () => (await tones('#test-speaker', 6)).every(({ out }) => out === speaker), 'the keys to be played there');
    const ringer = await choose('ringer', -2);
    assert.ok(speaker && ringer && speaker !== ringer, `two to choose from: ${speaker}, ${ringer}`);
    assert.deepEqual(await tones('#test-ringer', 3), [659, 831, 988].map((hz) => ({ hz, out: 'an element' })), 'not at the speaker');
    await until(async () => isDeepStrictEqual(await elements(), [{ sinkId: ringer, paused: false }]), 'the ring to be played at the ringer');
    assert.equal(await page.text('#device-note'), '');
    await page.dial('600');
    await page.inCall();
    await until(async () => (await elements()).at(-1).sinkId === speaker, 'the far end to be heard at the speaker');
    await page.click('#audio');
    await choose('speaker', 0);
    await until(async () => isDeepStrictEqual(await elements(), [{ sinkId: ringer, paused: false }, { sinkId: '', paused: false }]), 'and at the system’s, in the same call');
  });

  test('a link of tel: fills in its number, and a score is taken', async (t) => {
    const page = await opener(t)(`${gateway.url}?to=${encodeURIComponent('tel:600;ext=1')}`);
    assert.equal(await numberOf(page), 'tel:600;ext=1');
    await page.shows('#number-hint.good');
    await page.press('Enter');
    await page.inCall();
    await until(async () => (await page.text('#timer')) >= '0:06', 'a call long enough to be judged');
    await page.press('Escape');
    await page.shows('#rate');
    await page.click('#rate-scores button:nth-child(2)');
    await page.click('#rate-issues button:nth-child(2)');
    assert.match(await page.text('#rate'), /Thank you/);
  });

  test('links of tel: on other pages call here, where that was set up', async (t) => {
    const pages = await Pages.start();
    t.after(() => pages.close());
    pages.put('/numbers.html', '<!doctype html><title>Numbers</title><a href="tel:600">Echo</a>');
    // A private window keeps no such choice.
    const browser = await Chromium.launch({ microphone: speech.caller.file, profile: mkdtempSync(`${OUT}profile-`) });
    t.after(() => browser.close());
    const page = await cases.opener(t, () => browser)(gateway.url);
    const session = await page.page.context().newCDPSession(page.page);
    await session.send('Page.setRPHRegistrationMode', { mode: 'autoAccept' }); // what its user would click
    await page.click('[data-go="audio"]');
    await page.click('#tel-links');
    await page.page.goto(`${pages.origin}/numbers.html`);
    await page.click('a');
    await page.ready();
    assert.equal(await numberOf(page), 'tel:600');
    await page.shows('#number-hint.good');
    await page.press('Enter');
    await page.inCall();
    assert.equal(await page.text('#remote'), '600');
    await hears(page, 'caller', 'the page, of its own echo');
  });

  test('in the background a call is told by the system', async (t) => {
    const page = await opener(t)(gateway.url, { before: inBackground });
    await page.click('[data-go="audio"]');
    await page.click('#notify');
    await page.shows('#notify[aria-checked="true"]');
    await page.dial('606');
    await page.shows('#incoming', 20_000);
    assert.deepEqual(await page.page.evaluate(() => globalThis.ringbackTest.notifications), ['Incoming call: Ringback test phone']);
    await page.press('Escape');
    await until(() => page.page.evaluate(() => globalThis.ringbackTest.withdrawn === 1), 'the notification to go with the call');
  });
});

/** Runs in the page, before its own scripts: hidden, and with notifications that can be read. */
function inBackground() {
  Object.defineProperty(document, 'hidden', { get: () => true });
  globalThis.Notification = class extends EventTarget {
    static permission = 'default';
    static requestPermission = async () => { globalThis.Notification.permission = 'granted'; };
    constructor(title, { body }) {
      super();
      (globalThis.ringbackTest.notifications ??= []).push(`${title}: ${body}`);
    }
    close() { globalThis.ringbackTest.withdrawn = (globalThis.ringbackTest.withdrawn ?? 0) + 1; }
  };
}

/** Runs in the page, before its own scripts: which tones were made and where each went, and what elements play. */
function listening() {
  const { tones, elements } = Object.assign(globalThis.ringbackTest, { tones: [], elements: [] });
  const after = new WeakMap();
  const { connect } = AudioNode.prototype;
  AudioNode.prototype.connect = function (to, ...more) {
    after.set(this, to);
    return connect.call(this, to, ...more);
  };
  const { start } = OscillatorNode.prototype;
  OscillatorNode.prototype.start = function (...when) {
    const out = after.get(after.get(this));
    tones.push({ hz: this.frequency.value, out: out === this.context.destination ? this.context.sinkId : 'an element' });
    return start.apply(this, when);
  };
  const { play } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = function () {
    if (!elements.includes(this)) elements.push(this);
    return play.call(this);
  };
}
