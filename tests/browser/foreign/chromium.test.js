/** Other people's web phones in Chromium, unmodified as they come from npm: SIP over WebSocket (RFC 7118). */

import { after, before, describe, test } from 'node:test';
import { Chromium } from '../lib/chromium.js';
import { OUTSIDE, speech } from '../lib/stage.js';
import * as cases from './cases.js';
import { clickToSound, phoneAtOnce } from './latency.js';
import { OpenNetwork, uri } from './network.js';
import { Pages } from './pages.js';
import { reload } from './survival.js';

let chromium;
let pages;
let network;
before(async () => {
  chromium = await Chromium.launch({ microphone: speech.caller.file });
  pages = await Pages.start();
  network = await OpenNetwork.start({ origin: pages.origin });
});
after(async () => {
  await chromium?.close();
  pages?.close();
  await network?.end();
});

function library(name, body) {
  const registering = (t) => cases.opener(t, () => chromium, () => pages, () => network, name);
  const holds = (what, run, options) => test(what, (t) => run(registering(t), network, t, options));
  describe(`${name} in Chromium`, () => {
    holds('calls out, heard at both ends', cases.outbound);
    holds('is called, heard at both ends', cases.inbound);
    holds('is hung up by the phone', cases.hungUpByPhone);
    holds('declines', cases.declined);
    holds('is refused', cases.refused);
    holds('gives up while it rings', cases.cancelled);
    holds('hears early media', cases.earlyMedia);
    holds('sends digits by INFO', cases.digits, { how: 'info' });
    holds('transfers', cases.transfer);
    test('may not register with a wrong password', (t) => cases.wrongPassword(t, () => chromium, () => pages, () => network, name));
    body?.(holds);
  });
}

library('jssip', (holds) => {
  holds('holds', cases.hold);
  holds('calls out with a session token', cases.outbound, { bearer: true });
  holds('sends digits by RFC 4733', cases.digits, { how: 'rfc4733' });
  holds('transfers with consultation', cases.attendedTransfer);
  holds('rings with all of a user’s registrations', cases.twoRing);
  holds('is left in a call', cases.left);
});

library('sipjs', (holds) => {
  holds('holds', cases.hold);
  holds('calls out with a session token', cases.outbound, { bearer: true });
  holds('sends digits by RFC 4733', cases.digits, { how: 'rfc4733' });
  holds('transfers with consultation', cases.attendedTransfer);
});

library('sipml5');

describe('From the click to the first sound in Chromium', () => {
  for (const [name, target, bar] of [['ringback', OUTSIDE, 60], ['jssip', uri(OUTSIDE)]]) {
    test(name, async (t) => {
      const phone = await cases.opener(t, () => chromium, () => pages, () => network, name)('alice', { bearer: true });
      await phoneAtOnce(t, network);
      await clickToSound(phone, target, bar);
    });
  }
});

test('a call in Chromium outlives a reload of its page', (t) => reload(cases.opener(t, () => chromium, () => pages, () => network, 'ringback'), network, t));
