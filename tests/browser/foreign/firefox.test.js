/** JsSIP in Firefox: the core cases. */

import { after, before, describe, test } from 'node:test';
import { Firefox } from '../lib/firefox.js';
import { speech } from '../lib/stage.js';
import * as cases from './cases.js';
import { OpenNetwork } from './network.js';
import { Pages } from './pages.js';

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
