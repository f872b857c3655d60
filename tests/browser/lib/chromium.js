/** Chromium, driven over its debugging protocol; its microphone plays a file. */

import { chromium } from 'playwright-core';
import { instrument } from './in-page.js';
import { Softphone } from './softphone.js';

const EXECUTABLE = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
const QUIET = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
// Firefox's sound server is not for it where milliseconds are measured: Chromium's own clock stands for a loudspeaker then, in steps
// of 10 ms; the server's device that is nowhere takes larger ones, and all that is heard is some 14 ms later. They carry it over
// the moments in which a machine stands still, though.
const ENVIRONMENT = process.env.RINGBACK_FULL ? { ...process.env, PULSE_SERVER: 'unix:/nowhere' } : process.env;
const MEDIA = ['--use-fake-device-for-media-stream', '--autoplay-policy=no-user-gesture-required', '--allow-loopback-in-peer-connection'];
const VIEWPORT = { width: 1180, height: 860 };

export class Chromium {
  /**
   * `trust`: a certificate that it takes though nobody known has signed it, and no other. `profile`: a folder, where it shall
   * do what browsers do not do in private windows; all its pages are of that one profile then.
   */
  static async launch({ microphone, trust, profile }) {
    const browser = new Chromium();
    const trusting = trust ? [`--ignore-certificate-errors-spki-list=${trust.fingerprint}`] : [];
    const options = { executablePath: EXECUTABLE, env: ENVIRONMENT, args: [...QUIET, ...MEDIA, ...trusting, `--use-file-for-fake-audio-capture=${microphone}`] };
    browser.kept = profile && await chromium.launchPersistentContext(profile, { ...options, viewport: VIEWPORT });
    browser.browser = browser.kept ?? await chromium.launch(options);
    await browser.#warmUp();
    return browser;
  }

  /** The first sound of a browser starts its audio service, which takes a second where the machine is busy. */
  async #warmUp() {
    const page = await this.browser.newPage();
    await page.evaluate(async () => {
      const context = new AudioContext();
      new ConstantSourceNode(context, { offset: 0 }).connect(context.destination);
      await context.resume();
      while (context.currentTime === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    });
    await page.close();
  }

  /** A page in a profile of its own. `microphone: false` refuses it; `before` runs in the page before its own scripts. */
  async open(url, { name = 'the page', microphone = true, before, ...context } = {}) {
    const profile = this.kept ?? await this.browser.newContext({ viewport: VIEWPORT, ...context });
    await profile.grantPermissions(microphone ? ['microphone'] : []); // what is not granted is denied
    const page = await profile.newPage();
    const problems = [];
    page.on('pageerror', (error) => problems.push(String(error)));
    page.on('console', (message) => { if (/Content Security Policy/.test(message.text())) problems.push(message.text()); });
    await page.addInitScript(instrument);
    if (before) await page.addInitScript(before);
    await page.goto(url);
    const softphone = new Softphone({
      evaluate: (fn, ...args) => page.evaluate(`(${fn})(...${JSON.stringify(args)})`),
      fill: (selector, text) => page.fill(selector, text),
      press: (key) => page.keyboard.press(key),
      click: (selector) => page.click(selector),
      screenshot: (file) => page.screenshot({ path: file }),
      close: () => (this.kept ? page : profile).close(),
    }, name);
    softphone.page = page;
    softphone.problems = problems;
    return softphone;
  }

  close() { return this.browser.close(); }
}
