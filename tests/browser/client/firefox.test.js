/** The client in Firefox: a call both ways, and what calls outlive. */

import { after, before, describe, test } from 'node:test';
import { Firefox } from '../lib/firefox.js';
import { speech } from '../lib/stage.js';
import * as cases from './cases.js';
import { ClientNetwork } from './network.js';
import { Pages } from './pages.js';

let firefox;
let pages;
let network;
before(async () => {
  firefox = await Firefox.launch({ microphone: speech.caller.file });
  pages = await Pages.start();
  network = await ClientNetwork.start({ origin: pages.origin });
});
after(async () => {
  await firefox?.close();
  pages?.close();
  await network?.end();
});

const holds = (what, run) => test(what, (t) => run(cases.opener(t, () => firefox, () => pages, () => network), network, t));

describe('the client in Firefox', () => {
  holds('calls out: what is heard, told and measured', cases.outbound);
  holds('is called', cases.inbound);
  holds('outlives its socket', cases.lostSocket);
  holds('outlives its page', cases.reload);
  holds('finds another path for its sound', cases.iceRestart);
});
