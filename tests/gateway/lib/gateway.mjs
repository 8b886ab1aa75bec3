// A real OpenClaw gateway on loopback, with the mock model as its only provider and nothing that reaches out.
import { after } from "node:test";
import fs from "node:fs";
import path from "node:path";
import { Client } from "./client.mjs";
import { Child, eventually, folder, freePort } from "./house.mjs";
import { MODELS, startModel } from "./model.mjs";

export const VERSION = process.env.OPENCLAW_VERSION;
/** The version of the report that seqgate answers; it runs the core tests only. */
export const OLD = VERSION.startsWith("2026.1.");
const TOKEN = "test-token";

/** The environment of an OpenClaw whose home, state and settings are in `home`. */
export function environment(home) {
  return {
    PATH: `${path.dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`,
    LANG: "C.UTF-8",
    HOME: home,
    TMPDIR: home,
    OPENCLAW_STATE_DIR: path.join(home, "state"),
    OPENCLAW_CONFIG_PATH: path.join(home, "openclaw.json"),
    NODE_COMPILE_CACHE: path.join(path.dirname(process.env.OPENCLAW), "../../compile-cache"),
    NO_COLOR: "1",
    DO_NOT_TRACK: "1",
    OPENCLAW_NO_RESPAWN: "1",
    OPENCLAW_NO_AUTO_UPDATE: "1",
    OPENCLAW_DISABLE_BONJOUR: "1",
    OPENCLAW_EXEC_SHELL_SNAPSHOT: "0",
    OPENCLAW_SKIP_CHANNELS: "1",
    OPENCLAW_SKIP_CRON: "1",
    OPENCLAW_SKIP_CANVAS_HOST: "1",
    OPENCLAW_SKIP_GMAIL_WATCHER: "1",
    OPENCLAW_SKIP_BROWSER_CONTROL_SERVER: "1",
  };
}

function settings({ port, home, model, trustedProxies, tls, auth }) {
  const provider = (id) => ({
    baseUrl: model,
    apiKey: "none",
    api: "openai-completions",
    models: [
      {
        id,
        name: id,
        reasoning: false,
        input: ["text"],
        contextWindow: 1_000_000,
        maxTokens: 32_000,
        cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
      },
    ],
  });
  const [first, second] = MODELS;
  return {
    gateway: {
      mode: "local",
      port,
      bind: "loopback",
      auth: auth ?? { mode: "token", token: TOKEN },
      controlUi: { enabled: true },
      tailscale: { mode: "off" },
      http: { endpoints: { chatCompletions: { enabled: true } } },
      ...(trustedProxies && { trustedProxies }),
      ...(tls && { tls: { enabled: true } }),
    },
    discovery: { mdns: { mode: "off" } },
    update: { checkOnStart: false },
    plugins: { enabled: false },
    browser: { enabled: false },
    models: {
      mode: "replace",
      providers: { one: provider(first), two: provider(second) },
      ...(!OLD && { catalogRefresh: { enabled: false } }),
    },
    agents: {
      defaults: {
        model: { primary: `one/${first}`, fallbacks: [`two/${second}`] },
        skipBootstrap: true,
        workspace: path.join(home, "workspace"),
        heartbeat: { every: "0m" },
      },
    },
    tools: { exec: { host: "gateway", security: "full", ask: "off" } },
  };
}

export class Gateway {
  token = TOKEN;

  /** A gateway that is up and has answered a request. `node` are flags of Node's; `auth` replaces the token. */
  static async start({ trustedProxies, tls, auth, node = [] } = {}) {
    const gateway = new Gateway();
    gateway.node = node;
    if (auth) gateway.token = undefined;
    gateway.model = await startModel();
    gateway.port = await freePort();
    gateway.http = `${tls ? "https" : "http"}://127.0.0.1:${gateway.port}`;
    gateway.url = `${tls ? "wss" : "ws"}://127.0.0.1:${gateway.port}`;
    gateway.home = fs.mkdtempSync(path.join(folder, "gateway-"));
    const written = settings({ port: gateway.port, home: gateway.home, model: gateway.model.url, trustedProxies, tls, auth });
    fs.writeFileSync(path.join(gateway.home, "openclaw.json"), JSON.stringify(written, null, 2));
    fs.mkdirSync(path.join(gateway.home, "workspace"));
    await gateway.run();
    return gateway;
  }

  /** Starts its process, for the first time or again. */
  async run() {
    const command = [...this.node, process.env.OPENCLAW, "gateway", "run", "--port", `${this.port}`];
    this.process = new Child("gateway", process.execPath, command, {
      env: environment(this.home),
      cwd: this.home,
    });
    const answered = async () => {
      if (this.process.ended !== undefined) return true;
      if (!this.token) return (await fetch(`${this.http}/readyz`)).ok;
      const client = await this.connect();
      await client.request("health");
      client.drop();
      return true;
    };
    await eventually("a gateway that answers", answered, 300_000);
    if (this.process.ended !== undefined) throw new Error(`the gateway ended:\n${this.process.output().slice(-3000)}`);
  }

  /** A client without seqgate. */
  connect(options) {
    return Client.connect(this.url, { token: this.token, ...options });
  }

  async close() {
    await this.process.stop();
    this.model.close();
  }
}

let shared;

/** The gateway that all tests share which need nothing special of one. */
export function theGateway() {
  return (shared ??= Gateway.start());
}

after(async () => (await shared)?.close());
