/** JsSIP in Firefox: the core cases. */

import { after, before, describe, test } from 'node:test';
import { Firefox } from '../lib/firefox.js';
import { OUTSIDE, speech } from '../lib/stage.js';
import * as cases from './cases.js';
import { clickToSound, phoneAtOnce } from './latency.js';
import { OpenNetwork, uri } from './network.js';
import { Pages } from './pages.js';
import { reload } from './survival.js';

let firefox;
let pages;
let network;
before(async () => {
  firefox = await Firefox.launch({ microphone: speech.caller.file });
  pages = await Pages.start();
  network = await OpenNetwork.start({ origin: pages.origin });
});
after(async () => {
  await firefox?.close();
  pages?.close();
  await network?.end();
});

describe('jssip in Firefox', () => {
  const holds = (what, run, options) => test(what, (t) => run(cases.opener(t, () => firefox, () => pages, () => network, 'jssip'), network, t, options));
  holds('calls out, heard at both ends', cases.outbound);
  holds('is called, heard at both ends', cases.inbound);
  holds('sends digits by INFO', cases.digits, { how: 'info' });
  holds('holds', cases.hold);
  holds('hears early media', cases.earlyMedia);
  holds('is refused', cases.refused);
  holds('transfers', cases.transfer);
});

describe('From the click to the first sound in Firefox', () => {
  for (const [name, target, bar] of [['ringback', OUTSIDE, 150], ['jssip', uri(OUTSIDE)]]) {
    test(name, async (t) => {
      const phone = await cases.opener(t, () => firefox, () => pages, () => network, name)('alice', { bearer: true });
      await phoneAtOnce(t, network);
      await clickToSound(phone, target, bar);
    });
  }
});

test('a call in Firefox outlives a reload of its page', (t) => reload(cases.opener(t, () => firefox, () => pages, () => network, 'ringback'), network, t));
