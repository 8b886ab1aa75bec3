// The gateway's own web page, in a browser, through seqgate.
import assert from "node:assert/strict";
import test from "node:test";
import { ControlUi, missing, startBrowser } from "./lib/browser.mjs";
import { Copies } from "./lib/faults.mjs";
import { theGateway } from "./lib/gateway.mjs";
import { eventually } from "./lib/house.mjs";
import { words } from "./lib/model.mjs";
import { Relay } from "./lib/relay.mjs";
import { Seqgate } from "./lib/seqgate.mjs";

const options = { timeout: 600_000, skip: missing };

/** Chats, and waits for the whole reply, which is longer than all before: the page shows those too. */
let tokens = 60;
function chat(ui) {
  tokens++;
  return ui.chat(`hello [[tokens=${tokens} rate=30]]`, words(tokens));
}

test("the Control UI shows what it shows directly", options, async (t) => {
  const gateway = await theGateway();
  const seqgate = await Seqgate.start(t, gateway.http);
  const browser = await startBrowser(t);
  const visits = [];
  for (const address of [gateway.http, seqgate.http]) {
    const ui = await ControlUi.open(browser, address, gateway.token);
    await chat(ui);
    assert.doesNotMatch(await ui.text(), /event gap/i);
    // Before the page is closed, and its socket with it.
    visits.push({ sockets: ui.sockets.length, ended: ui.ended, errors: ui.errors });
    if (address === seqgate.http) await ui.screenshot("control-ui.png");
    await ui.page.close();
  }
  const [direct, through] = visits;
  assert.deepEqual(through.errors.filter((error) => !direct.errors.includes(error)), []);
  assert.deepEqual([through.sockets, through.ended], [direct.sockets, 0]);
});

test("the Control UI notices neither repeats nor that they are dropped", options, async (t) => {
  const gateway = await theGateway();
  const faults = [];
  const relay = await Relay.start(t, gateway.port, () => {
    const fault = new Copies({ own: true, behind: 0 });
    faults.push(fault);
    return (received) => fault.pass(received);
  });
  const seqgate = await Seqgate.start(t, relay.http);
  const ui = await ControlUi.open(await startBrowser(t), seqgate.http, gateway.token);
  await chat(ui);
  assert.doesNotMatch(await ui.text(), /event gap/i);
  assert.equal(ui.ended, 0);
  assert.equal(ui.sockets.length, faults.length);
  const copies = () => faults.reduce((sum, { done }) => sum + done, 0);
  assert.ok(copies() > 10);
  await eventually("as many drops as copies", async () => (await seqgate.events())["dropped duplicate"] === copies());
  await ui.screenshot("control-ui-repeats.png");
});

test("the Control UI would notice what seqgate prevents", options, async (t) => {
  const gateway = await theGateway();
  // Agent events are lost, and their numbers with them.
  const relay = await Relay.start(t, gateway.port, () => {
    let texts = 0;
    return ({ raw }) => (raw.includes('"event":"agent"') && ++texts % 5 === 0 ? [] : [raw]);
  });
  const ui = await ControlUi.open(await startBrowser(t), relay.http, gateway.token);
  const ended = chat(ui).catch(() => {});
  await eventually("a reconnect", () => ui.ended > 0);
  await ended;
});

test("the Control UI comes back by itself after a restart of seqgate", options, async (t) => {
  const gateway = await theGateway();
  const settings = { "drain-timeout": "1s" };
  const seqgate = await Seqgate.start(t, gateway.http, settings);
  const ui = await ControlUi.open(await startBrowser(t), seqgate.http, gateway.token);
  await chat(ui);
  const before = ui.sockets.length;
  assert.equal(await seqgate.process.stop(), 0);
  await eventually("the socket's end", () => ui.ended === before);
  await Seqgate.start(t, gateway.http, { ...settings, listen: seqgate.listen });
  await eventually("a new socket", () => ui.sockets.length > before);
  await chat(ui);
});
