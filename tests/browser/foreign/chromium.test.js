/** Other people's web phones in Chromium, unmodified as they come from npm: SIP over WebSocket (RFC 7118). */

import { describe, test } from 'node:test';
import { Chromium } from '../lib/chromium.js';
import { stage } from '../lib/stage.js';
import * as cases from './cases.js';
import { clickToSound } from './latency.js';
import { OpenNetwork } from './network.js';
import { Pages } from './pages.js';
import { reload } from './survival.js';

const scene = stage(Chromium, Pages, OpenNetwork);

function library(name, body) {
  const registering = (t) => cases.opener(t, scene, name);
  const holds = (what, run, options) => test(what, (t) => run(registering(t), scene.network, t, options));
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
    test('may not register with a wrong password', (t) => cases.wrongPassword(t, scene, name));
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

library('sipml5', (holds) => holds('holds', cases.hold));

test('from the click to the first sound in Chromium, beside JsSIP', (t) => clickToSound(t, scene, { bar: 60, ratio: 0.5 }));

test('a call in Chromium outlives a reload of its page', (t) => reload(cases.opener(t, scene, 'ringback'), scene.network, t));
