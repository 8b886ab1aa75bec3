// What may go wrong between gateway and seqgate. Each works on one WebSocket: `pass` takes a frame of the gateway's and
// gives what goes on instead, `passedOn` counts the text messages that have gone on, and `done` what was done to them.
import { OPCODE, textFrame } from "./wire.mjs";

const isAgentEvent = ({ event, payload }) => event === "agent" && Number.isInteger(payload?.seq);

/** Repeats every agent event when `behind` more of its run have passed: with the outer seq that it had, or with its
 *  `own`, so that all later ones rise. */
export class Copies {
  passedOn = 0;
  done = 0;
  #shift = 0;
  #last = 0;
  #waiting = new Map();

  constructor({ own, behind }) {
    this.own = own;
    this.behind = behind;
  }

  pass({ opcode, payload, raw }) {
    if (opcode !== OPCODE.text) return [raw];
    const message = JSON.parse(payload);
    const out = [this.#numbered(message, raw)];
    if (isAgentEvent(message)) {
      const { runId } = message.payload;
      const waiting = [...(this.#waiting.get(runId) ?? []), message];
      if (waiting.length > this.behind) out.push(this.#copy(waiting.shift()));
      this.#waiting.set(runId, waiting);
    }
    this.passedOn += out.length;
    return out;
  }

  #numbered(message, raw) {
    if (message.seq === undefined) return raw;
    this.#last = message.seq + this.#shift;
    return this.#shift ? textFrame({ ...message, seq: this.#last }) : raw;
  }

  #copy(message) {
    this.done++;
    if (!this.own || message.seq === undefined) return textFrame(message);
    this.#shift++;
    return textFrame({ ...message, seq: ++this.#last });
  }
}

/** Lets every third event of a run's text be overtaken by the next. The outer numbers stay in order, as if the gateway
 *  itself had sent them so. */
export class Swaps {
  passedOn = 0;
  /** The agent events that came late, as the gateway sent them. */
  overtaken = [];
  /** What waits for the run's next agent event, the text to be overtaken first. */
  #held = [];
  #texts = 0;

  get done() {
    return this.overtaken.length;
  }

  pass({ opcode, payload, raw }) {
    const message = opcode === OPCODE.text ? JSON.parse(payload) : null;
    const out = this.#order({ message, raw });
    this.passedOn += out.filter((sent) => sent.message).length;
    return out.map((sent) => sent.raw);
  }

  #order(next) {
    const [first] = this.#held;
    if (!first) {
      const text = next.message && isAgentEvent(next.message) && next.message.payload.stream === "assistant";
      if (!text || ++this.#texts % 3 > 0) return [next];
      this.#held = [next];
      return [];
    }
    this.#held.push(next);
    const [one, other] = [first.message, next.message];
    if (!other || !isAgentEvent(other) || other.payload.runId !== one.payload.runId) return [];
    const out = this.#held;
    this.#held = [];
    if (other.payload.stream !== one.payload.stream) return out;
    this.overtaken.push(one);
    out[0] = { message: other, raw: textFrame({ ...other, seq: one.seq }) };
    out[out.length - 1] = { message: one, raw: textFrame({ ...one, seq: other.seq }) };
    return out;
  }
}
