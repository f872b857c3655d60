/** Firefox, driven over WebDriver BiDi; its microphone is a decoded file, as it has no option for one. */

import { readFileSync } from 'node:fs';
import puppeteer from 'puppeteer-core';
import { instrument, tellViolations } from './in-page.js';
import { Softphone } from './softphone.js';

const EXECUTABLE = process.env.FIREFOX_BIN ?? '/usr/bin/firefox-esr';
const PREFERENCES = {
  'media.navigator.permission.disabled': true,
  'media.navigator.streams.fake': true,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.peerconnection.ice.loopback': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
};

/** What Firefox says of a network that fails, in the same breath as errors of a page's script. */
const BROWSERS_OWN = /^WebRTC: ICE failed/;

export class Firefox {
  static async launch({ microphone }) {
    const firefox = new Firefox();
    firefox.speech = readFileSync(microphone).toString('base64');
    firefox.browser = await puppeteer.launch({ browser: 'firefox', executablePath: EXECUTABLE, headless: true, extraPrefsFirefox: PREFERENCES });
    return firefox;
  }

  async open(url, { name = 'the page' } = {}) {
    const page = await this.browser.newPage();
    const problems = [];
    page.on('pageerror', (error) => { if (!BROWSERS_OWN.test(error.message)) problems.push(String(error)); });
    page.on('console', (message) => { if (/Content Security Policy/.test(message.text())) problems.push(message.text()); });
    await page.evaluateOnNewDocument(instrument, this.speech);
    await page.evaluateOnNewDocument(tellViolations);
    await page.goto(url);
    const softphone = new Softphone({
      evaluate: (fn, ...args) => page.evaluate(`(${fn})(...${JSON.stringify(args)})`),
      fill: async (selector, text) => {
        await page.click(selector, { count: 3 });
        await page.keyboard.press('Backspace');
        await page.type(selector, text);
      },
      press: (key) => page.keyboard.press(key),
      click: (selector) => page.click(selector),
      screenshot: (file) => page.screenshot({ path: file }),
      close: () => page.close(),
    }, name);
    softphone.page = page;
    softphone.problems = problems;
    return softphone;
  }

  close() { return this.browser.close(); }
}
