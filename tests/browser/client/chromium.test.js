/** The client in Chromium: all of its API, in a page of another origin with a strict policy. */

import { after, before, describe, test } from 'node:test';
import { Chromium } from '../lib/chromium.js';
import { speech } from '../lib/stage.js';
import * as cases from './cases.js';
import { ClientNetwork } from './network.js';
import { Pages } from './pages.js';

let chromium;
let pages;
let network;
before(async () => {
  chromium = await Chromium.launch({ microphone: speech.caller.file });
  pages = await Pages.start();
  network = await ClientNetwork.start({ origin: pages.origin });
});
after(async () => {
  await chromium?.close();
  pages?.close();
  await network?.end();
});

const holds = (what, run) => test(what, (t) => run(cases.opener(t, () => chromium, () => pages, () => network), network, t));

describe('the client in Chromium', () => {
  holds('calls out: what is heard, told and measured', cases.outbound);
  holds('is called', cases.inbound);
  holds('declines', cases.declined);
  holds('ignores what rings on elsewhere', cases.ignored);
  holds('mutes and holds', cases.muteAndHold);
  holds('sends digits with pauses', cases.digits);
  holds('is refused, and told why', cases.refused);
  holds('is busy while it talks', cases.whileBusy);
  holds('transfers to a number', cases.blindTransfer);
  holds('chooses devices', cases.devices);
  holds('asks what would become of a number', cases.check);
  holds('renews its token', cases.renewal);
  holds('outlives its socket', cases.lostSocket);
  holds('outlives its page', cases.reload);
  holds('ends with its page, where no other comes', cases.closed);
  holds('finds another path for its sound', cases.iceRestart);
});
