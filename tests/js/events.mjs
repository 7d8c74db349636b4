// Drives the event-streaming protocol with the public JavaScript client: node events.mjs <url>
// Over server-sent events, and over WebSockets where this Node.js has them.
import assert from "node:assert/strict";
import { Client } from "@langchain/langgraph-sdk";
import { take } from "./steps.mjs";

const client = new Client({ apiUrl: process.argv[2], apiKey: null });
const transports = ["sse", ...(globalThis.WebSocket ? ["websocket"] : [])];

async function collect(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

// A promise that says what it waited for when it waited too long.
function within(promise, what, seconds = 90) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const say = (content) => ({ messages: [{ role: "user", content }] });

const steps = {
  async "messages, values and tool calls are streamed"(transport) {
    const thread = client.threads.stream({ assistantId: "agent", transport });
    const messages = collect(thread.messages);
    const calls = collect(thread.toolCalls);
    await thread.run.start({ input: say("add 2 3") });
    const texts = [];
    for (const message of await within(messages, "messages")) texts.push(await within(message.text, "text"));
    assert.deepEqual(texts, ["Let me see", "The sum is 5"]);
    const [call] = await within(calls, "tool calls");
    assert.deepEqual([call.name, call.input], ["add", { left: 2, right: 3 }]);
    const values = await within(thread.values, "values");
    assert.equal(values.messages.at(-1).content, "The sum is 5");
    await thread.close();
  },

  async "an interrupt is answered"(transport) {
    const thread = client.threads.stream({ assistantId: "ask", transport });
    await thread.run.start({ input: { items: ["a"] } });
    await within(thread.values, "pause");
    assert.ok(thread.interrupted);
    const [asked] = thread.interrupts;
    assert.deepEqual(asked.payload, { question: "ok?" });
    await thread.input.respond({ interrupt_id: asked.interruptId, namespace: [], response: "yes" });
    const done = async () => {
      for (;;) {
        const { values, next } = await client.threads.getState(thread.threadId);
        if (!next.length && values.items.length === 3) return values;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    assert.deepEqual(await within(done(), "end"), { items: ["a", "yes", "done"] });
    await thread.close();
  },

  async "a subgraph is found"(transport) {
    const thread = client.threads.stream({ assistantId: "chat_parent", transport });
    const found = collect(thread.subgraphs);
    await thread.run.start({ input: say("hello") });
    const [subgraph] = await within(found, "subgraphs");
    assert.match(subgraph.namespace.join("/"), /^child:/);
    await thread.close();
  },

  async "who comes later sees it all again"(transport) {
    const first = client.threads.stream({ assistantId: "chat", transport });
    await first.run.start({ input: say("hello") });
    await within(first.values, "end");
    await first.close();
    const second = client.threads.stream(first.threadId, { assistantId: "chat", transport });
    const seen = [];
    const replayed = (async () => {
      for await (const event of await second.subscribe({ channels: ["messages", "lifecycle"] })) {
        seen.push(event);
        if (event.method === "lifecycle" && event.params.data.event === "completed") return;
      }
    })();
    await within(replayed, "replay");
    const text = seen.filter((event) => event.params.data.delta).map((event) => event.params.data.delta.text);
    assert.equal(text.join(""), "You said: hello");
    await second.close();
  },
};

for (const transport of transports) await take(steps, transport);
process.exit();
