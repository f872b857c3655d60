/**
 * What the check before a call (`Phone.preflight`) says of networks that are in its way, and of a page that may not have the
 * microphone. To be started in a network namespace of its own, as tests/browser/run does: this machine's network is left alone.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Chromium } from '../lib/chromium.js';
import { Firefox } from '../lib/firefox.js';
import { ip, Namespace } from '../lib/namespace.js';
import { Network, OUT, OUTSIDE, speech } from '../lib/stage.js';
import { Turn } from '../lib/turn.js';
import { Bench } from './bench.js';
import { Pages } from './pages.js';

const GATEWAY = '10.77.0.1';
/** Sooner than all other rules for packets, and among these the exceptions first. */
const [PASSED, BARRED] = ['10', '20'];

let pages;
let far;
before(async () => {
  far = await Namespace.make(GATEWAY);
  far.cable('cable-1', 1);
  far.plug('cable-1', 1);
  pages = await Pages.start();
});
after(async () => {
  pages?.close();
  await far?.end();
});

/** A firewall that lets no UDP out to the gateway's machine, but to the port that is told; it goes with the test. */
function barUdp(t, port) {
  ip('rule', 'add', 'to', GATEWAY, 'ipproto', 'udp', 'priority', BARRED, 'prohibit');
  t.after(() => ip('rule', 'del', 'priority', BARRED));
  if (!port) return;
  ip('rule', 'add', 'to', GATEWAY, 'ipproto', 'udp', 'dport', String(port), 'priority', PASSED, 'table', 'main');
  t.after(() => ip('rule', 'del', 'priority', PASSED));
}

async function started(t, sections = '') {
  const network = await Network.start({ within: far, origins: [pages.origin], sections });
  t.after(() => network.end());
  return network;
}

/** A TURN server beside the gateway, and a gateway that tells of it. */
async function withTurn(t, transport) {
  const turn = await Turn.start(OUT, { within: far });
  t.after(() => turn.end());
  return { turn, network: await started(t, turn.section(transport)) };
}

/** What the check finds in a page of the browser's, which must have no error of its own. */
async function check(t, browser, network) {
  const page = await Bench.open(browser, pages, {});
  t.after(async () => {
    await page.close();
    assert.deepEqual(page.problems, [], 'errors in the page');
  });
  return page.run((options) => globalThis.bench.Phone.preflight({ ...options, seconds: 3 }), { url: network.socket('phone'), token: network.token('alice'), log: 'silent' });
}

const launches = { Chromium: () => Chromium.launch({ microphone: speech.caller.file }), Firefox: () => Firefox.launch({ microphone: speech.caller.file }) };

for (const [name, launch] of Object.entries(launches)) {
  describe(`the check in ${name}`, () => {
    let browser;
    before(async () => { browser = await launch(); });
    after(() => browser?.close());

    /** Sound goes over, by such a way. */
    function goes(report, ice, turn) {
      assert.deepEqual({ microphone: report.microphone, ice: report.ice, turn: report.turn }, { microphone: 'ok', ice, turn }, JSON.stringify(report));
      assert.notEqual(report.verdict, 'blocked', JSON.stringify(report));
      assert.ok(report.mos > 1, JSON.stringify(report));
    }

    test('finds the straight way by UDP, though there is a TURN server', async (t) => {
      const { network } = await withTurn(t, 'udp');
      goes(await check(t, browser, network), 'udp', false);
    });

    test('finds the way over a TURN server by UDP, where nothing else is let through', async (t) => {
      const { turn, network } = await withTurn(t, 'udp');
      barUdp(t, turn.port);
      goes(await check(t, browser, network), 'udp', true);
      assert.match(turn.users.at(-1), /^\d+:alice$/);
    });

    test('finds the way over a TURN server by TCP, where no UDP is let through', async (t) => {
      const { turn, network } = await withTurn(t, 'tcp');
      barUdp(t);
      goes(await check(t, browser, network), 'tcp', true);
      assert.match(turn.users.at(-1), /^\d+:alice$/);
    });

    test('finds no way where no UDP is let through and there is no TURN server, and says what helps', async (t) => {
      const network = await started(t);
      barUdp(t);
      const { verdict, microphone, ice, turn, reasons } = await check(t, browser, network);
      assert.deepEqual({ verdict, microphone, ice, turn }, { verdict: 'blocked', microphone: 'ok', ice: 'none', turn: undefined });
      const [{ code, causes, remedies }] = reasons;
      // Who gives up first says why: Firefox does so itself, in Chromium the gateway.
      assert.equal(code, name === 'Firefox' ? 'media-failed' : 'media-lost');
      assert.match(causes.join(' '), /UDP/);
      assert.match(remedies.join(' '), /UDP/);
    });
  });
}

describe('a page by http of another machine, which browsers give no microphone', () => {
  let browser;
  before(async () => { browser = await Chromium.launch({ microphone: speech.caller.file }); });
  after(() => browser?.close());

  async function softphone(t) {
    const network = await started(t);
    assert.match(network.gateway.url, new RegExp(`^http://${GATEWAY}:`));
    const page = await browser.open(network.url('alice'), { name: 'the softphone' });
    t.after(async () => {
      await page.close();
      assert.deepEqual(page.problems, [], 'errors in the page');
    });
    await page.ready();
    return { network, page };
  }

  test('is told so by the check, by its own and by the client’s', async (t) => {
    const { network, page } = await softphone(t);
    await page.click('[data-go="audio"]');
    await page.click('#check');
    await page.shows('#verdict[data-verdict="blocked"]');
    assert.match(await page.text('#verdict'), /^Calls will not work\.[^]*The microphone is out of reach on this page\.[^]*https:/);
    const told = await page.page.evaluate(async (options) => {
      const { Phone } = await import('/ringback.js');
      const { verdict, microphone, reasons } = await Phone.preflight(options);
      return { supported: Phone.supported, verdict, microphone, codes: reasons.map(({ code }) => code) };
    }, { url: network.socket('phone'), token: network.token('alice') });
    assert.deepEqual(told, { supported: 'The microphone is out of reach on this page.', verdict: 'blocked', microphone: 'insecure-page', codes: ['insecure-page'] });
    assert.ok(await page.driver.evaluate(() => document.querySelector('#tel-row').hidden), 'nor can it be set up for links');
  });

  test('calls nobody, and says why', async (t) => {
    const { page } = await softphone(t);
    await page.dial(OUTSIDE);
    const { kind, code, remedies } = await page.outcome();
    assert.deepEqual([kind, code], ['problem', 'insecure-page']);
    assert.match(remedies.join(' '), /https:/);
  });
});
