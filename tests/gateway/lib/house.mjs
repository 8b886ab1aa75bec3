// What the tests leave behind is nothing: a folder for state and logs, and child processes, that go with this process
// however it ends. The folder stays when something failed.
import { spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";

/** State and logs of this run. */
export const folder = fs.mkdtempSync(path.join(os.tmpdir(), "seqgate-gateway-test-"));
const children = new Set();

process.on("exit", (code) => {
  for (const child of children) child.killNow();
  if (code === 0) fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  else console.log(`logs and state are kept in ${folder}`);
});
for (const [signal, number] of [["SIGINT", 2], ["SIGTERM", 15], ["SIGHUP", 1]]) {
  process.on(signal, () => process.exit(128 + number));
}

let count = 0;

/** A program in a process group of its own, with its output in a log. */
export class Child {
  constructor(name, command, args, options = {}) {
    this.name = name;
    this.log = path.join(folder, `${++count}-${name}.log`);
    const log = fs.openSync(this.log, "a");
    this.process = spawn(command, args, { stdio: ["ignore", log, log], detached: true, ...options });
    fs.closeSync(log);
    children.add(this);
    this.exited = new Promise((resolve) => {
      this.process.on("error", (error) => resolve(error.message));
      this.process.on("exit", (code, signal) => {
        // What it has started itself goes too.
        this.killNow();
        children.delete(this);
        resolve((this.ended = signal ?? code));
      });
    });
  }

  killNow() {
    try {
      process.kill(-this.process.pid, "SIGKILL");
    } catch {
      // Nobody is left.
    }
  }

  /** The exit code, or the signal that ended it. */
  async stop(signal = "SIGTERM", patience = 60_000) {
    this.process.kill(signal);
    const timer = setTimeout(() => this.killNow(), patience);
    const end = await this.exited;
    clearTimeout(timer);
    return end;
  }

  output() {
    return fs.readFileSync(this.log, "utf8");
  }
}

/** The first truthy answer of `ask`, which is asked again and again; a throw of its last word when time is up. */
export async function eventually(what, ask, patience = 180_000) {
  const deadline = Date.now() + patience;
  for (;;) {
    let problem;
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (error) {
      problem = error;
    }
    if (Date.now() > deadline) throw new Error(`${what}: not within ${patience / 1000} s`, { cause: problem });
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A port that nobody has at the moment. */
export async function freePort() {
  const server = net.createServer();
  const port = await listening(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Has a server listen on a free port of loopback, and names the port. */
export function listening(server) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(server.address().port));
  });
}
