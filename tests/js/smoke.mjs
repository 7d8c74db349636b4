// Drives a server that runs the graphs of tests/contract/app with the public JavaScript client: node smoke.mjs <url>
import assert from "node:assert/strict";
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2], apiKey: null });

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

const steps = {
  async "a run is streamed"() {
    const thread = await client.threads.create({ metadata: { from: "js" } });
    let created;
    const parts = await collect(
      client.runs.stream(thread.thread_id, "noop", {
        input: { items: ["in"] },
        streamMode: ["values", "updates"],
        onRunCreated: (run) => (created = run),
      }),
    );
    assert.equal(parts[0].event, "metadata");
    assert.equal(created.run_id, parts[0].data.run_id);
    assert.equal(created.thread_id, thread.thread_id);
    assert.deepEqual(
      parts.filter((part) => part.event === "updates").map((part) => part.data),
      [{ a: { items: ["a"] } }, { b: { items: ["b"] } }],
    );
    assert.deepEqual(parts.at(-1).data, { items: ["in", "a", "b"] });
  },

  async "tokens of a model are streamed"() {
    const thread = await client.threads.create();
    const parts = await collect(
      client.runs.stream(thread.thread_id, "chat", {
        input: { messages: [{ role: "user", content: "hello from javascript" }] },
        streamMode: ["messages-tuple"],
      }),
    );
    const text = parts.filter((part) => part.event === "messages").map((part) => part.data[0].content);
    assert.equal(text.join(""), "You said: hello from javascript");
    assert.ok(text.length > 3);
  },

  async "an interrupt is answered"() {
    const thread = await client.threads.create();
    const asked = await client.runs.wait(thread.thread_id, "ask", { input: { items: [] } });
    assert.deepEqual(asked.__interrupt__[0].value, { question: "ok?" });
    const waiting = await client.threads.get(thread.thread_id);
    assert.equal(waiting.status, "interrupted");
    assert.equal(Object.values(waiting.interrupts)[0][0].id, asked.__interrupt__[0].id);
    const parts = await collect(
      client.runs.stream(thread.thread_id, "ask", { command: { resume: "yes" }, streamMode: "values" }),
    );
    assert.deepEqual(parts.at(-1).data, { items: ["yes", "done"] });
  },

  async "a stream is joined from its start"() {
    const thread = await client.threads.create();
    const run = await client.runs.create(thread.thread_id, "custom", {
      input: { items: [], n: 5 },
      streamMode: ["custom", "values"],
      streamResumable: true,
      onDisconnect: "continue",
    });
    await client.runs.join(thread.thread_id, run.run_id);
    const all = await collect(client.runs.joinStream(thread.thread_id, run.run_id, { lastEventId: "-1" }));
    assert.deepEqual(
      all.map((part) => part.event),
      ["metadata", "values", "custom", "custom", "custom", "custom", "custom", "values"],
    );
    const rest = await collect(
      client.runs.joinStream(thread.thread_id, run.run_id, {
        lastEventId: all[3].id,
        streamMode: ["custom"], // sent as JSON text
      }),
    );
    assert.deepEqual(
      rest.map((part) => part.data),
      [{ number: 2 }, { number: 3 }, { number: 4 }],
    );
  },

  async "a stateless stream is joined by its run id alone"() {
    const run = await client.runs.create(null, "custom", {
      input: { items: [], n: 3 },
      streamMode: "custom",
      streamResumable: true,
      onCompletion: "keep",
    });
    const parts = await collect(client.runs.joinStream(undefined, run.run_id, { lastEventId: "-1" }));
    assert.deepEqual(
      parts.filter((part) => part.event === "custom").map((part) => part.data.number),
      [0, 1, 2],
    );
  },

  async "state and history are read and written"() {
    const thread = await client.threads.create();
    await client.runs.wait(thread.thread_id, "four", { input: { items: [] } });
    const state = await client.threads.getState(thread.thread_id);
    assert.deepEqual(state.values.items, ["one", "two", "three", "four"]);
    const history = await client.threads.getHistory(thread.thread_id);
    assert.deepEqual(history.map((at) => at.next), [[], ["four"], ["three"], ["two"], ["one"], ["__start__"]]);
    const before = await client.threads.getHistory(thread.thread_id, { limit: 2, before: history[1].checkpoint });
    assert.deepEqual(before, history.slice(2, 4));
    await client.threads.updateState(thread.thread_id, {
      values: { items: ["by hand"] },
      asNode: "two",
      checkpoint: history[2].checkpoint,
    });
    const forked = await client.threads.getState(thread.thread_id);
    assert.deepEqual([forked.values.items, forked.next], [["one", "two", "by hand"], ["three"]]);
  },

  async "threads and assistants are searched"() {
    const mark = crypto.randomUUID();
    const thread = await client.threads.create({ metadata: { mark }, graphId: "noop" });
    const found = await client.threads.search({ metadata: { mark }, select: ["thread_id"] });
    assert.deepEqual(found, [{ thread_id: thread.thread_id }]);
    const assistant = await client.assistants.create({ graphId: "noop", metadata: { mark } });
    assert.equal(await client.assistants.count({ metadata: { mark } }), 1);
    const graph = await client.assistants.getGraph(assistant.assistant_id);
    assert.deepEqual(graph.nodes.map((node) => node.id).sort(), ["__end__", "__start__", "a", "b"]);
    await client.assistants.delete(assistant.assistant_id);
    await client.threads.delete(thread.thread_id);
    await assert.rejects(client.threads.get(thread.thread_id), /404/);
  },

  async "a run is cancelled"() {
    const thread = await client.threads.create();
    const run = await client.runs.create(thread.thread_id, "noop", { input: { items: [] }, afterSeconds: 600 });
    await client.runs.cancel(thread.thread_id, run.run_id, true);
    assert.equal((await client.runs.get(thread.thread_id, run.run_id)).status, "interrupted");
  },

  async "an error reaches the client"() {
    const failing = client.runs.wait(null, "flaky", { input: { items: [], n: 0 } });
    await assert.rejects(failing, /kaboom/);
  },
};

for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`not ok ${name}\n${error.stack}`);
    process.exitCode = 1;
  }
}
