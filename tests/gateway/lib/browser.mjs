// The Control UI in headless Chromium, and what goes wrong in it.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { eventually } from "./house.mjs";

/** A word why there can be no browser. */
export const missing = !process.env.CHROMIUM && "there is no chromium here, and it could not be installed";

const ARTIFACTS = path.join(process.env.CARGO_TARGET_DIR ?? "target", "gateway-tests");

export async function startBrowser(t) {
  const { chromium } = await import(process.env.PLAYWRIGHT);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    // Root has no sandbox; nothing is to be asked of the network.
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  t.after(() => browser.close());
  return browser;
}

export class ControlUi {
  /** Addresses of the WebSockets that it has opened, and how many have ended. */
  sockets = [];
  ended = 0;
  /** Of its console. */
  errors = [];

  /** Opens it as a user does who has never been there, with the token in the link. */
  static async open(browser, address, token) {
    const ui = new ControlUi();
    const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
    ui.page = await context.newPage();
    ui.page.on("websocket", (socket) => {
      ui.sockets.push(socket.url());
      socket.on("close", () => ui.ended++);
    });
    ui.page.on("console", (message) => {
      if (message.type() === "error") ui.errors.push(`${message.text()} ${message.location().url}`.replaceAll(address, ""));
    });
    ui.page.on("pageerror", (error) => ui.errors.push(error.message));
    await ui.page.goto(`${address}/#token=${token}`, { waitUntil: "domcontentloaded" });
    return ui;
  }

  /** Sends a chat message, as soon as that is possible. A page that is still being put together may lose what is typed. */
  async say(message) {
    const box = this.page.locator("textarea:visible:enabled").first();
    await box.waitFor({ timeout: 120_000 });
    for (let tries = 0; tries < 5; tries++) {
      await box.fill(message);
      await box.press("Enter");
      for (let looks = 0; looks < 50; looks++) {
        if ((await this.text()).includes(message)) return;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
    assert.fail(`${message} could not be sent`);
  }

  /** Sends a chat message and waits for the reply's last words. */
  async chat(message, reply) {
    await this.say(message);
    await eventually(`the whole reply to ${message}`, async () => (await this.text()).includes(reply));
  }

  /** All that is to be read, shadow roots included. */
  text() {
    return this.page.evaluate(() => {
      const words = (node) => {
        if (node.nodeType === Node.TEXT_NODE) return [node.textContent];
        return [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes].flatMap(words);
      };
      return words(document.body).join(" ").replace(/\s+/g, " ");
    });
  }

  async screenshot(name) {
    fs.mkdirSync(ARTIFACTS, { recursive: true });
    await this.page.screenshot({ path: path.join(ARTIFACTS, name) });
  }
}
