/** The page as it looks: in each shape and scheme a screenshot is kept, what axe-core finds, and what is out of view. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { OUT } from './stage.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SHAPES = { wide: { width: 1280, height: 860 }, short: { width: 860, height: 360 }, narrow: { width: 390, height: 844 } };
const SCHEMES = ['light', 'dark'];

/**
 * Looks at a state of the page (Chromium's; without motion, as colours are judged at rest) in every shape and scheme.
 * The buttons named in `inView` must be seen whole without scrolling; nothing may be wider than the page. `shown` is what a
 * reader would scroll to.
 */
export async function look(softphone, state, inView = [], shown = null) {
  const { page } = softphone;
  const before = page.viewportSize();
  for (const [shape, size] of Object.entries(SHAPES)) {
    await page.setViewportSize(size);
    if (shown) await page.locator(shown).evaluate((element) => element.scrollIntoView({ block: 'end' }));
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      const name = `${state}-${shape}-${colorScheme}`;
      await page.screenshot({ path: `${OUT}page-${name}.png` });
      // The colours are the same in all shapes.
      if (shape === 'wide' || colorScheme === 'light') assert.deepEqual(await violations(page), [], `${name}: accessible`);
    }
    assert.deepEqual(await page.evaluate(outOfView, inView), [], `${state}-${shape}: in view`);
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(before);
}

/** What axe-core finds against the WCAG and its best practices. */
export async function violations(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() => globalThis.axe.run(document));
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target).join(', ')}`);
}

/** Runs in the page. */
function outOfView(selectors) {
  const hidden = selectors.filter((selector) => {
    const element = document.querySelector(selector);
    if (!element.checkVisibility()) return true;
    const { left, top, right, bottom } = element.getBoundingClientRect();
    const seen = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    return left < 0 || top < 0 || right > innerWidth || bottom > innerHeight || !element.contains(seen);
  });
  if (document.documentElement.scrollWidth > innerWidth) hidden.push('the page is wider than the window');
  if (document.documentElement.scrollHeight > innerHeight) hidden.push('the page is higher than the window');
  return hidden;
}
