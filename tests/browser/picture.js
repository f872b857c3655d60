/**
 * Makes docs/softphone.png, the page in a call beside a telephone that rings, and docs/softphone-states.png from what the
 * tests have kept. Not a test; after a change of the page, and after tests/browser/run:
 * RINGBACK_BIN=target/release/ringback node tests/browser/picture.js
 */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Chromium } from './lib/chromium.js';
import { Gateway } from './lib/gateway.js';
import { until } from './lib/processes.js';
import { OUT, speech } from './lib/stage.js';

const file = (name) => fileURLToPath(new URL(`../../docs/${name}.png`, import.meta.url));
const SIZE = { width: 1650, height: 1000 };
const SHARP = { deviceScaleFactor: 1.5 };
/** The last minute's bars should show something. */
const IN_CALL_SECONDS = 24;

const frame = ({ wide, narrow }) => `<!doctype html><style>
  body { margin: 0; height: 100vh; background: linear-gradient(135deg, #c9c9f7, #e8e9fb 45%, #b9bfee); overflow: hidden; }
  img { position: absolute; display: block; }
  .wide { left: 56px; top: 72px; height: 856px; border-radius: 22px; box-shadow: 0 40px 90px -20px rgb(40 44 100 / 45%); }
  .narrow { right: 56px; top: 72px; height: 836px; border: 10px solid #0e111d; border-radius: 44px; background: #0e111d; box-shadow: 0 30px 80px -10px rgb(20 22 60 / 60%); }
</style><img class="wide" src="${wide}"><img class="narrow" src="${narrow}">`;

const STATES = ['call-keypad-narrow-light', 'two-calls-narrow-dark', 'transfer-narrow-light', 'waiting-narrow-dark', 'no-audio-narrow-light', 'ended-narrow-dark'];
const gallery = (states) => `<!doctype html><style>
  body { margin: 0; padding: 34px; display: flex; justify-content: space-between; background: linear-gradient(135deg, #c9c9f7, #e8e9fb 45%, #b9bfee); }
  img { width: 244px; border: 5px solid #0e111d; border-radius: 26px; }
</style>${states.map((state) => `<img src="data:image/png;base64,${readFileSync(`${OUT}page-${state}.png`).toString('base64')}">`).join('')}`;

const png = async (page) => `data:image/png;base64,${(await page.screenshot()).toString('base64')}`;

const gateway = await Gateway.embedded();
const chromium = await Chromium.launch({ microphone: speech.caller.file });
try {
  const caller = await chromium.open(`${gateway.url}?user=ada`, { viewport: { width: 1200, height: 856 }, reducedMotion: 'reduce', ...SHARP });
  const called = await chromium.open(`${gateway.url}?user=grace`, { viewport: { width: 390, height: 836 }, colorScheme: 'dark', reducedMotion: 'reduce', hasTouch: true, isMobile: true, ...SHARP });
  await Promise.all([caller.ready(), called.ready()]);
  await caller.dial('600');
  await caller.inCall();
  const seconds = () => caller.driver.evaluate(() => document.querySelectorAll('#trend rect').length);
  await until(async () => (await seconds()) >= IN_CALL_SECONDS, 'some seconds of a call', 60_000);
  await caller.sounds();
  const wide = await png(caller.page);
  await called.dial('606');
  await called.shows('#incoming', 20_000);
  const narrow = await png(called.page);
  const picture = await chromium.browser.newPage({ viewport: SIZE });
  await picture.setContent(frame({ wide, narrow }));
  await picture.screenshot({ path: file('softphone') });
  await picture.setContent(gallery(STATES));
  await picture.setViewportSize({ width: SIZE.width, height: 10 });
  await picture.screenshot({ path: file('softphone-states'), fullPage: true });
} finally {
  await chromium.close();
  await gateway.end();
}
