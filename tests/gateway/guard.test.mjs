// The run guard in front of a real gateway: whoever starts too many runs is told so in words that the gateway's own
// clients understand, and nobody else notices. What the gateway has really begun, a client sees that is connected to it
// directly.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import test from "node:test";
import { Client, newDevice, textOf } from "./lib/client.mjs";
import { ControlUi, missing, startBrowser } from "./lib/browser.mjs";
import { Cli } from "./lib/cli.mjs";
import { Gateway, theGateway } from "./lib/gateway.mjs";
import { eventually } from "./lib/house.mjs";
import { words } from "./lib/model.mjs";
import { Seqgate } from "./lib/seqgate.mjs";
import { sameStory } from "./lib/stage.mjs";

const options = { timeout: 600_000 };
const REFUSED = 'seqgate_guard_refused_total{reason="rate"}';
const session = () => `agent:main:${crypto.randomUUID()}`;

/** A gateway with seqgate, a client of it, and one without. */
async function house(t, settings) {
  const gateway = await theGateway();
  const seqgate = await Seqgate.start(t, gateway.http, settings);
  const [client, direct] = [await seqgate.connect({ token: gateway.token }), await gateway.connect()];
  t.after(() => [client, direct].forEach((each) => each.drop()));
  return { gateway, seqgate, client, direct };
}

/** The runs that the gateway has begun, those that begin again as often as they do. */
function begun(watcher) {
  const starts = ({ event, payload }) => event === "agent" && payload.stream === "lifecycle" && payload.data.phase === "start";
  return watcher.events.filter(starts).map(({ payload }) => payload.runId);
}

/** The error with which a request is refused. */
async function refusal(client, method, params) {
  const outcome = await client.request(method, params).catch((thrown) => thrown);
  return outcome.error ?? assert.fail(`${method} was not refused: ${outcome}`);
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

test("a run that was refused runs once when it is tried again in time", options, async (t) => {
  const { client, direct } = await house(t, { "guard-runs-per-minute": 6, "guard-burst": 1 });
  for (const method of ["chat.send", "agent"]) {
    const start = (key) => ({ sessionKey: session(), message: "please [[tokens=3]]", idempotencyKey: key });
    const again = start(crypto.randomUUID());
    await eventually("room for another run", () => client.request(method, start(crypto.randomUUID())));
    const error = await refusal(client, method, again);
    const { retryAfterMs } = error;
    assert.ok(retryAfterMs > 0 && retryAfterMs <= 10_000, `${retryAfterMs}`);
    const message = "too many runs: at most 6 a minute (SEQGATE_GUARD_RUNS_PER_MINUTE)";
    assert.deepEqual(error, { code: "UNAVAILABLE", message, retryable: true, retryAfterMs });
    await wait(retryAfterMs);
    assert.equal((await client.request(method, again)).runId, again.idempotencyKey);
    await client.ending(again.idempotencyKey);
    // The gateway answers from its memory, and the guard does not count again.
    for (let i = 0; i < 10; i++) await client.request(method, again);
    await client.request("health");
    await direct.request("health");
    assert.equal(begun(direct).filter((run) => run === again.idempotencyKey).length, 1);
  }
});

/** Ways in which a run comes to its end; each gives when the client has been told. */
const ENDS = {
  async "a chat"(client) {
    await client.ending(await client.chat(session(), "tokens=3"));
  },
  async "an agent's run"(client) {
    const id = client.post("agent", { sessionKey: session(), message: "please [[tokens=3]]", idempotencyKey: crypto.randomUUID() });
    await client.message("the second answer", (m) => m.id === id && m.payload.status === "ok");
  },
  async "a chat that is aborted"(client) {
    const key = session();
    const run = await client.chat(key, "tokens=5000 rate=20");
    assert.equal((await client.request("chat.abort", { sessionKey: key, runId: run })).aborted, true);
    assert.equal((await client.ending(run)).state, "aborted");
  },
  async "an agent's run that is aborted"(client) {
    const [key, run] = [session(), crypto.randomUUID()];
    const id = client.post("agent", { sessionKey: key, message: "please [[tokens=5000 rate=20]]", idempotencyKey: run });
    await client.message("some text", ({ event, payload }) => event === "agent" && payload.runId === run && payload.stream === "assistant");
    assert.equal((await client.request("chat.abort", { sessionKey: key, runId: run })).aborted, true);
    await client.message("the second answer", (m) => m.id === id && m.payload.status !== "accepted");
  },
  async "a chat that fails"(client) {
    assert.equal((await client.ending(await client.chat(session(), "fail=400"))).state, "error");
  },
  async "an agent's run that fails"(client) {
    const id = client.post("agent", { sessionKey: session(), message: "please [[fail=400]]", idempotencyKey: crypto.randomUUID() });
    await client.message("the second answer", (m) => m.id === id && m.payload.status !== "accepted");
  },
  async "a request that the gateway refuses"(client) {
    await assert.rejects(client.request("chat.send", { idempotencyKey: "x" }));
  },
  async "a session's message without a key"(client) {
    const { key } = await client.request("sessions.create", {});
    const { runId } = await client.request("sessions.send", { key, message: "please [[tokens=3]]" });
    await client.ending(runId);
  },
  async "a session that begins with a message"(client) {
    const { runId } = await client.request("sessions.create", { message: "please [[tokens=3]]" });
    await client.ending(runId);
  },
};

for (const [name, play] of Object.entries(ENDS)) {
  test(`with one live run allowed, there is room for the next behind ${name}`, options, async (t) => {
    const { client } = await house(t, { "guard-max-live-runs": 1 });
    for (let i = 0; i < 2; i++) await play(client);
    const [key, run] = [session(), crypto.randomUUID()];
    await client.request("chat.send", { sessionKey: key, message: "please [[tokens=5000 rate=20]]", idempotencyKey: run });
    const error = await refusal(client, "chat.send", { sessionKey: session(), message: "please", idempotencyKey: "next" });
    assert.match(error.message, /SEQGATE_GUARD_MAX_LIVE_RUNS/);
    await client.request("chat.abort", { sessionKey: key, runId: run });
  });
}

test("no path is a way around", options, async (t) => {
  const { gateway, seqgate, client, direct } = await house(t, { "guard-runs-per-minute": 1 });
  const start = () => ({ sessionKey: session(), message: "please [[tokens=3]]", idempotencyKey: crypto.randomUUID() });
  const first = start();
  await client.request("agent", first);
  for (const path of ["/v1/chat/completions", "/__openclaw__/cap/x/v1/chat/completions"]) {
    const answer = await fetch(`${seqgate.http}${path}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${gateway.token}`, "Content-Type": "application/json" },
      body: JSON.stringify({ model: "openclaw", messages: [{ role: "user", content: "please [[tokens=3]]" }] }),
    });
    assert.equal(answer.status, 429, path);
  }
  // Where nothing else answers on these, the gateway does.
  for (const path of ["/any", "/__openclaw__/any", "/voiceclaw/realtime", "/desktop/any", "/node-desktop/any"]) {
    const other = await Client.connect(seqgate.url + path, { token: gateway.token });
    assert.equal((await refusal(other, "agent", start())).code, "UNAVAILABLE", path);
    other.drop();
  }
  await client.ending(first.idempotencyKey);
  await direct.request("health");
  const ours = begun(direct).filter((run) => run !== first.idempotencyKey);
  assert.deepEqual(ours, []);
});

test("the CLI says that it was refused, and works when there is room", options, async (t) => {
  const { gateway, seqgate, client, direct } = await house(t, { "guard-max-live-runs": 1 });
  const cli = new Cli(gateway, seqgate.url);
  const key = session();
  const run = await client.chat(key, "tokens=5000 rate=20");
  const agent = ["agent", "--agent", "main", "--message", "hello [[tokens=9]]", "--json"];
  const refused = await cli.run(...agent);
  assert.equal(refused.code, 1);
  assert.match(refused.output, /Reason: too many runs at once: at most 1 \(SEQGATE_GUARD_MAX_LIVE_RUNS\)/);
  await client.request("chat.abort", { sessionKey: key, runId: run });
  await client.ending(run);
  const admitted = await cli.run(...agent);
  assert.equal(admitted.code, 0, admitted.output);
  assert.match(admitted.output, new RegExp(words(9)));
  // The guard refuses what the gateway would have begun; nothing else came of it.
  await direct.request("health");
  assert.equal(begun(direct).length, 2);
});

test("the Control UI shows a refusal, keeps its socket, and tries again in time", { ...options, skip: missing }, async (t) => {
  const { gateway, seqgate, client } = await house(t, { "guard-max-live-runs": 1 });
  const ui = await ControlUi.open(await startBrowser(t), seqgate.http, gateway.token);
  await ui.chat("hello [[tokens=60]]", words(60));
  const { length } = ui.sockets;
  const key = session();
  const run = await eventually("room for a run", () => client.chat(key, "tokens=5000 rate=20"));
  await ui.say("again [[tokens=61]]");
  await eventually("the refusal", async () => /asked us to retry this message/.test(await ui.text()));
  await ui.screenshot("control-ui-refusal.png");
  await client.request("chat.abort", { sessionKey: key, runId: run });
  // By itself, when the time has come that it was told.
  await eventually("the reply", async () => (await ui.text()).includes(words(61)));
  await ui.chat("once more [[tokens=62]]", words(62));
  assert.deepEqual([ui.sockets.length, ui.ended], [length, 0]);
});

test("an attack leaves the gateway with as many runs as are allowed, and another client alone", options, async (t) => {
  const [PER_MINUTE, BURST, ATTACKS] = [12, 10, 3000];
  const gateway = await Gateway.start({ trustedProxies: ["127.0.0.1"] });
  t.after(() => gateway.close());
  const settings = { "guard-runs-per-minute": PER_MINUTE, "guard-burst": BURST, "trusted-proxies": "127.0.0.1" };
  const seqgate = await Seqgate.start(t, gateway.http, settings);
  // Once paired, a device may come from elsewhere.
  const device = newDevice();
  const direct = await gateway.connect({ device });
  const from = (address) => seqgate.connect({ token: gateway.token, device, headers: { "X-Forwarded-For": address } });
  const attackers = [await from("192.0.2.1"), await from("192.0.2.1")];
  const bystander = await from("192.0.2.2");
  t.after(() => [direct, bystander, ...attackers].forEach((each) => each.drop()));
  const resident = async () => (await seqgate.metrics()).process_resident_memory_bytes;
  const before = await resident();

  const keys = Array.from({ length: ATTACKS }, () => crypto.randomUUID());
  const text = `please [[tokens=3]] ${"x".repeat(4096)}`;
  const attack = (some) =>
    some.map((key, i) => {
      const client = attackers[i % 2];
      const params = { sessionKey: session(), message: text, idempotencyKey: key };
      return { key, client, id: client.post(i % 4 < 2 ? "chat.send" : "agent", params) };
    });
  const began = performance.now();
  const sent = attack(keys.slice(0, ATTACKS / 2));
  const run = await bystander.chat(session(), "tokens=200 rate=40");
  await bystander.message("some text", ({ event, payload }) => event === "agent" && payload.runId === run && payload.stream === "assistant");
  sent.push(...attack(keys.slice(ATTACKS / 2)));

  const answers = new Map(attackers.map((client) => [client, new Map()]));
  const allAnswered = () => {
    for (const client of attackers) {
      const byId = Map.groupBy(client.messages.filter(({ type }) => type === "res"), ({ id }) => id);
      answers.set(client, byId);
    }
    return sent.every(({ client, id }) => answers.get(client).has(id));
  };
  await eventually("an answer to each request", allAnswered);
  const minutes = (performance.now() - began) / 60_000;
  const first = ({ client, id }) => answers.get(client).get(id)[0];
  const admitted = sent.filter((request) => first(request).ok).map(({ key }) => key);
  const most = BURST + Math.floor(minutes * PER_MINUTE);
  assert.ok(admitted.length >= BURST && admitted.length <= most, `${admitted.length} instead of ${most}`);

  assert.equal(textOf(await bystander.ending(run)), words(200));
  await sameStory(bystander, direct, run);
  await eventually("the end of what was admitted", () => admitted.every((key) => ends(direct).has(key)));
  await direct.request("health");
  assert.deepEqual(begun(direct).toSorted(), [run, ...admitted].toSorted());

  allAnswered();
  for (const request of sent.filter((request) => !first(request).ok)) {
    assert.equal(answers.get(request.client).get(request.id).length, 1, request.id);
    const { code, retryable, retryAfterMs } = first(request).error;
    assert.deepEqual([code, retryable, retryAfterMs > 0], ["UNAVAILABLE", true, true]);
  }
  const metrics = await seqgate.metrics();
  assert.equal(metrics[REFUSED], ATTACKS - admitted.length);
  assert.equal(metrics.seqgate_guard_admitted_total, admitted.length + 1);
  assert.ok([bystander, ...attackers].every(({ closed }) => !closed));
  // All that was refused is three times as much.
  const grown = (await resident()) - before;
  t.diagnostic(`${admitted.length} runs of ${ATTACKS} in ${(minutes * 60).toFixed(1)} s; seqgate grew by ${grown / 1024} KiB`);
  assert.ok(grown < 4 << 20, `${grown} bytes`);
});

/** The runs that have ended. */
function ends(watcher) {
  const last = ({ event, payload }) => event === "agent" && payload.stream === "lifecycle" && ["end", "error"].includes(payload.data.phase);
  return new Set(watcher.events.filter(last).map(({ payload }) => payload.runId));
}
