/**
 * Makes docs/softphone.png, the page in a call beside a telephone that rings, docs/softphone-states.png and
 * docs/softphone-troubles.png from what the tests have kept, and docs/dashboard.png, the operator's page. Not a test; after a
 * change of a page, and after tests/browser/run:
 * RINGBACK_BIN=target/release/ringback node tests/browser/picture.js [softphone] [states] [dashboard]
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

/** What page.test.js and chromium.test.js have kept of each state, a picture for each half of them. */
const STATES = {
  'softphone-states': [
    ['dial', 'light', 'Before a call'], ['number', 'dark', 'What will be dialled'], ['number-refused', 'light', 'A number refused, and why'],
    ['ringing', 'dark', 'It rings'], ['call', 'light', 'In a call'], ['call-keypad', 'dark', 'Keys in a call'],
    ['incoming', 'dark', 'A call comes in'], ['held', 'light', 'On hold'], ['second-number', 'dark', 'A second call'],
    ['two-calls', 'light', 'Two calls'], ['transfer', 'dark', 'Transfer'], ['waiting', 'light', 'A call beside another'],
  ],
  'softphone-troubles': [
    ['quality', 'dark', 'How it sounds'], ['call-details', 'light', 'Both legs measured'], ['no-audio', 'dark', 'No sound, and what helps'],
    ['reconnecting', 'light', 'The network is gone'], ['busy', 'dark', 'Busy, and what to do'], ['no-microphone', 'light', 'No microphone'],
    ['ended', 'light', 'After a call'], ['panel-recents', 'dark', 'Recent calls'], ['panel-try', 'light', 'Numbers to try'],
    ['panel-audio', 'dark', 'Devices'], ['devices-tried', 'light', 'Devices and way tried'], ['call-settings', 'dark', 'Devices in a call'],
  ],
};
const kept = (state, scheme) => readFileSync(`${OUT}page-${state}-narrow-${scheme}.png`).toString('base64');
const gallery = (states) => `<!doctype html><style>
  body { margin: 0; padding: 30px 26px; display: grid; grid-template-columns: repeat(6, 236px); justify-content: space-between; gap: 22px 0; background: linear-gradient(135deg, #c9c9f7, #e8e9fb 45%, #b9bfee); }
  figure { margin: 0; }
  img { display: block; box-sizing: border-box; width: 100%; border: 5px solid #0e111d; border-radius: 26px; }
  figcaption { margin-bottom: 8px; text-align: center; font: 600 17px "Noto Sans", sans-serif; color: #23264f; }
</style>${states.map(([state, scheme, text]) => `<figure><figcaption>${text}</figcaption><img src="data:image/png;base64,${kept(state, scheme)}"></figure>`).join('')}`;

const pair = ({ left, right }) => `<!doctype html><style>
  body { margin: 0; height: 100vh; background: linear-gradient(135deg, #c9c9f7, #e8e9fb 45%, #b9bfee); overflow: hidden; }
  body { display: flex; justify-content: center; align-items: center; gap: 32px; }
  img { height: 920px; border-radius: 18px; box-shadow: 0 40px 90px -20px rgb(40 44 100 / 45%); }
</style><img src="${left}"><img src="${right}">`;

const png = async (page) => `data:image/png;base64,${(await page.screenshot()).toString('base64')}`;

async function softphone(gateway, chromium) {
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
}

async function states(_, chromium) {
  const picture = await chromium.browser.newPage({ viewport: { width: SIZE.width, height: 10 } });
  for (const [name, shown] of Object.entries(STATES)) {
    await picture.setContent(gallery(shown));
    await picture.screenshot({ path: file(name), fullPage: true });
  }
}

/** All calls, and beside them one call. */
async function dashboard(gateway, chromium) {
  const caller = async (user, number) => {
    const page = await chromium.open(`${gateway.url}?user=${user}`);
    await page.ready();
    await page.dial(number);
    return page;
  };
  for (const [user, number] of [['ada', '603'], ['grace', '+442079460958'], ['alan', '603']]) await (await caller(user, number)).outcome();
  const [ada] = await Promise.all([['ada', '600'], ['grace', '601'], ['alan', '604']].map(([user, number]) => caller(user, number)));
  await ada.inCall();
  const id = await ada.callId();
  const shown = async (place, colorScheme, width) => {
    const profile = await chromium.browser.newContext({ viewport: { width, height: 1000 }, reducedMotion: 'reduce', colorScheme, ...SHARP });
    const page = await profile.newPage();
    await page.goto(`${gateway.url}dashboard/${place}`);
    return page;
  };
  const call = await shown(`#/call/${id}`, 'dark', 620);
  await call.waitForSelector('#charts svg[aria-label*="now"]', { timeout: 20_000 });
  const points = () => call.$eval('#charts path[d]', (path) => path.getAttribute('d').split('L').length);
  await until(async () => (await points()) >= IN_CALL_SECONDS, 'some seconds of a call', 60_000);
  const all = await shown('', 'light', 1040);
  await all.waitForSelector('#calls-table tbody tr:nth-child(3)');
  const picture = await chromium.browser.newPage({ viewport: SIZE });
  await picture.setContent(pair({ left: await png(all), right: await png(call) }));
  await picture.screenshot({ path: file('dashboard') });
}

const wanted = process.argv.slice(2);
const gateway = await Gateway.embedded();
const chromium = await Chromium.launch({ microphone: speech.caller.file });
try {
  for (const made of [softphone, states, dashboard]) if (wanted.length === 0 || wanted.includes(made.name)) await made(gateway, chromium);
} finally {
  await chromium.close();
  await gateway.end();
}
