// The usual set: gateway, relay, seqgate, and clients on either side of it.
import assert from "node:assert/strict";
import { eventually } from "./house.mjs";
import { theGateway } from "./gateway.mjs";
import { Relay } from "./relay.mjs";
import { Seqgate } from "./seqgate.mjs";

export class Stage {
  /** Those of seqgate, in the order in which they came. */
  clients = [];

  static async set(t, fault) {
    const stage = new Stage();
    stage.t = t;
    stage.gateway = await theGateway();
    stage.relay = await Relay.start(t, stage.gateway.port, fault);
    stage.seqgate = await Seqgate.start(t, stage.relay.http);
    return stage;
  }

  /** A client of seqgate; its `relayed` is the relay's view of its connection. */
  async through(options) {
    const client = await this.seqgate.connect({ token: this.gateway.token, ...options });
    this.t.after(() => client.drop());
    client.relayed = this.relay.connections.at(-1);
    this.clients.push(client);
    return client;
  }

  async direct() {
    const client = await this.gateway.connect();
    this.t.after(() => client.drop());
    return client;
  }

  /** Messages by verdict and reason, once seqgate has counted as many as `wanted` says at that time. */
  counted(wanted) {
    return eventually("seqgate to count every message", async () => {
      const events = await this.seqgate.events();
      return Object.values(events).reduce((sum, n) => sum + n, 0) >= wanted() && events;
    });
  }
}

/** What a client has got is what the gateway sent to it so far, byte for byte, the upgrade's answer included. */
export function sameBytes({ head, frames, relayed }) {
  assert.equal(head, relayed.head);
  frames.forEach(({ raw }, i) => {
    const sent = relayed.sent[i].raw;
    assert.ok(raw.equals(sent), `frame ${i}: ${raw} instead of ${sent}`);
  });
}

/** The events of a run, in order; what is of the connection, the outer seq, aside. */
export function story(client, runId) {
  return client.events
    .filter(({ event, payload }) => ["agent", "chat"].includes(event) && payload.runId === runId)
    .map(({ event, payload }) => `${event} ${JSON.stringify(payload)}`);
}

/** Two clients have seen the same of a run. */
export async function sameStory(one, other, runId, of = story) {
  // The run's last words may come behind its end.
  const even = () => of(one, runId).length === of(other, runId).length;
  await eventually("equally many events", even, 20_000).catch(() => {});
  assert.deepEqual(of(one, runId), of(other, runId));
}
