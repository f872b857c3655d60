/** The examples of docs/sip-over-websocket.md, word for word but for the gateway's address: each makes a call that is heard. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { Chromium } from '../lib/chromium.js';
import { hears, stage } from '../lib/stage.js';
import { OpenNetwork } from './network.js';
import { Pages } from './pages.js';

const GUIDE = readFileSync(new URL('../../../docs/sip-over-websocket.md', import.meta.url), 'utf8');
/** What brings each library to a page. */
const LIBRARIES = {
  'JsSIP': { imports: "import JsSIP from 'jssip';" },
  'SIP.js': { imports: "import * as SIP from 'sip.js';" },
  'sipML5': { imports: 'const { SIPml } = globalThis;', before: ['/sipml.js'] },
};

const scene = stage(Chromium, Pages, OpenNetwork);

describe('the examples for foreign libraries', () => {
  for (const [library, { imports, before: scripts }] of Object.entries(LIBRARIES)) {
    test(library, async (t) => {
      const [, example] = new RegExp(`^## ${library.replace('.', '\\.')}\n\n\`\`\`js\n([^]*?)^\`\`\`$`, 'm').exec(GUIDE);
      const { socket, token } = scene.network.account('alice', { bearer: true });
      const name = `example-${library.replace('.', '')}`;
      scene.pages.put(name, `${imports}
        globalThis.example = async (token, audio) => {
          ${example.replaceAll('wss://gateway.example/sip', socket)}
        };`, scripts);
      const page = await scene.browser.open(scene.pages.url(name), { name: library });
      t.after(async () => {
        await page.page.goto('about:blank');
        await page.close();
        assert.deepEqual(page.problems, [], 'errors in the page');
      });
      const { sipp, rtp } = await scene.network.callee(t, 'callee-hangs-up');
      await page.driver.evaluate((bearer) => globalThis.example(bearer, document.querySelector('audio')), token);
      await Promise.all([hears(rtp, 'caller', 'the phone'), hears(page, 'callee', library)]);
      await sipp.hangUp();
      await sipp.done();
    });
  }
});
