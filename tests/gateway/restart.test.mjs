// Either side of seqgate goes and comes back.
import assert from "node:assert/strict";
import test from "node:test";
import { Client } from "./lib/client.mjs";
import { Gateway, theGateway } from "./lib/gateway.mjs";
import { eventually } from "./lib/house.mjs";
import { Seqgate } from "./lib/seqgate.mjs";

test("the gateway stops and starts behind seqgate", { timeout: 600_000 }, async (t) => {
  const gateway = await Gateway.start();
  t.after(() => gateway.close());
  const seqgate = await Seqgate.start(t, gateway.http);
  const [client, direct] = [await seqgate.connect({ token: gateway.token }), await gateway.connect()];
  assert.equal((await seqgate.ready()).status, 200);

  await gateway.process.stop();
  for (const each of [client, direct]) {
    await eventually("the end of the connection", () => each.closed);
    assert.equal(each.closed.code, 1012);
    assert.equal(each.events.at(-1).event, "shutdown");
  }
  assert.deepEqual(client.closed, direct.closed);
  assert.deepEqual(client.events.at(-1).payload, direct.events.at(-1).payload);
  const { status, text } = await eventually("seqgate not to be ready", async () => {
    const ready = await seqgate.ready();
    return ready.status !== 200 && ready;
  });
  assert.equal(status, 503);
  assert.match(text, /gateway/);
  const metrics = await seqgate.metrics();
  assert.equal(metrics['seqgate_closes_total{code="1012",initiator="gateway"}'], 1);
  const refused = new Client(seqgate.url, { token: gateway.token });
  await eventually("an answer", () => refused.head);
  assert.equal(refused.status, 502);

  await gateway.run();
  await eventually("seqgate to be ready", async () => (await seqgate.ready()).status === 200);
  const again = await seqgate.connect({ token: gateway.token });
  assert.equal((await again.request("health")).ok, true);
  again.drop();
});

test("seqgate drains and starts in front of the gateway", { timeout: 600_000 }, async (t) => {
  const gateway = await theGateway();
  const settings = { "drain-timeout": "1s" };
  const seqgate = await Seqgate.start(t, gateway.http, settings);
  const client = await seqgate.connect({ token: gateway.token });
  assert.equal(await seqgate.process.stop(), 0);
  assert.deepEqual(client.closed, { code: 1012, reason: "service restart" });

  const next = await Seqgate.start(t, gateway.http, { ...settings, listen: seqgate.listen });
  const again = await next.connect({ token: gateway.token });
  assert.equal((await again.request("health")).ok, true);
  again.drop();
});
