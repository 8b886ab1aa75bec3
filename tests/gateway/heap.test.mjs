// What a run leaves in the gateway's heap, with seqgate in front of it: the difference between two full garbage
// collections, divided by the runs that were asked for between them.
//
//   TEST_HEAP="RUNS BYTES [SETTING=VALUE...]" tests/gateway/run VERSION heap
//
// BYTES are those of a run id, and the settings are seqgate's. Before each collection the gateway's clock is put forward and
// the gateway given time to notice, because it keeps the answers to the last requests for five minutes.
import crypto from "node:crypto";
import test from "node:test";
import { Gateway, VERSION } from "./lib/gateway.mjs";
import { Seqgate } from "./lib/seqgate.mjs";

const given = (process.env.TEST_HEAP ?? "").split(" ").filter(Boolean);
const [runs = 1000, bytes = 36] = given.slice(0, 2).map(Number);
const flags = given.slice(2);
/** In milliseconds, more than the gateway remembers anything for the sake of time alone, and the seconds in which it looks. */
const LATER = 600_000;
const REST = 70;
/** Chats at once, each in a session of its own, which is begun anew before its history grows long. */
const CHATS = 6;
const SESSION = 20;

/** The bytes that the gateway's heap holds behind a full garbage collection. */
async function heap(gateway) {
  // A launcher may have one before it.
  const [, url] = [...gateway.process.output().matchAll(/Debugger listening on (\S+)/g)].at(-1);
  const socket = new WebSocket(url);
  await new Promise((resolve) => socket.addEventListener("open", resolve));
  const ask = (method, params) =>
    new Promise((resolve) => {
      socket.addEventListener("message", ({ data }) => resolve(JSON.parse(data).result), { once: true });
      socket.send(JSON.stringify({ id: 1, method, params }));
    });
  await ask("Runtime.evaluate", { expression: `{ const now = Date.now; Date.now = () => now() + ${LATER}; }` });
  await new Promise((resolve) => setTimeout(resolve, REST * 1000));
  // Finalizers of one collection leave work for the next.
  for (let i = 0; i < 3; i++) await ask("HeapProfiler.collectGarbage");
  const { result } = await ask("Runtime.evaluate", { expression: "process.memoryUsage().heapUsed" });
  socket.close();
  return result.value;
}

/** Chats until so many runs were asked for, and gives how many there were. */
async function chat(seqgate, token, runs) {
  let left = runs;
  let begun = 0;
  const worker = async () => {
    const client = await seqgate.connect({ token });
    const sessionKey = `agent:main:${crypto.randomUUID()}`;
    for (let n = 1; left-- > 0; n++) {
      const run = crypto.randomBytes(bytes).toString("hex").slice(0, bytes);
      const asked = client.chat(sessionKey, "tokens=3", run).then(() => true, ({ error }) => !error);
      if (!(await asked)) continue;
      begun++;
      await client.ending(run);
      client.messages.length = client.frames.length = 0;
      if (n % SESSION === 0) await client.request("sessions.reset", { key: sessionKey });
    }
    client.drop();
  };
  await Promise.all(Array.from({ length: CHATS }, worker));
  return begun;
}

test("heap for each run", { timeout: 3_600_000 }, async (t) => {
  const gateway = await Gateway.start({ node: ["--inspect=127.0.0.1:0"] });
  t.after(() => gateway.close());
  const open = await Seqgate.start(t, gateway.http);
  await chat(open, gateway.token, 120);
  const seqgate = await Seqgate.start(t, gateway.http, Object.fromEntries(flags.map((flag) => flag.split("="))));
  const before = await heap(gateway);
  const began = performance.now();
  const begun = await chat(seqgate, gateway.token, runs);
  const seconds = (performance.now() - began) / 1000;
  const after = await heap(gateway);
  t.diagnostic(
    `OpenClaw ${VERSION}, ${flags.join(" ") || "no guard"}: ${runs} runs with ids of ${bytes} bytes asked for, ` +
      `${begun} begun in ${seconds.toFixed(0)} s; heap ${before} before and ${after} after, ${Math.round((after - before) / runs)} bytes each`,
  );
});
