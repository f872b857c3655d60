/** The examples, and what the guide shows, as a reader would use them: each makes a call that is heard. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { visitorToken } from '../../../examples/click-to-call/token.js';
import { Chromium } from '../lib/chromium.js';
import { freeUdpPort, until } from '../lib/processes.js';
import { hears, OUTSIDE, PREMIUM, stage } from '../lib/stage.js';
import { ClientNetwork } from './network.js';
import { Pages } from './pages.js';

const GUIDE = readFileSync(new URL('../../../docs/browser-client.md', import.meta.url), 'utf8');

const scene = stage(Chromium, Pages, ClientNetwork, ({ pages, network }) => {
  pages.answer('/token', () => network.token('alice'));
  pages.answer('/gateway.json', () => JSON.stringify({ url: network.phoneUrl, to: OUTSIDE }));
});

async function open(t, path) {
  const page = await scene.browser.open(`${scene.pages.origin}${path}`, { name: path });
  t.after(async () => {
    await page.close();
    assert.deepEqual(page.problems, [], 'errors in the page');
  });
  return page;
}

/** What the pages' own server gives for a token in this test. */
function answerTokens(t, answer) {
  scene.pages.answer('/token', answer);
  t.after(() => scene.pages.answer('/token', () => scene.network.token('alice')));
}

const shows = (page, text) => until(async () => (await page.text('body')).includes(text) || (await page.driver.evaluate(() => document.querySelector('output')?.value ?? '')).includes(text), async () => `${page.name} to show ${text}; it shows ${await page.text('body')}`, 15_000);

describe('the examples', () => {
  test('a plain page', async (t) => {
    const page = await open(t, '/examples/plain/index.html');
    const { sipp, rtp } = await scene.network.callee(t);
    await page.driver.fill('#number', OUTSIDE);
    await page.press('Enter');
    await shows(page, 'active');
    await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', 'the page')]);
    await page.click('#hangup');
    await sipp.done();
    await page.driver.fill('#number', PREMIUM);
    await page.press('Enter');
    await shows(page, 'Premium numbers are barred');
  });

  async function reactPage(t) {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL('../../../examples/react/app.jsx', import.meta.url))], write: false,
      bundle: true, format: 'esm', target: 'es2022', define: { 'process.env.NODE_ENV': '"production"' }, logLevel: 'error',
      nodePaths: [fileURLToPath(new URL('../node_modules', import.meta.url))],
    });
    scene.pages.put('/examples/react/app.js', outputFiles[0].text);
    const page = await open(t, '/examples/react/index.html');
    await shows(page, 'ready');
    return page;
  }

  test('a React hook', async (t) => {
    const page = await reactPage(t);
    const { sipp, rtp } = await scene.network.callee(t);
    await page.driver.fill('#number', OUTSIDE);
    await page.press('Enter');
    await shows(page, `${OUTSIDE}: active`);
    await hears(rtp, 'caller', 'the phone');
    await page.click('#mute');
    await page.shows('#mute[aria-pressed="true"]');
    await page.click('#hangup');
    await sipp.done();
    const second = await scene.network.caller(t);
    await page.shows('#answer');
    await page.click('#answer');
    await hears(second.rtp, 'caller', 'the phone that called');
    await page.click('#hangup');
    await second.sipp.done();
  });

  test('a React hook with two calls at once', async (t) => {
    const page = await reactPage(t);
    await page.driver.fill('#number', OUTSIDE);
    const first = await scene.network.callee(t, 'callee-waits');
    await page.press('Enter');
    await shows(page, `${OUTSIDE}: active`);
    await hears(first.rtp, 'caller', 'the first phone');
    const second = await scene.network.caller(t, 'caller-waits', { says: 'other', port: await freeUdpPort() });
    await page.shows('#answer');
    await page.click('#answer');
    await shows(page, `${OUTSIDE} waits`);
    await Promise.all([hears(second.rtp, 'caller', 'the phone that called'), hears(page, 'other', 'the page')]);
    await page.click('.waiting button');
    await page.driver.evaluate(() => { globalThis.ringbackTest.listensTo = 0; });
    await shows(page, `${OUTSIDE}: active`);
    await Promise.all([hears(first.rtp, 'caller', 'the first phone, talked to again'), hears(page, 'callee', 'the page, back')]);
    await page.click('#hangup');
    await first.sipp.done();
    // The other one comes to the front, and still waits.
    await page.shows('#resume');
    await page.click('#resume');
    await hears(second.rtp, 'caller', 'the phone that called, taken back');
    await page.click('#hangup');
    await second.sipp.done();
  });

  test('<ringback-call> with a token for one destination', async (t) => {
    answerTokens(t, ({ searchParams }) => visitorToken(scene.network.secret, OUTSIDE, searchParams.get('visitor')));
    const page = await open(t, '/examples/click-to-call/index.html');
    const { sipp, rtp } = await scene.network.callee(t);
    await page.driver.evaluate(() => {
      globalThis.sockets = [];
      globalThis.WebSocket = class extends WebSocket {
        constructor(...given) { globalThis.sockets.push(super(...given)); }
      };
    });
    await page.click('ringback-call');
    await page.shows('ringback-call[state="active"]');
    await Promise.all([hears(rtp, 'caller', 'the hotline'), hears(page, 'callee', 'the visitor')]);
    await page.driver.evaluate(() => globalThis.sockets.at(-1).close(3000));
    await until(() => page.driver.evaluate(() => globalThis.sockets.length > 1), 'another socket');
    await page.shows('ringback-call[state="active"]');
    await hears(rtp, 'caller', 'the hotline, afterwards');
    await page.driver.evaluate(() => document.querySelector('ringback-call').hangup());
    await page.shows('ringback-call[state="idle"]');
    await sipp.done();
    // It is the gateway that holds the visitor to the token: the page asks for another number.
    await page.driver.evaluate((number) => {
      const hotline = document.querySelector('ringback-call');
      hotline.setAttribute('to', number);
      hotline.addEventListener('ringback-end', ({ detail: { by, cause, sip } }) => { globalThis.ended = { by, cause, sip }; });
    }, '+442079460111');
    await page.click('ringback-call');
    await page.shows('ringback-call[state="failed"]');
    assert.deepEqual(await page.driver.evaluate(() => globalThis.ended), { by: 'gateway', cause: 'not-allowed', sip: 403 });
  });
});

describe('what the guide shows', () => {
  const blocks = (language) => [...GUIDE.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].filter(([, name]) => name === language).map(([, , text]) => text);
  const here = (text) => text.replaceAll('https://gw.example/', '/web/').replaceAll('wss://gw.example/phone', scene.network.phoneUrl);
  const [first, button, ...more] = blocks('html');

  test('has no page and no script that is not run here', () => {
    assert.deepEqual(more, []);
    assert.equal(blocks('html').length + blocks('js').length, GUIDE.match(/^```\w/gm).length, 'and nothing in another language');
  });

  test('the first page calls', async (t) => {
    const [, script] = first.match(/<script type="module">([^]*)<\/script>/);
    scene.pages.put('/guide.js', here(script));
    scene.pages.put('/guide.html', first.replace(/<script type="module">[^]*<\/script>/, '<script type="module" src="/guide.js"></script>'));
    const page = await open(t, '/guide.html');
    const { sipp, rtp } = await scene.network.callee(t);
    await page.click('#call');
    await hears(rtp, 'caller', 'the phone');
    await page.close();
    await sipp.done();
  });

  test('the button calls', async (t) => {
    answerTokens(t, () => visitorToken(scene.network.secret, 'hotline', 'a visitor'));
    scene.pages.put('/button.html', here(button));
    const page = await open(t, '/button.html');
    const { sipp, rtp } = await scene.network.callee(t);
    assert.equal(await page.text('ringback-call'), 'Call our hotline');
    await page.click('ringback-call');
    await page.shows('ringback-call[state="active"]');
    await Promise.all([hears(rtp, 'caller', 'the hotline'), hears(page, 'callee', 'the visitor')]);
    await page.click('ringback-call [part="hangup"]');
    await page.shows('ringback-call[state="idle"]');
    await sipp.done();
  });

  test('every other example runs in a call', async (t) => {
    const page = await open(t, '/bench.html');
    await until(() => page.driver.evaluate(() => Boolean(globalThis.bench)), 'the page’s script');
    const { sipp, rtp } = await scene.network.callee(t, 'callee-held');
    await page.driver.evaluate(async (options, number) => {
      globalThis.phone = globalThis.bench.open(options);
      await globalThis.phone.start();
      globalThis.call = await globalThis.phone.call(number);
      await new Promise((resolve) => { globalThis.call.on('quality', resolve); });
    }, scene.network.options('alice'), OUTSIDE);
    await rtp.hear(0.5);
    const scripts = blocks('js');
    assert.ok(scripts.length >= 5, 'examples in the guide');
    for (const text of scripts) {
      const failed = await page.page.evaluate(`(async () => {
        const { Phone, PhoneError } = globalThis.bench;
        const { phone, call } = globalThis;
        const shown = [];
        const show = (...words) => shown.push(words.join(' '));
        ${here(text).replace(/^import .*$/gm, '')}
      })().then(() => null, (error) => String(error.stack))`);
      assert.equal(failed, null, text);
    }
    await page.driver.evaluate(() => globalThis.call.hangup());
    await sipp.done();
  });
});

test('a page without a gateway is told what helps', async (t) => {
  const page = await open(t, '/bench.html');
  await until(() => page.driver.evaluate(() => Boolean(globalThis.bench)), 'the page’s script');
  const error = await page.driver.evaluate(async () => {
    const phone = globalThis.bench.open({ url: 'ws://127.0.0.1:9/phone', log: 'silent' });
    return phone.start().catch(({ code, remedies, fatal }) => ({ code, remedies, fatal }));
  });
  assert.equal(error.code, 'unreachable');
  assert.notEqual(error.remedies.length, 0);
});
