// A client of the gateway's protocol that remembers every frame: handshake with a device identity, requests, events.
import crypto from "node:crypto";
import net from "node:net";
import tls from "node:tls";
import { eventually } from "./house.mjs";
import { FrameReader, OPCODE, frame, splitHead } from "./wire.mjs";

const SCOPES = ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"];

/** A device that no gateway knows yet. */
export function newDevice() {
  const { privateKey, publicKey } = crypto.generateKeyPairSync("ed25519");
  // The key itself is the end of its DER form.
  const raw = publicKey.export({ type: "spki", format: "der" }).subarray(-32);
  return { privateKey, publicKey: raw.toString("base64url"), id: crypto.createHash("sha256").update(raw).digest("hex") };
}

export class Client {
  /** Text messages in the order in which they came, parsed. */
  messages = [];
  /** All frames behind the gateway's 101. */
  frames = [];
  /** The answer to the upgrade, and what followed it if it was refused. */
  head = null;
  body = Buffer.alloc(0);
  /** The gateway's Close: `{ code, reason }`; code 1006 if there was none. */
  closed = null;
  hello = null;
  #reader = new FrameReader();
  #requests = 0;

  /**
   * `door` is the path of a Unix socket behind which the address is, instead of here. With wss any certificate will
   * do: whoever cares looks at the socket's. `kind` replaces the client's `id` and `mode`.
   */
  constructor(url, { token, device = newDevice(), headers = {}, door, kind = { id: "cli", mode: "cli" } }) {
    const { protocol, hostname, port, host, pathname } = new URL(url);
    this.token = token;
    this.kind = kind;
    this.device = device;
    const lines = {
      Host: host,
      Upgrade: "websocket",
      Connection: "Upgrade",
      "Sec-WebSocket-Key": crypto.randomBytes(16).toString("base64"),
      "Sec-WebSocket-Version": "13",
      ...headers,
    };
    const connect = protocol === "wss:" ? (options) => tls.connect({ ...options, rejectUnauthorized: false }) : net.connect;
    this.socket = connect(door ? { path: door } : { port: Number(port), host: hostname });
    this.socket.setNoDelay(true);
    this.socket.write(`GET ${pathname} HTTP/1.1\r\n${Object.entries(lines).map(([k, v]) => `${k}: ${v}\r\n`).join("")}\r\n`);
    this.socket.on("data", (bytes) => this.#receive(bytes));
    this.socket.on("error", () => {});
    this.socket.on("close", () => (this.closed ??= { code: 1006, reason: "" }));
  }

  /** A client whose handshake has succeeded. */
  static async connect(url, options) {
    const client = new Client(url, options);
    await client.handshake();
    return client;
  }

  get status() {
    return this.head && Number(this.head.split(" ")[1]);
  }

  get events() {
    return this.messages.filter((message) => message.type === "event");
  }

  /** The payloads of a run's events of one name, in order. */
  run(name, runId) {
    return this.events.filter(({ event, payload }) => event === name && payload.runId === runId).map(({ payload }) => payload);
  }

  #receive(bytes) {
    if (this.status === 101) return this.#read(bytes);
    this.body = Buffer.concat([this.body, bytes]);
    if (this.head) return;
    const split = splitHead(this.body);
    if (!split) return;
    this.head = split.head;
    this.body = this.status === 101 ? Buffer.alloc(0) : split.rest;
    if (this.status === 101) this.#read(split.rest);
  }

  #read(bytes) {
    for (const received of this.#reader.read(bytes)) {
      this.frames.push(received);
      const { opcode, payload } = received;
      if (opcode === OPCODE.text) this.messages.push(JSON.parse(payload));
      if (opcode === OPCODE.ping) this.#send(OPCODE.pong, payload);
      if (opcode === OPCODE.close) {
        this.closed ??= { code: payload.length ? payload.readUInt16BE() : 1005, reason: payload.subarray(2).toString() };
        this.#send(OPCODE.close, payload.subarray(0, 2));
        this.socket.end();
      }
    }
  }

  #send(opcode, payload) {
    if (this.socket.writable) this.socket.write(frame(opcode, payload, crypto.randomBytes(4)));
  }

  /** The first message, come or to come, of which `wanted` is true. */
  async message(what, wanted, patience = 180_000) {
    const over = () => this.closed || (this.head && this.status !== 101);
    const found = await eventually(what, () => this.messages.find(wanted) ?? (over() && "over"), patience);
    if (found === "over") throw new Error(`${what}: the connection is over: ${this.head} ${JSON.stringify(this.closed)}`);
    return found;
  }

  async handshake() {
    const challenge = await this.message("the challenge", (m) => m.event === "connect.challenge");
    const { nonce, ts } = challenge.payload;
    const { device, token } = this;
    const client = { version: "test", platform: "linux", ...this.kind };
    const signedAt = ts ?? Date.now();
    const signed = ["v2", device.id, client.id, client.mode, "operator", SCOPES.join(","), signedAt, token ?? "", nonce].join("|");
    const signature = crypto.sign(null, Buffer.from(signed), device.privateKey).toString("base64url");
    this.hello = await this.request("connect", {
      minProtocol: 3,
      maxProtocol: 4,
      client,
      role: "operator",
      scopes: SCOPES,
      caps: ["tool-events"],
      ...(token && { auth: { token } }),
      device: { id: device.id, publicKey: device.publicKey, signature, signedAt, nonce },
    });
  }

  /** Sends a request, and gives its id. */
  post(method, params = {}) {
    const id = `${method} ${++this.#requests}`;
    this.#send(OPCODE.text, Buffer.from(JSON.stringify({ type: "req", id, method, params })));
    return id;
  }

  /** The payload of the answer; throws the gateway's error. */
  async request(method, params, patience = 180_000) {
    const id = this.post(method, params);
    const answer = await this.message(`the answer to ${id}`, (m) => m.type === "res" && m.id === id, patience);
    if (!answer.ok) throw Object.assign(new Error(`${method}: ${JSON.stringify(answer.error)}`), { error: answer.error });
    return answer.payload;
  }

  /** Starts a run with the orders for the model, and gives its id. */
  async chat(sessionKey, orders, runId = crypto.randomUUID()) {
    await this.request("chat.send", { sessionKey, message: `please [[${orders}]]`, idempotencyKey: runId });
    return runId;
  }

  /** The chat event that ends a run. */
  async ending(runId) {
    const ends = ({ event, payload }) =>
      event === "chat" && payload.runId === runId && ["final", "aborted", "error"].includes(payload.state);
    return (await this.message(`the end of run ${runId}`, ends)).payload;
  }

  /** Leaves without a word. */
  drop() {
    this.socket.destroy();
  }
}

/** The text that a chat event shows. */
export function textOf({ message }) {
  return message.content.map(({ text }) => text ?? "").join("");
}
