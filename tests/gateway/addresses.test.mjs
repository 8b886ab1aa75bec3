// Whom the gateway takes for local, through seqgate. Releases before 2026.9 judge by other headers.
import assert from "node:assert/strict";
import test from "node:test";
import { Client, newDevice } from "./lib/client.mjs";
import { Gateway, theGateway } from "./lib/gateway.mjs";
import { eventually } from "./lib/house.mjs";
import { Namespace } from "./lib/netns.mjs";
import { Seqgate } from "./lib/seqgate.mjs";

/** Ways to claim to be local. */
const FORGERIES = [
  {},
  { "X-Forwarded-For": "127.0.0.1" },
  { "x-forwarded-for": "::1", "X-Forwarded-For": "127.0.0.1, 127.0.0.1" },
  { X_Forwarded_For: "127.0.0.1", "X-Real-IP": "127.0.0.1" },
  { Forwarded: "for=127.0.0.1;host=localhost;proto=https", "X-Forwarded-Host": "localhost" },
  { "Tailscale-User-Login": "root@example.com", "X-Forwarded-Proto": "https" },
  { Connection: "Upgrade, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host", "X-Forwarded-For": "127.0.0.1" },
  { Host: "localhost", "X-Forwarded-For": "127.0.0.1" },
];

/** What becomes of a handshake: the gateway's answer to it, or to the upgrade if that was refused. */
async function attempt(url, options) {
  const client = new Client(url, { ...options, device: options.device ?? newDevice() });
  const error = await client.handshake().then(
    () => null,
    (thrown) => thrown.error?.code ?? "refused",
  );
  if (error === "refused") await eventually("the end of the refusal", () => client.closed);
  const { head, body, hello, device } = client;
  client.drop();
  return { error, auth: hello?.auth, device: device.id, refusal: error === "refused" ? head + body : null };
}

/** A gateway with seqgate on all addresses, and a way to seqgate from another network. */
async function houseWithStreet(t, gateway) {
  const seqgate = await Seqgate.start(t, gateway.http, { listen: "0.0.0.0:0" });
  const port = seqgate.listen.split(":").at(-1);
  const namespace = await Namespace.make(t);
  if (!namespace) return t.skip("network namespaces are not permitted here: no remote client");
  const address = `${namespace.here}:${port}`;
  return { url: `ws://${address}`, peer: namespace.there, door: await namespace.door(t, address) };
}

test("a loopback client is local, as it is directly", { timeout: 400_000 }, async (t) => {
  const gateway = await theGateway();
  const seqgate = await Seqgate.start(t, gateway.http);
  const admin = await gateway.connect();
  t.after(() => admin.drop());
  for (const headers of [{}, { "X-Forwarded-For": "127.0.0.1" }]) {
    const answers = [];
    for (const url of [gateway.url, seqgate.url]) answers.push(await attempt(url, { token: gateway.token, headers }));
    const { paired } = await admin.request("device.pair.list");
    const told = answers.map(({ error, auth, refusal, device }) => ({
      error,
      refusal,
      scopes: auth?.scopes,
      approved: paired.find(({ deviceId }) => deviceId === device)?.approvedVia,
    }));
    assert.deepEqual(told[1], told[0]);
    // With a forged header the gateway refuses its own neighbours.
    assert.equal(told[0].approved, Object.keys(headers).length ? undefined : "silent");
  }
});

test("a remote client has to be paired, whatever it says about itself", { timeout: 400_000 }, async (t) => {
  const gateway = await Gateway.start({ trustedProxies: ["127.0.0.1"] });
  t.after(() => gateway.close());
  const street = await houseWithStreet(t, gateway);
  if (!street) return;
  const { url, peer, door } = street;
  const admin = await gateway.connect();
  t.after(() => admin.drop());
  for (const headers of FORGERIES) {
    const device = newDevice();
    const remote = { token: gateway.token, door, headers, device };
    assert.equal((await attempt(url, remote)).error, "NOT_PAIRED", JSON.stringify(headers));
    const { pending, paired } = await admin.request("device.pair.list");
    const request = pending.find(({ deviceId }) => deviceId === device.id);
    assert.equal(request.remoteIp, peer, JSON.stringify(headers));
    assert.equal(request.silent, false);
    assert.ok(!paired.some(({ deviceId }) => deviceId === device.id), "no approval by itself");
    await admin.request("device.pair.approve", { requestId: request.requestId });
    assert.equal((await attempt(url, remote)).error, null, "once approved, it gets in");
  }
});

test("without trustedProxies a remote client gets the gateway's own refusal", { timeout: 400_000 }, async (t) => {
  const gateway = await theGateway();
  const street = await houseWithStreet(t, gateway);
  if (!street) return;
  const { url, peer, door } = street;
  const host = new URL(url).host;
  const forwarded = { Host: host, "X-Forwarded-For": peer, "X-Forwarded-Proto": "http", "X-Forwarded-Host": host };
  const direct = await attempt(gateway.url, { token: gateway.token, headers: forwarded });
  assert.match(direct.refusal, /^HTTP\/1.1 403 .*proxy_attribution_required/s);
  for (const headers of FORGERIES) {
    const { refusal } = await attempt(url, { token: gateway.token, door, headers });
    assert.equal(refusal, direct.refusal, JSON.stringify(headers));
  }
});
