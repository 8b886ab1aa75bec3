// A model provider that costs nothing and says what it is told: OpenAI's chat completions, streamed. The newest user
// message that holds one gives the orders, as in `tell me [[tokens=200 rate=100]]`:
//   tokens   words of the reply, "w0 w1 …" (default 5)
//   rate     words a second; without it, as fast as they go
//   tools    calls of the tool `exec` before the reply
//   refuse   HTTP status with which the first of the two models refuses
//   fail     HTTP status with which both refuse
import http from "node:http";
import { listening } from "./house.mjs";

export const MODELS = ["first", "second"];

/** The whole reply to a request for so many tokens. */
export const words = (tokens) => Array.from({ length: tokens }, (_, i) => `w${i}`).join(" ");

/** Starts the provider, and gives its address. */
export async function startModel() {
  const server = http.createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    if (request.method !== "POST") return response.end(JSON.stringify({ data: MODELS.map((id) => ({ id })) }));
    await reply(JSON.parse(Buffer.concat(parts)), response).catch(() => response.destroy());
  });
  const port = await listening(server);
  return { url: `http://127.0.0.1:${port}/v1`, close: () => (server.close(), server.closeAllConnections()) };
}

const text = (content) => (Array.isArray(content) ? content.map((part) => part.text ?? "").join("\n") : content ?? "");

function orders(messages) {
  const place = messages.findLastIndex((m) => m.role === "user" && text(m.content).includes("[["));
  const order = [...text(messages[place]?.content).matchAll(/\[\[(.*?)\]\]/g)].at(-1)?.[1] ?? "";
  const given = Object.fromEntries(order.split(" ").filter(Boolean).map((word) => word.split("=")).map(([k, v]) => [k, +v]));
  const called = messages.slice(place + 1).filter((m) => m.role === "tool").length;
  return { tokens: 5, rate: 0, tools: 0, refuse: 0, fail: 0, ...given, called };
}

async function reply({ model, messages, stream }, response) {
  const { tokens, rate, tools, refuse, fail, called } = orders(messages);
  const status = fail || (model === MODELS[0] && refuse);
  if (status) {
    response.writeHead(status, { "Content-Type": "application/json" });
    return response.end(JSON.stringify({ error: { message: "model not found", code: status } }));
  }
  const base = { id: "reply", created: Math.floor(Date.now() / 1000), model };
  const usage = { prompt_tokens: 10, completion_tokens: tokens, total_tokens: 10 + tokens };
  if (!stream) {
    const choices = [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: words(tokens) } }];
    response.writeHead(200, { "Content-Type": "application/json" });
    return response.end(JSON.stringify({ ...base, object: "chat.completion", usage, choices }));
  }
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const send = (delta, finish_reason = null) =>
    response.write(
      `data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] })}\n\n`,
    );
  send({ role: "assistant", content: "" });
  if (called < tools) {
    const command = JSON.stringify({ command: `echo tool-${called}` });
    send({ tool_calls: [{ index: 0, id: `call_${called}`, type: "function", function: { name: "exec", arguments: command } }] });
    send({}, "tool_calls");
  } else {
    const start = performance.now();
    for (let i = 0; i < tokens && !response.destroyed; i++) {
      const due = rate ? start + (i * 1000) / rate - performance.now() : 0;
      if (due > 1) await new Promise((resolve) => setTimeout(resolve, due));
      send({ content: i === 0 ? "w0" : ` w${i}` });
    }
    send({}, "stop");
  }
  response.end(`data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", choices: [], usage })}\n\ndata: [DONE]\n\n`);
}
