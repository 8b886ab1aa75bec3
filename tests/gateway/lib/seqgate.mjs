// The seqgate under test: a process on free ports, and what its metrics say.
import { Child, eventually } from "./house.mjs";
import { Client } from "./client.mjs";

export class Seqgate {
  /** Starts it in front of `upstream`; it ends with the test `t`. `settings` are its flags. */
  static async start(t, upstream, settings = {}) {
    const seqgate = new Seqgate();
    // An empty environment: the settings are the flags alone.
    const flags = { listen: "127.0.0.1:0", "admin-listen": "127.0.0.1:0", "log-format": "json", upstream, ...settings };
    const words = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
    seqgate.process = new Child("seqgate", process.env.TEST_SEQGATE, words, { env: {} });
    t.after(() => seqgate.process.ended === undefined && seqgate.process.stop("SIGKILL"));
    const up = await eventually("seqgate's addresses", () => {
      const first = seqgate.process.output().split("\n")[0];
      return first.includes('"listen"') && JSON.parse(first);
    });
    seqgate.listen = up.listen;
    seqgate.http = `http://${up.listen}`;
    seqgate.url = `ws://${up.listen}`;
    seqgate.admin = `http://${up.admin}`;
    return seqgate;
  }

  connect(options) {
    return Client.connect(this.url, options);
  }

  /** All series by name and labels, `name{label="…"}`. */
  async metrics() {
    const text = await (await fetch(`${this.admin}/metrics`)).text();
    const lines = text.split("\n").filter((line) => line && !line.startsWith("#"));
    const series = lines.map((line) => /^(.*) (\S+)$/.exec(line));
    return Object.fromEntries(series.map(([, name, value]) => [name, Number(value)]));
  }

  /** Messages by verdict and reason, those that occurred: `{ "dropped duplicate": 3, … }`. */
  async events() {
    const all = Object.entries(await this.metrics());
    const series = all.filter(([name, value]) => name.startsWith("seqgate_events_total") && value > 0);
    const label = (name, key) => new RegExp(`${key}="([^"]*)"`).exec(name)[1];
    return Object.fromEntries(series.map(([name, value]) => [`${label(name, "verdict")} ${label(name, "reason")}`, value]));
  }

  async ready() {
    const answer = await fetch(`${this.admin}/readyz`);
    return { status: answer.status, text: await answer.text() };
  }
}
