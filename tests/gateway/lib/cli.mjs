// The real command line client, pointed at a gateway by its settings.
import fs from "node:fs";
import path from "node:path";
import { environment } from "./gateway.mjs";
import { Child, folder } from "./house.mjs";

export class Cli {
  constructor(gateway, url) {
    this.home = fs.mkdtempSync(path.join(folder, "cli-"));
    const remote = { mode: "remote", remote: { url, token: gateway.token } };
    fs.writeFileSync(path.join(this.home, "openclaw.json"), JSON.stringify({ gateway: remote, plugins: { enabled: false } }));
  }

  /** Runs a command to its end: `{ code, output }`. */
  async run(...args) {
    const command = [process.env.OPENCLAW, ...args];
    const child = new Child("cli", process.execPath, command, { env: environment(this.home), cwd: this.home });
    return { code: await child.exited, output: child.output() };
  }
}
