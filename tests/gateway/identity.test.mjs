// Whom a gateway with auth.mode "trusted-proxy" takes a client for, through seqgate: the user whom a trusted proxy
// names, and never the one that a client names itself.
import assert from "node:assert/strict";
import http from "node:http";
import test from "node:test";
import { Client, newDevice } from "./lib/client.mjs";
import { Gateway } from "./lib/gateway.mjs";
import { eventually } from "./lib/house.mjs";
import { Namespace } from "./lib/netns.mjs";
import { Seqgate } from "./lib/seqgate.mjs";

/** May connect, and is the only one whom the gateway grants this scope. */
const ALICE = "alice@example.test";
/** May connect. */
const BOB = "bob@example.test";
const SCOPE = "operator.admin";

/** A native client with a user interface: the gateway enrolls its device for a user of a proxy. */
const kind = { id: "openclaw-linux", mode: "ui" };

/** A gateway that takes users from `userHeader`, and seqgate on all addresses in front of it. */
async function house(t, userHeader, settings) {
  const trustedProxy = {
    userHeader,
    requiredHeaders: ["x-forwarded-proto", "x-forwarded-host"],
    allowUsers: [ALICE, BOB],
    allowLoopback: true,
    deviceAutoApprove: { enabled: true, scopes: ["operator.read", "operator.write"] },
  };
  const auth = { mode: "trusted-proxy", identityScopes: { [ALICE]: [SCOPE] }, trustedProxy };
  const gateway = await Gateway.start({ trustedProxies: ["127.0.0.1"], auth });
  t.after(() => gateway.close());
  const namespace = await Namespace.make(t);
  if (!namespace) return t.skip("network namespaces are not permitted here: no remote client");
  const start = async (more) => {
    const seqgate = await Seqgate.start(t, gateway.http, { listen: "0.0.0.0:0", ...settings, ...more });
    const address = `${namespace.here}:${seqgate.listen.split(":").at(-1)}`;
    return { url: `ws://${address}`, http: `http://${address}`, door: await namespace.door(t, address) };
  };
  return { start, peer: namespace.there };
}

/** The scopes that a handshake ends with, or why there are none. */
async function enter({ url, door }, headers) {
  const client = new Client(url, { door, headers, kind, device: newDevice() });
  const refusal = await client.handshake().then(
    () => null,
    (thrown) => thrown.error?.details?.authReason ?? thrown.error?.code ?? "refused",
  );
  if (refusal === "refused") await eventually("the end of the refusal", () => client.closed);
  const scopes = client.hello?.auth?.scopes;
  client.drop();
  return { refusal, scopes };
}

/** The status of a request over HTTP. */
function status({ door, http: url }, headers) {
  const options = { socketPath: door, path: "/v1/models", headers: { Host: new URL(url).host, ...headers } };
  return new Promise((resolve, reject) => {
    http.get(options, (answer) => answer.resume().on("end", () => resolve(answer.statusCode))).on("error", reject);
  });
}

for (const [userHeader, settings] of [
  ["x-forwarded-user", {}],
  ["x-acme-login", { "identity-headers": "X-Acme-*" }],
]) {
  test(`${userHeader} counts from a trusted proxy and from no other client`, { timeout: 400_000 }, async (t) => {
    const made = await house(t, userHeader, settings);
    if (!made) return;
    const { start, peer } = made;
    const chain = { "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "claw.example.test" };
    const spelled = userHeader.replace(/(^|-)[a-z]/g, (letters) => letters.toUpperCase());

    const untrusting = await start({});
    const claims = [
      { [userHeader]: ALICE },
      { [spelled]: ALICE },
      { [spelled.replaceAll("-", "_")]: ALICE },
      { [userHeader]: ALICE, Connection: `Upgrade, ${userHeader}` },
      { ...chain, [userHeader]: ALICE, [spelled]: ALICE },
      { ...chain, [userHeader]: ALICE, "X-OpenClaw-Scopes": SCOPE },
    ];
    for (const headers of claims) {
      const { refusal, scopes } = await enter(untrusting, headers);
      assert.equal(refusal, "trusted_proxy_user_missing", JSON.stringify(headers));
      assert.equal(scopes, undefined);
      const plain = { ...headers, ...(headers.Connection && { Connection: `close, ${userHeader}` }) };
      assert.equal(await status(untrusting, plain), 401, JSON.stringify(plain));
    }

    const trusting = await start({ "trusted-proxies": peer });
    for (const headers of [
      { ...chain, [spelled]: ALICE },
      { ...chain, [userHeader]: ALICE, Connection: `Upgrade, ${userHeader}` },
    ]) {
      const { refusal, scopes } = await enter(trusting, headers);
      assert.equal(refusal, null, JSON.stringify(headers));
      assert.ok(scopes.includes(SCOPE), `as the user whom the proxy names: ${scopes}`);
    }
    const bob = await enter(trusting, { ...chain, [userHeader]: BOB });
    assert.equal(bob.refusal, null);
    assert.ok(!bob.scopes.includes(SCOPE), `${bob.scopes}`);
    const mallory = await enter(trusting, { ...chain, [userHeader]: "mallory@example.test" });
    assert.equal(mallory.refusal, "trusted_proxy_user_not_allowed");
    assert.equal((await enter(trusting, chain)).refusal, "trusted_proxy_user_missing");
  });
}
