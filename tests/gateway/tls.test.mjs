// A gateway with TLS and the certificate that it has made itself: seqgate takes it by its fingerprint, and nobody else.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { textOf } from "./lib/client.mjs";
import { Gateway } from "./lib/gateway.mjs";
import { words } from "./lib/model.mjs";
import { Seqgate } from "./lib/seqgate.mjs";

test("a gateway with a certificate of its own, by its fingerprint", { timeout: 400_000 }, async (t) => {
  const gateway = await Gateway.start({ tls: true });
  t.after(() => gateway.close());
  const folder = path.join(gateway.home, "state/gateway/tls");
  const [cert, key] = ["cert", "key"].map((kind) => path.join(folder, `gateway-${kind}.pem`));
  const pin = new crypto.X509Certificate(fs.readFileSync(cert)).fingerprint256;

  // What the gateway shows, seqgate may show too.
  const listener = { "tls-cert": cert, "tls-key": key };
  for (const settings of [{}, listener]) {
    const seqgate = await Seqgate.start(t, gateway.url, { "upstream-fingerprint": pin, ...settings });
    if (settings === listener) seqgate.url = seqgate.url.replace("ws:", "wss:");
    const client = await seqgate.connect({ token: gateway.token });
    if (settings === listener) assert.equal(client.socket.getPeerCertificate().fingerprint256, pin);
    const run = await client.chat(`agent:main:${crypto.randomUUID()}`, "tokens=200 rate=200");
    assert.equal(textOf(await client.ending(run)), words(200));
    assert.equal((await seqgate.ready()).status, 200);
    client.drop();
  }

  const other = pin.replace(/^../, pin.startsWith("00") ? "01" : "00");
  const seqgate = await Seqgate.start(t, gateway.url, { "upstream-fingerprint": `sha256:${other}` });
  const ready = await seqgate.ready();
  assert.equal(ready.status, 503);
  assert.match(ready.text, /certificate is not accepted.*SEQGATE_UPSTREAM_FINGERPRINT/);
  const answer = await fetch(`${seqgate.http}/`);
  assert.equal(answer.status, 502);
  assert.equal((await answer.json()).error.code, "upstream_tls");
});
