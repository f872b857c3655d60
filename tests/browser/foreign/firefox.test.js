/** JsSIP in Firefox: the core cases. */

import { describe, test } from 'node:test';
import { Firefox } from '../lib/firefox.js';
import { stage } from '../lib/stage.js';
import * as cases from './cases.js';
import { clickToSound } from './latency.js';
import { OpenNetwork } from './network.js';
import { Pages } from './pages.js';
import { reload } from './survival.js';

const scene = stage(Firefox, Pages, OpenNetwork);

describe('jssip in Firefox', () => {
  const holds = (what, run, options) => test(what, (t) => run(cases.opener(t, scene, 'jssip'), scene.network, t, options));
  holds('calls out, heard at both ends', cases.outbound);
  holds('is called, heard at both ends', cases.inbound);
  holds('sends digits by INFO', cases.digits, { how: 'info' });
  holds('holds', cases.hold);
  holds('hears early media', cases.earlyMedia);
  holds('is refused', cases.refused);
  holds('transfers', cases.transfer);
});

test('from the click to the first sound in Firefox, beside JsSIP', (t) => clickToSound(t, scene, { bar: 150, ratio: 2.5 }));

test('a call in Firefox outlives a reload of its page', (t) => reload(cases.opener(t, scene, 'ringback'), scene.network, t));
