// Drives a server that runs the graphs of tests/contract/app with the public JavaScript client: node smoke.mjs <url>
import assert from "node:assert/strict";
import { Client } from "@langchain/langgraph-sdk";
import { take } from "./steps.mjs";

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

  async "tools and subgraphs are followed"() {
    const thread = await client.threads.create();
    const parts = await collect(
      client.runs.stream(thread.thread_id, "tools", {
        input: { calls: [["add", { left: 2, right: 3 }], ["research", { text: "it" }], ["explode", {}]] },
        streamMode: ["tools", "lifecycle"],
      }),
    );
    const of = (id) => parts.filter((part) => part.event === "tools" && part.data.toolCallId === id).map((part) => part.data);
    const [start, end] = of("call-0");
    assert.deepEqual(start, { event: "on_tool_start", toolCallId: "call-0", name: "add", input: { left: 2, right: 3 } });
    assert.deepEqual([end.event, end.output.content, end.output.tool_call_id], ["on_tool_end", "5", "call-0"]);
    assert.deepEqual(of("call-2").at(-1).error, { error: "ValueError", message: "boom" });
    const lifecycle = parts.filter((part) => part.event.startsWith("lifecycle|"));
    assert.ok(lifecycle.every((part) => part.event === `lifecycle|${part.data.namespace.join("|")}`));
    assert.deepEqual(
      lifecycle.filter((part) => part.data.tool_call_id === "call-1").map((part) => part.data.event),
      ["started", "completed"],
    );
  },

  async "a run is streamed in part"() {
    const thread = await client.threads.create();
    const parts = await collect(
      client.runs.stream(thread.thread_id, "grandparent", {
        input: { messages: [{ role: "user", content: "hello" }] },
        streamMode: ["updates"],
        streamSubgraphs: true,
        streamResumable: true,
        streamNamespaces: [""], // sent as JSON text
      }),
    );
    assert.deepEqual(parts.map((part) => part.event), ["metadata", "updates"]);
    const join = (options) =>
      collect(client.runs.joinStream(thread.thread_id, parts[0].data.run_id, { lastEventId: "-1", ...options }));
    const all = await join({});
    const namespaces = all.slice(1).map((part) => part.event.split("|").slice(1).join("|"));
    assert.deepEqual(namespaces.map((name) => name.split("|").length), [2, 1, 1]);
    assert.deepEqual(await join({ streamNamespaces: namespaces.slice(0, 2) }), all.slice(0, 3));
    const { checkpoint } = await client.threads.getState(thread.thread_id);
    assert.deepEqual(await join({ checkpointId: checkpoint.checkpoint_id }), []);
    const history = await client.threads.getHistory(thread.thread_id);
    const earlier = history.find((state) => state.next[0] === "parent");
    assert.deepEqual(await join({ checkpointId: earlier.checkpoint.checkpoint_id }), all.slice(1));
    assert.deepEqual(await join({ checkpointId: "unknown" }), all);
  },

  async "an answer to no question is refused"() {
    const thread = await client.threads.create();
    await client.runs.wait(thread.thread_id, "ask", { input: { items: [] } });
    const resume = { ["0".repeat(32)]: "yes" };
    const strictly = { command: { resume }, strictResume: true };
    const parts = await collect(client.runs.stream(thread.thread_id, "ask", strictly));
    assert.deepEqual([parts.at(-1).event, parts.at(-1).data.error], ["error", "UnknownInterruptError"]);
    assert.equal((await client.threads.get(thread.thread_id)).status, "interrupted");
    await assert.rejects(client.runs.wait(thread.thread_id, "ask", strictly), /UnknownInterruptError/);
  },

  async "a state is read in part and its metadata are patched"() {
    const thread = await client.threads.create({ metadata: { kept: 1 } });
    await client.runs.wait(thread.thread_id, "noop", { input: { items: [], n: 7 } });
    const { checkpoint } = await client.threads.getState(thread.thread_id);
    const select = ["values.n", "next"];
    const expected = { values: { n: 7 }, next: [] };
    for (const at of [undefined, checkpoint, checkpoint.checkpoint_id])
      assert.deepEqual(await client.threads.getState(thread.thread_id, at, { select }), expected);
    assert.deepEqual(await client.threads.getHistory(thread.thread_id, { limit: 1, select }), [expected]);
    assert.equal(await client.threads.patchState(thread.thread_id, { changed: 2 }), undefined);
    const { metadata } = await client.threads.get(thread.thread_id);
    assert.deepEqual([metadata.kept, metadata.changed], [1, 2]);
  },

  async "an error reaches the client"() {
    const failing = client.runs.wait(null, "flaky", { input: { items: [], n: 0 } });
    await assert.rejects(failing, /kaboom/);
  },
};

await take(steps);
