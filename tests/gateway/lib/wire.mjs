// WebSocket frames as bytes: nothing is joined, answered or hidden.

export const OPCODE = { text: 1, close: 8, ping: 9, pong: 10 };

/** Cuts a stream into frames `{ opcode, final, payload, raw }`; `raw` is the frame as it came. */
export class FrameReader {
  #rest = Buffer.alloc(0);

  *read(bytes) {
    this.#rest = this.#rest.length ? Buffer.concat([this.#rest, bytes]) : bytes;
    for (;;) {
      const b = this.#rest;
      if (b.length < 2) return;
      const short = b[1] & 127;
      const head = short === 127 ? 10 : short === 126 ? 4 : 2;
      if (b.length < head) return;
      const length = short === 127 ? Number(b.readBigUInt64BE(2)) : short === 126 ? b.readUInt16BE(2) : short;
      if (b.length < head + length) return;
      this.#rest = b.subarray(head + length);
      yield { opcode: b[0] & 15, final: b[0] > 127, payload: b.subarray(head, head + length), raw: b.subarray(0, head + length) };
    }
  }
}

/** A final frame; a client's has a mask. */
export function frame(opcode, payload, mask) {
  const n = payload.length;
  const bit = mask ? 128 : 0;
  const head = Buffer.alloc(n < 126 ? 2 : n < 65536 ? 4 : 10);
  head[0] = 128 | opcode;
  head[1] = bit | (n < 126 ? n : n < 65536 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(n, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(n), 2);
  if (!mask) return Buffer.concat([head, payload]);
  return Buffer.concat([head, mask, Buffer.from(payload.map((byte, i) => byte ^ mask[i & 3]))]);
}

export const textFrame = (message) => frame(OPCODE.text, Buffer.from(JSON.stringify(message)));

/** Splits the head of an HTTP message off: `null` while it is not whole. */
export function splitHead(bytes) {
  const end = bytes.indexOf("\r\n\r\n");
  return end < 0 ? null : { head: bytes.subarray(0, end + 4).toString("latin1"), rest: bytes.subarray(end + 4) };
}
