// A relay between gateway and seqgate repeats, delays and swaps `agent` events. The client must see what the gateway
// sent, once, in order and without a hole, and the metrics must say what the relay did, in exact numbers.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import test from "node:test";
import { Copies, Swaps } from "./lib/faults.mjs";
import { words } from "./lib/model.mjs";
import { Stage } from "./lib/stage.mjs";
import { textOf } from "./lib/client.mjs";
import { OPCODE } from "./lib/wire.mjs";

/** Plays a run in front of two clients, with a fault of its own on each connection. */
async function play(t, makeFault, orders) {
  const faults = [];
  const stage = await Stage.set(t, () => {
    const fault = makeFault();
    faults.push(fault);
    return (received) => fault.pass(received);
  });
  const [runner, watcher] = [await stage.through(), await stage.through()];
  const run = await runner.chat(`agent:main:${crypto.randomUUID()}`, orders);
  const tokens = Number(/tokens=(\d+)/.exec(orders)[1]);
  for (const client of stage.clients) {
    assert.equal(textOf(await client.ending(run)), words(tokens));
    // Its answer stands behind everything that was said before.
    await client.request("health");
  }
  const counted = await stage.counted(() => faults.reduce((sum, { passedOn }) => sum + passedOn, 0));
  const dropped = Object.fromEntries(Object.entries(counted).filter(([reason]) => !reason.startsWith("forwarded")));
  const done = faults.reduce((sum, { done }) => sum + done, 0);
  return { clients: stage.clients, faults, dropped, done };
}

/** The messages that the gateway has sent to a client. */
function sentTo({ relayed }) {
  return relayed.sent.filter(({ opcode }) => opcode === OPCODE.text).map(({ payload }) => JSON.parse(payload));
}

/** As if nothing had happened: the numbers too are those that the gateway gave. */
function unharmed(client) {
  assert.deepEqual(client.messages, sentTo(client).slice(0, client.messages.length));
}

for (const orders of ["tokens=60 rate=40", "tokens=20 rate=50 tools=2"]) {
  for (const own of [false, true]) {
    const number = own ? "with an outer seq of its own" : "with the same outer seq";
    test(`every agent event twice, ${number}: ${orders}`, { timeout: 300_000 }, async (t) => {
      const { clients, dropped, done } = await play(t, () => new Copies({ own, behind: 0 }), orders);
      assert.ok(done > 20);
      assert.deepEqual(dropped, { "dropped duplicate": done });
      clients.forEach(unharmed);
    });
  }
}

for (const own of [false, true]) {
  const number = own ? "with an outer seq of its own" : "with the same outer seq";
  test(`every agent event again 50 events later, ${number}`, { timeout: 300_000 }, async (t) => {
    // More than the 32 fingerprints that seqgate keeps: it knows by the stream's order that they are stale.
    const { clients, dropped, done } = await play(t, () => new Copies({ own, behind: 50 }), "tokens=700 rate=70");
    assert.ok(done > 20);
    assert.deepEqual(dropped, { "dropped out_of_order": done });
    clients.forEach(unharmed);
  });
}

test("events swapped within a stream", { timeout: 300_000 }, async (t) => {
  const { clients, faults, dropped, done } = await play(t, () => new Swaps(), "tokens=300 rate=50");
  assert.ok(done > 10);
  // What was overtaken is stale: its stream has moved on. Nothing else is missing.
  assert.deepEqual(dropped, { "dropped out_of_order": done });
  clients.forEach((client, i) => {
    const stale = new Set(faults[i].overtaken.map(({ payload }) => JSON.stringify(payload)));
    const kept = ({ event, payload }) => event !== "agent" || !stale.has(JSON.stringify(payload));
    const sent = sentTo(client).filter(kept).slice(0, client.messages.length);
    const bare = ({ seq, ...message }) => message;
    for (const isAgent of [true, false]) {
      const those = (messages) => messages.filter(({ event }) => (event === "agent") === isAgent).map(bare);
      assert.deepEqual(those(client.messages), those(sent));
    }
    // Nor has a number gone: the holes are the gateway's own, which the old one leaves.
    assert.equal(holes(client.messages), holes(sentTo(client).slice(0, client.messages.length + stale.size)));
  });
});

/** Numbers that are missing among the outer seqs, which must rise. */
function holes(messages) {
  const seqs = messages.map(({ seq }) => seq).filter((seq) => seq !== undefined);
  seqs.reduce((last, seq) => (assert.ok(seq > last, `${seq} after ${last}`), seq), 0);
  return seqs.at(-1) - seqs[0] + 1 - seqs.length;
}
