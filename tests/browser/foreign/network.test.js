/**
 * The page's network changes in mid-call. To be started in a network namespace of its own, as tests/browser/run does: this
 * machine's network is left alone.
 */

import { after, before, describe, test } from 'node:test';
import { Chromium } from '../lib/chromium.js';
import { Firefox } from '../lib/firefox.js';
import { Namespace } from '../lib/namespace.js';
import { Sipp } from '../lib/sipp.js';
import { OUT, speech } from '../lib/stage.js';
import * as cases from './cases.js';
import { OpenNetwork } from './network.js';
import { Pages } from './pages.js';
import { networkChange } from './survival.js';

const GATEWAY = '10.77.0.1';

class FarNetwork extends OpenNetwork {
  async echo(t) {
    const sipp = await Sipp.start({ scenario: 'callee-echo', port: this.sippPort, out: OUT, within: this.namespace, args: ['-rtp_echo', '-mi', '127.0.0.1'] });
    t.after(() => sipp.end());
    return sipp;
  }
}

let pages;
let far;
let network;
before(async () => {
  far = await Namespace.make(GATEWAY);
  far.cable('cable-1', 1);
  far.cable('cable-2', 2);
  pages = await Pages.start();
  network = await FarNetwork.start({ origin: pages.origin, within: far });
});
after(async () => {
  pages?.close();
  await network?.end();
  await far?.end();
});

const CHANGES = {
  'another network': () => {
    far.unplug('cable-1');
    far.plug('cable-2', 2);
  },
  'another address': () => {
    far.unplug('cable-1');
    far.plug('cable-1', 1, 3);
  },
};

for (const [name, launch] of [['Chromium', () => Chromium.launch({ microphone: speech.caller.file })], ['Firefox', () => Firefox.launch({ microphone: speech.caller.file })]]) {
  describe(`${name}, whose network changes`, () => {
    let browser;
    before(async () => {
      far.plug('cable-1', 1);
      browser = await launch();
    });
    after(() => browser?.close());
    for (const [what, change] of Object.entries(CHANGES)) {
      test(`to ${what}`, async (t) => {
        far.unplug('cable-1');
        far.unplug('cable-2');
        far.plug('cable-1', 1);
        await networkChange(cases.opener(t, { browser, pages, network }, 'ringback'), network, t, change);
      });
    }
  });
}
