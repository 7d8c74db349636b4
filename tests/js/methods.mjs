// Calls every public method of the public JavaScript client: node methods.mjs <url>
import assert from "node:assert/strict";
import { Client } from "@langchain/langgraph-sdk";
import { take } from "./steps.mjs";

const plain = new Client({ apiUrl: process.argv[2], apiKey: null });
const parts = ["assistants", "threads", "runs", "crons", "store"];
const called = new Set();

// The client's parts; what is called of them is noted.
const client = Object.fromEntries(
  parts.map((part) => [
    part,
    new Proxy(plain[part], {
      get(of, name) {
        if (typeof of[name] !== "function") return of[name];
        called.add(`${part}.${name}`);
        return of[name].bind(of);
      },
    }),
  ]),
);

// Names of the methods of a part; those of the base class are not public.
function methods(part) {
  const names = [];
  for (let of = Object.getPrototypeOf(plain[part]); of.constructor.name !== "BaseClient"; of = Object.getPrototypeOf(of))
    names.push(...Object.getOwnPropertyNames(of).filter((name) => name !== "constructor" && !name.startsWith("_")));
  return names.map((name) => `${part}.${name}`);
}

async function collect(iterable, most = Infinity) {
  const items = [];
  for await (const item of iterable) if (items.push(item) >= most) break;
  return items;
}

const input = { items: ["in"] };
const steps = {
  async assistants() {
    const mark = crypto.randomUUID();
    const made = await client.assistants.create({
      graphId: "family", config: { tags: ["t"] }, context: { c: 1 }, metadata: { mark }, assistantId: crypto.randomUUID(),
      ifExists: "raise", name: "A", description: "first",
    });
    const id = made.assistant_id;
    assert.deepEqual(await client.assistants.get(id), made);
    const updated = await client.assistants.update(id, { name: "B", metadata: { more: 1 }, description: "second" });
    assert.deepEqual([updated.name, updated.version, updated.metadata.mark], ["B", 2, mark]);
    assert.deepEqual((await client.assistants.getVersions(id, { limit: 5 })).map((one) => one.version), [2, 1]);
    assert.equal((await client.assistants.setLatest(id, 1)).name, "A");
    const query = { metadata: { mark }, graphId: "family", sortBy: "name", sortOrder: "asc", select: ["assistant_id"] };
    const found = await client.assistants.search({ ...query, limit: 1, includePagination: true });
    assert.deepEqual(found, { assistants: [{ assistant_id: id }], next: null });
    assert.equal(await client.assistants.count({ metadata: { mark }, name: "a" }), 1);
    const graph = await client.assistants.getGraph(id, { xray: true });
    assert.ok(graph.nodes.some((node) => node.id === "kid:question"));
    assert.equal((await client.assistants.getSchemas(id)).graph_id, "family");
    assert.deepEqual(Object.keys(await client.assistants.getSubgraphs(id, { recurse: true })), ["kid"]);
    assert.deepEqual(Object.keys(await client.assistants.getSubgraphs(id, { namespace: "kid" })), ["kid"]);
    await client.assistants.delete(id, { deleteThreads: true });
    await assert.rejects(client.assistants.get(id), /404/);
  },

  async threads() {
    const mark = crypto.randomUUID();
    const superstep = (asNode, values) => ({ updates: [{ values, asNode }] });
    const made = await client.threads.create({
      metadata: { mark }, threadId: crypto.randomUUID(), ifExists: "raise", graphId: "noop", ttl: 60,
      supersteps: [superstep("__input__", input), superstep("a", { items: ["A"] })],
    });
    const id = made.thread_id;
    assert.equal((await client.threads.get(id, { include: ["ttl"] })).ttl.ttl_minutes, 60);
    const updated = await client.threads.update(id, { metadata: { more: 1 }, ttl: { ttl: 90, strategy: "delete" } });
    assert.equal(updated.metadata.more, 1);
    assert.equal(await client.threads.update(id, { metadata: { more: 2 }, returnMinimal: true }), undefined);
    await client.threads.patchState(id, { patched: 1 });
    const state = await client.threads.getState(id, undefined, { subgraphs: true });
    assert.deepEqual([state.values, state.next], [{ items: ["A"] }, ["b"]]);
    for (const at of [state.checkpoint, state.checkpoint.checkpoint_id])
      assert.deepEqual((await client.threads.getState(id, at)).values, state.values);

    const listening = collect(client.threads.joinStream(id, { streamMode: ["run_modes", "state_update"] }), 1);
    let heard = false;
    listening.then(() => (heard = true));
    while (!heard) {
      await client.threads.updateState(id, { values: { items: ["by hand"] }, asNode: "a" });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.equal((await listening)[0].event, "state_update");
    const [newest] = await client.threads.getHistory(id, { limit: 2, metadata: { source: "update" } });
    assert.deepEqual(newest.next, ["b"]);
    const before = { configurable: newest.checkpoint };
    assert.equal((await client.threads.getHistory(id, { limit: 1, before })).length, 1);

    const query = { metadata: { mark }, status: "interrupted", sortBy: "updated_at", sortOrder: "asc" };
    const extract = { first: "values.items[0]" };
    assert.deepEqual(await client.threads.search({ ...query, values: {}, select: ["thread_id"], extract }), [
      { thread_id: id, extracted: { first: "A" } },
    ]);
    assert.equal((await client.threads.search({ ids: [id] })).length, 1);
    assert.equal(await client.threads.count({ metadata: { mark }, status: "interrupted" }), 1);
    const copied = await client.threads.copy(id);
    assert.notEqual(copied.thread_id, id);
    assert.deepEqual(await client.threads.prune([id], { strategy: "keep_latest" }), { pruned_count: 1 });
    await client.threads.delete(copied.thread_id);
    assert.equal(await client.threads.count({ metadata: { mark } }), 1);
    const stream = client.threads.stream({ assistantId: "noop" });
    await stream.run.start({ input });
    assert.deepEqual((await stream.values).items, ["in", "a", "b"]);
    await stream.close();
  },

  async runs() {
    const { thread_id: id } = await client.threads.create();
    const run = await client.runs.create(id, "noop", {
      input, streamMode: ["values", "updates"], streamResumable: true, metadata: { m: 1 }, config: { tags: ["t"] },
      context: { c: 1 }, durability: "sync", multitaskStrategy: "enqueue", ifNotExists: "reject",
    });
    assert.deepEqual(await client.runs.join(id, run.run_id), { items: ["in", "a", "b"] });
    assert.equal((await client.runs.get(id, run.run_id)).status, "success");
    const joined = client.runs.joinStream(id, run.run_id, { lastEventId: "-1", streamMode: "updates" });
    assert.deepEqual((await collect(joined)).map((part) => part.event), ["metadata", "updates", "updates"]);
    const listed = await client.runs.list(id, { limit: 5, offset: 0, status: "success", select: ["run_id"] });
    assert.deepEqual(listed, [{ run_id: run.run_id }]);
    const streamed = await collect(client.runs.stream(id, "ask", { input, streamMode: "values" }));
    assert.ok("__interrupt__" in streamed.at(-1).data);
    const resumed = await client.runs.wait(id, "ask", { command: { resume: "yes" } });
    assert.deepEqual(resumed.items.slice(-2), ["yes", "done"]);
    assert.deepEqual(await client.runs.wait(null, "noop", { input }), { items: ["in", "a", "b"] });
    const batch = [1, 2].map(() => ({ assistantId: "noop", input, onCompletion: "keep" }));
    assert.equal(new Set((await client.runs.createBatch(batch)).map((one) => one.thread_id)).size, 2);
    const later = [];
    for (let i = 0; i < 3; i++) later.push(await client.runs.create(id, "noop", { input, afterSeconds: 600 }));
    await client.runs.cancel(id, later[0].run_id, true, "rollback");
    await assert.rejects(client.runs.get(id, later[0].run_id), /404/);
    await client.runs.cancelMany({ threadId: id, runIds: [later[1].run_id] });
    assert.equal((await client.runs.get(id, later[1].run_id)).status, "interrupted");
    await client.runs.delete(id, later[2].run_id);
    assert.equal((await client.threads.get(id)).status, "idle");
  },

  async crons() {
    const mark = crypto.randomUUID();
    const { thread_id: id } = await client.threads.create();
    const yearly = { schedule: "0 0 1 1 *", metadata: { mark } };
    const ofThread = await client.crons.createForThread(id, "noop", { ...yearly, input, timezone: "Europe/Berlin" });
    const alone = await client.crons.create("noop", { ...yearly, onRunCompleted: "keep", enabled: false });
    const found = await client.crons.search({ metadata: { mark }, sortBy: "created_at", sortOrder: "asc", limit: 5 });
    assert.deepEqual(found.map((cron) => cron.cron_id), [ofThread.cron_id, alone.cron_id]);
    assert.equal((await client.crons.search({ threadId: id, enabled: true })).length, 1);
    const changed = await client.crons.update(ofThread.cron_id, { schedule: "0 0 2 1 *", enabled: false });
    assert.deepEqual([changed.schedule, changed.enabled], ["0 0 2 1 *", false]);
    assert.equal(await client.crons.count({ metadata: { mark } }), 2);
    for (const cron of found) await client.crons.delete(cron.cron_id);
    assert.equal(await client.crons.count({ metadata: { mark } }), 0);
  },

  async store() {
    const space = [crypto.randomUUID(), "notes"];
    await client.store.putItem(space, "k", { text: "hello" }, { index: ["text"], ttl: 60 });
    assert.deepEqual((await client.store.getItem(space, "k", { refreshTtl: false })).value, { text: "hello" });
    const search = { filter: { text: "hello" }, limit: 5, offset: 0, query: "hello" };
    assert.deepEqual((await client.store.searchItems([space[0]], search)).items.map((item) => item.key), ["k"]);
    const listed = await client.store.listNamespaces({ prefix: [space[0]], maxDepth: 2 });
    assert.deepEqual(listed.namespaces, [space]);
    await client.store.deleteItem(space, "k");
    assert.equal(await client.store.getItem(space, "k"), null);
  },

  async "nothing is left out"() {
    assert.deepEqual(parts.flatMap(methods).filter((name) => !called.has(name)), []);
  },
};

await take(steps);
process.exit();
