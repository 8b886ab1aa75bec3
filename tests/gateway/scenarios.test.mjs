// A driver plays what clients do, through seqgate, while one more client watches through it and one directly.
//
// What is compared exactly: every frame of every client of seqgate with what the gateway sent on that very connection,
// byte for byte; and the story of each run, its `agent` and `chat` events, between the two watchers. Answers,
// challenges, ticks and the outer seq are of one connection only, and the `tool` stream goes to the client that began
// the run: those are in the first comparison alone.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import test from "node:test";
import { textOf } from "./lib/client.mjs";
import { eventually } from "./lib/house.mjs";
import { OLD } from "./lib/gateway.mjs";
import { words } from "./lib/model.mjs";
import { Stage, sameBytes, sameStory, story } from "./lib/stage.mjs";

/** A test in which `play({ runner, watcher, direct, session, stage })` gives the ids of the runs that it has played. */
function scenario(name, play) {
  test(name, { timeout: 400_000 }, async (t) => {
    const stage = await Stage.set(t);
    const [runner, watcher, direct] = [await stage.through(), await stage.through(), await stage.direct()];
    const runs = await play({ runner, watcher, direct, stage, session: `agent:main:${crypto.randomUUID()}` });
    for (const run of runs) {
      assert.ok(story(direct, run).length > 0, "the direct client has seen the run");
      await sameStory(watcher, direct, run);
    }
    stage.clients.forEach(sameBytes);
    const counted = await stage.counted(() => stage.clients.reduce((sum, { messages }) => sum + messages.length, 0));
    const others = Object.keys(counted).filter((reason) => !reason.startsWith("forwarded"));
    assert.deepEqual(others, [], "the gateway sent each event once, and nothing is dropped");
  });
}

scenario("a run", async ({ runner, session }) => {
  const run = await runner.chat(session, "tokens=20 rate=50");
  assert.equal(textOf(await runner.ending(run)), words(20));
  return [run];
});

scenario("a run with tool calls", async ({ runner, session }) => {
  await runner.request("sessions.patch", { key: session, verboseLevel: "on" });
  const run = await runner.chat(session, "tokens=20 rate=100 tools=2");
  assert.equal(textOf(await runner.ending(run)), words(20));
  const phases = runner.run("agent", run).filter(({ stream }) => stream === "tool").map(({ data }) => data.phase);
  assert.equal(phases.filter((phase) => phase === "start").length, 2);
  assert.equal(phases.filter((phase) => phase === "result").length, 2);
  return [run];
});

scenario("two clients that watch a run, beside its owner", async ({ runner, watcher, stage, session }) => {
  const second = await stage.through();
  const run = await runner.chat(session, "tokens=200 rate=100");
  await Promise.all([runner, watcher, second].map((client) => client.ending(run)));
  await sameStory(watcher, second, run);
  // Without tools, the owner is told what everybody is told.
  await sameStory(runner, second, run);
  return [run];
});

scenario("two runs at once", async ({ runner, watcher, session }) => {
  const runs = await Promise.all([
    runner.chat(session, "tokens=60 rate=50"),
    watcher.chat(`${session}-2`, "tokens=60 rate=50"),
  ]);
  await Promise.all(runs.map((run) => runner.ending(run)));
  return runs;
});

scenario("a run that is aborted", async ({ runner, session }) => {
  const run = await runner.chat(session, "tokens=5000 rate=50");
  await runner.message("some text", speaks(run));
  const { aborted } = await runner.request("chat.abort", { sessionKey: session, runId: run });
  assert.equal(aborted, true);
  assert.equal((await runner.ending(run)).state, "aborted");
  return [run];
});

scenario("a provider that fails, and the one to fall back to", async ({ runner, session }) => {
  // A kind of failure that is not waited out.
  const run = await runner.chat(session, `tokens=20 rate=100 refuse=${OLD ? 401 : 400}`);
  // The old gateway ends the chat with the first failure.
  await runner.message("the second one's reply", (message) => speaks(run)(message) && message.payload.data.text === words(20));
  const starts = runner.run("agent", run).filter(({ data }) => data.phase === "start");
  assert.ok(starts.length > 1, "both have been tried");
  return [run];
});

scenario("a run id that is used again", async ({ runner, stage, session }) => {
  const run = await runner.chat(session, "tokens=20 rate=100");
  await runner.ending(run);
  const before = runner.run("agent", run).length;
  // In another session: within one, the gateway refuses.
  await runner.request("agent", { sessionKey: `${session}-2`, message: "again [[tokens=20 rate=100]]", idempotencyKey: run });
  const answers = ({ type, id, payload }) => type === "res" && id.startsWith("agent ") && payload.status !== "accepted";
  assert.equal((await runner.message("the second end", answers)).payload.status, "ok");
  const seqs = runner.run("agent", run).slice(before).map(({ seq }) => seq);
  assert.ok(seqs.length > 2, "the run has begun again");
  // The old gateway never forgets a run, and goes on where it was.
  if (!OLD) assert.equal(seqs[0], 1);
  const restarted = async () => (await stage.seqgate.metrics()).seqgate_runs_restarted_total > 0;
  if (!OLD) await eventually("seqgate to count the restart", restarted);
  return [run];
});

scenario("a client that comes back in the middle of a run", async ({ runner, direct, stage, session }) => {
  const run = await runner.chat(session, "tokens=400 rate=80");
  const first = await runner.message("some text", speaks(run));
  runner.drop();
  const again = await stage.through();
  const seen = direct.run("agent", run).length;
  assert.equal(textOf(await again.ending(run)), words(400));
  const { messages } = await again.request("chat.history", { sessionKey: session, limit: 20 });
  assert.ok(textOf({ message: messages.at(-1) }).includes(words(400)));
  assert.ok(first.payload.seq < again.run("agent", run)[0].seq && seen > 0);
  // From where it came in, it has seen what the direct client has.
  await sameStory(again, direct, run, (client, id) => {
    const from = story(again, id)[0];
    const whole = story(client, id);
    return whole.slice(whole.indexOf(from));
  });
  return [run];
});

scenario("a stream of 2000 tokens", async ({ runner, session }) => {
  const run = await runner.chat(session, "tokens=2000 rate=200");
  assert.equal(textOf(await runner.ending(run)), words(2000));
  return [run];
});

/** Is a message the run's text, or part of it? */
function speaks(run) {
  return ({ event, payload }) => event === "agent" && payload.runId === run && payload.stream === "assistant";
}
