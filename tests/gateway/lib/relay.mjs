// A relay between gateway and seqgate that writes down what the gateway sent on each WebSocket, frame by frame, and may
// change what goes on.
import net from "node:net";
import { listening } from "./house.mjs";
import { FrameReader, splitHead } from "./wire.mjs";

/** As it came. */
const untouched = () => (received) => [received.raw];

export class Relay {
  /** WebSockets in the order in which they came: `{ head, sent }`, the gateway's 101 and its frames behind it. */
  connections = [];

  /** `fault()` makes, for each WebSocket, a function from a frame of the gateway's to the bytes that go on instead. */
  static async start(t, port, fault = untouched) {
    const relay = new Relay();
    const sockets = new Set();
    const server = net.createServer((client) => {
      const gateway = net.connect(port, "127.0.0.1");
      for (const [socket, other] of [[client, gateway], [gateway, client]]) {
        sockets.add(socket);
        socket.setNoDelay(true);
        socket.on("error", () => other.destroy());
        socket.on("close", () => (sockets.delete(socket), other.destroySoon()));
      }
      client.pipe(gateway);
      const pass = relay.#connection(fault);
      gateway.on("data", (bytes) => pass(bytes).forEach((part) => client.write(part)));
      gateway.on("end", () => client.end());
    });
    relay.http = `http://127.0.0.1:${await listening(server)}`;
    t.after(() => {
      server.close();
      sockets.forEach((socket) => socket.destroy());
    });
    return relay;
  }

  /** From bytes of the gateway's to bytes for seqgate. What is not a WebSocket passes as it is. */
  #connection(fault) {
    let head = Buffer.alloc(0);
    let pass = (bytes) => {
      head = Buffer.concat([head, bytes]);
      const split = splitHead(head);
      if (!split) return [];
      if (!split.head.startsWith("HTTP/1.1 101")) {
        pass = (more) => [more];
        return [head];
      }
      const connection = { head: split.head, sent: [] };
      this.connections.push(connection);
      const reader = new FrameReader();
      const change = fault();
      pass = (more) =>
        [...reader.read(more)].flatMap((received) => {
          connection.sent.push(received);
          return change(received);
        });
      return [Buffer.from(split.head, "latin1"), ...pass(split.rest)];
    };
    return (bytes) => pass(bytes);
  }
}
