// The status page as people meet it: small and large, light and dark, with a script and without, by keyboard.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { Child, eventually } from '../gateway/lib/house.mjs';
import { startDemo } from './demo.mjs';

const { chromium } = await import(process.env.PLAYWRIGHT);

/** Bytes that a picture in a README may have. */
const PICTURE = 150_000;

let demo, browser, address;

before(async () => {
  ({ demo, admin: address } = await startDemo());
  // Chromium's own sandbox does not work for root.
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

/** Opens the page, and notes whatever it complains about and whomever it asks. */
async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const complaints = [];
  const hosts = new Set();
  page.on('console', (message) => complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'data:') hosts.add(url.origin);
  });
  await page.goto(address);
  return { page, context, complaints, hosts };
}

const tooWide = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

const number = async (page, tile) => {
  const text = await page.locator('#tiles > div', { hasText: tile }).locator('strong').textContent();
  return Number(text.replaceAll(',', ''));
};

/** The texts whose contrast is below what WCAG AA asks of small text, 4.5 to 1. */
function paleTexts() {
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = channels(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const pale = [];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest('script, noscript')) continue;
    const [a, b] = [channels(getComputedStyle(element).color), ground(element)].map(luminance);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) pale.push(`${element.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return pale;
}

for (const width of [360, 768, 1280]) {
  for (const colorScheme of ['light', 'dark']) {
    test(`${width} px, ${colorScheme}: all fits, can be read, is live, and asks nobody else`, async () => {
      const { page, context, complaints, hosts } = await open({ viewport: { width, height: 800 }, colorScheme });
      await eventually('good news', async () => (await page.getByRole('status').textContent()) === 'All is well.');
      const passed = await number(page, 'Events passed');
      await eventually('more events', async () => (await number(page, 'Events passed')) > passed);
      await eventually('drops', async () => (await page.locator('#drops-table tbody tr').count()) === 16);
      assert.ok(await tooWide(page) <= 0, `${await tooWide(page)} px stick out`);
      assert.deepEqual(await page.evaluate(paleTexts), []);
      const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      assert.equal(dark === 'rgb(20, 23, 26)', colorScheme === 'dark', dark);
      assert.deepEqual(complaints, []);
      assert.deepEqual([...hosts], [new URL(address).origin]);
      await context.close();
    });
  }
}

test('each chart and table has a name, a heading and what it shows in words', async () => {
  const { page, context } = await open();
  for (const name of [/^Events per second, now: passed [\d.]+, dropped/, /^Runs in the maps \(at most 1,024 in each\), now: all \d+/, /^Clients, now: connected 1$/]) {
    assert.equal(await page.getByRole('img', { name }).count(), 1, String(name));
  }
  for (const name of ['Open connections', 'Last drops']) {
    assert.equal(await page.getByRole('region', { name, exact: true }).getByRole('table').count(), 1, name);
    assert.equal(await page.getByRole('heading', { name, exact: true }).count(), 1, name);
  }
  const levels = await page.locator('h1, h2, h3').evaluateAll((all) => all.map((h) => Number(h.tagName[1])));
  assert.equal(levels[0], 1);
  levels.slice(1).forEach((level, i) => assert.ok(level > 1 && level <= levels[i] + 1, String(levels)));
  assert.equal(await page.locator('html').getAttribute('lang'), 'en');
  await context.close();
});

test('the keyboard reaches everything, and pauses the page and lets it go on', async () => {
  const { page, context } = await open();
  const about = page.locator('#about');
  await page.keyboard.press('Tab');
  const pause = page.getByRole('button', { name: 'Pause' });
  assert.ok(await pause.evaluate((button) => button === document.activeElement));
  const outline = await pause.evaluate((button) => getComputedStyle(button).outlineStyle);
  assert.equal(outline, 'solid');
  await page.keyboard.press('Enter');
  assert.equal(await pause.getAttribute('aria-pressed'), 'true');
  // What was asked for before may still come; then nothing does, for longer than an interval.
  await page.waitForLoadState('networkidle');
  const still = await about.textContent();
  await page.waitForTimeout(3000);
  assert.equal(await about.textContent(), still);
  await page.keyboard.press('Enter');
  await eventually('life', async () => (await about.textContent()) !== still);
  const reached = [];
  for (let i = 0; i < 5; i++) {
    await page.keyboard.press('Tab');
    reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent));
  }
  assert.deepEqual(reached, ['connections-table', 'drops-table', 'metrics', 'this page as JSON', 'readiness']);
  await context.close();
});

test('what has not changed is left alone, so a selection survives', async () => {
  const { page, context } = await open();
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector('#outlook h2')));
  const before = await page.locator('#about').textContent();
  await eventually('an update', async () => (await page.locator('#about').textContent()) !== before);
  assert.equal(await page.evaluate(() => String(getSelection()).trim()), 'All is well.');
  await context.close();
});

test('without a script it is a snapshot with all the numbers', async () => {
  const { page, context, complaints } = await open({ javaScriptEnabled: false });
  assert.ok((await number(page, 'Events passed')) > 0);
  assert.equal(await page.locator('svg[role=img]').count(), 3);
  assert.ok(await page.getByText('This is a snapshot. Reload the page for a new one.').isVisible());
  assert.ok(!(await page.locator('#pause').isVisible()));
  assert.deepEqual(complaints, []);
  await context.close();
});

test('the longest limits of the run guard and a gateway that is away fit into 360 px', async () => {
  const flags = ['--upstream=http://127.0.0.1:1', '--listen=127.0.0.1:0', '--admin-listen=127.0.0.1:0', '--log-format=json'];
  const limits = ['--guard-runs-per-minute=1000000', '--guard-max-live-runs=10000', '--guard-max-run-id=65536'];
  const seqgate = new Child('guarded', process.env.TEST_SEQGATE, [...flags, ...limits]);
  try {
    const admin = await eventually('the address', () => /"admin":"([^"]+)"/.exec(seqgate.output())?.[1]);
    const page = await browser.newPage({ viewport: { width: 360, height: 800 } });
    await page.goto(`http://${admin}/`);
    assert.ok(await page.getByText('1,000,000 a minute').isVisible());
    assert.ok(await page.getByText('The gateway does not accept connections.').isVisible());
    assert.ok(await tooWide(page) <= 0, `${await tooWide(page)} px stick out`);
    await page.close();
  } finally {
    await seqgate.stop();
  }
});

test('a picture for the README', { skip: !process.env.TEST_SCREENSHOT }, async () => {
  const { page, context } = await open({ viewport: { width: 1080, height: 790 } });
  const samples = async () => (await (await fetch(`${address}api/status`)).json()).history.samples.length;
  await eventually('a minute of history', async () => (await samples()) >= 28);
  await page.reload();
  const picture = await page.screenshot();
  assert.ok(picture.length <= PICTURE, `${picture.length} bytes`);
  await writeFile(process.env.TEST_SCREENSHOT, picture);
  await context.close();
});

test('when seqgate goes, the page says so and keeps what it had', async () => {
  const { page, context } = await open();
  assert.equal(await demo.stop(), 0, 'the proof of the demo');
  const alert = page.getByRole('alert');
  await eventually('the alert', async () => alert.isVisible());
  assert.match(await alert.textContent(), /^seqgate has not answered since /);
  assert.ok((await number(page, 'Events passed')) > 0);
  await context.close();
});
