// Another network: a namespace at the other end of a veth pair, and doors from here into it.
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { Child, eventually, folder } from "./house.mjs";

// Addresses for documentation (RFC 5737), another four of them for each process.
const NETWORK = 4 * (process.pid % 63);
const HERE = `198.51.100.${NETWORK + 1}`;
const THERE = `198.51.100.${NETWORK + 2}`;

/** Runs in the namespace: whoever comes through the Unix socket is connected to the address. */
const DOOR = `
  const [place, port, host] = process.argv.slice(1);
  require("node:net").createServer((here) => {
    const there = require("node:net").connect(port, host);
    here.pipe(there).pipe(here);
    for (const socket of [here, there]) socket.on("error", () => (here.destroy(), there.destroy()));
  }).listen(place);`;

const ip = (words) => spawnSync("ip", words.split(" ")).status === 0;
const isUp = (words) => spawnSync("ip", words.split(" ")).stdout.includes("state UP");

let doors = 0;

export class Namespace {
  here = HERE;
  there = THERE;

  /** `null` where this is not permitted. */
  static async make(t) {
    const namespace = new Namespace();
    namespace.name = `sgt${process.pid}`;
    const [one, other] = [`sga${process.pid}`, `sgb${process.pid}`];
    if (!ip(`netns add ${namespace.name}`)) return null;
    const remove = () => {
      // The pair goes with either of its ends.
      ip(`link del ${one}`);
      ip(`netns del ${namespace.name}`);
    };
    t.after(remove);
    process.on("exit", remove);
    const laid = [
      `link add ${one} type veth peer name ${other} netns ${namespace.name}`,
      `addr add ${HERE}/30 dev ${one}`,
      `link set ${one} up`,
      `-n ${namespace.name} addr add ${THERE}/30 dev ${other}`,
      `-n ${namespace.name} link set ${other} up`,
    ];
    if (!laid.every(ip)) return null;
    const ends = [`link show ${one}`, `-n ${namespace.name} link show ${other}`];
    await eventually("a cable with both ends up", () => ends.every(isUp));
    return namespace;
  }

  /** The path of a Unix socket that leads through the namespace to an address here. */
  async door(t, address) {
    const place = path.join(folder, `door-${++doors}`);
    const [host, port] = address.split(":");
    const inside = ["netns", "exec", this.name, process.execPath, "-e", DOOR, place, port, host];
    const child = new Child("door", "ip", inside);
    t.after(() => child.stop("SIGKILL"));
    await eventually("a door", () => fs.existsSync(place));
    return place;
  }
}
