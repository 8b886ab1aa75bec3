// The real command line client through seqgate.
import assert from "node:assert/strict";
import test from "node:test";
import { Cli } from "./lib/cli.mjs";
import { VERSION, theGateway } from "./lib/gateway.mjs";
import { words } from "./lib/model.mjs";
import { Seqgate } from "./lib/seqgate.mjs";

test(`the CLI of ${VERSION}: health, an agent run, chat history`, { timeout: 600_000 }, async (t) => {
  const gateway = await theGateway();
  const seqgate = await Seqgate.start(t, gateway.http);
  const cli = new Cli(gateway, seqgate.url);

  /** Runs a command, which must succeed, and gives its answer. */
  async function openclaw(...args) {
    const { code, output } = await cli.run(...args, "--json");
    assert.equal(code, 0, output);
    // Words for people may stand before it.
    return JSON.parse(output.replace(/^[^{]*/, ""));
  }

  const health = await openclaw("gateway", "call", "health");
  assert.equal(health.ok, true);
  const run = await openclaw("agent", "--agent", "main", "--message", "hello [[tokens=9]]");
  assert.equal(run.status, "ok");
  assert.equal(run.result.payloads[0].text, words(9));
  const history = await openclaw("gateway", "call", "chat.history", "--params", '{"sessionKey":"agent:main:main"}');
  assert.match(JSON.stringify(history.messages.at(-1)), new RegExp(words(9)));
  const metrics = await seqgate.metrics();
  assert.equal(metrics['seqgate_connections_total{kind="gateway"}'], 3, "each command came through seqgate");
});
