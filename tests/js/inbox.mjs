// Asks a server what the Agent Inbox asks one (langchain-ai/agent-inbox, which is not published as a package), in its order and
// with its arguments: node inbox.mjs <url>
import assert from "node:assert/strict";
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2], defaultHeaders: {} });
const END = "__end__";
const OPTIONS = ["accept", "edit", "respond", "ignore"];

async function step(name, body) {
  await body();
  console.log(`ok ${name}`);
}

async function asked(graph, words = "") {
  const { thread_id } = await client.threads.create({ graphId: graph });
  await client.runs.wait(thread_id, graph, { input: { messages: [{ role: "user", content: words }] } });
  return thread_id;
}

/** The questions of a thread, as the inbox reads them from what the search returns. */
const questions = (thread) => Object.values(thread.interrupts).flat().flatMap((one) => one.value);

/** What it does after a click: it follows the run's events, then looks at the thread again. */
async function answer(thread_id, graph, response) {
  const nodes = new Set();
  for await (const chunk of client.runs.stream(thread_id, graph, { command: { resume: [response] }, streamMode: "events" })) {
    assert.notEqual(chunk.event, "error");
    if (chunk.data?.event === "on_chain_start" && chunk.data?.metadata?.langgraph_node) nodes.add(chunk.data.metadata.langgraph_node);
  }
  const thread = await client.threads.get(thread_id);
  assert.equal(thread.status, "idle");
  assert.deepEqual(thread.interrupts, {});
  return { nodes: [...nodes], said: JSON.parse(thread.values.messages.at(-1).content.replace("The answer: ", "")) };
}

let first;
await step("the server says what it is", async () => {
  const info = await (await fetch(`${process.argv[2]}/info`)).json();
  assert.ok(info.version && info.host);
});

await step("what waits is found by its status and graph, page by page", async () => {
  for (let n = 0; n < 3; n++) first = await asked("inbox");
  const idle = (await client.threads.create({ graphId: "inbox" })).thread_id;
  const page = async (offset, status) => await client.threads.search({ offset, limit: 2, ...(status ? { status } : {}), metadata: { graph_id: "inbox" } });
  const [one, two] = [await page(0, "interrupted"), await page(2, "interrupted")];
  assert.equal(one.length, 2);
  assert.equal(new Set([...one, ...two].map((thread) => thread.thread_id)).size, one.length + two.length);
  assert.ok([...one, ...two].every((thread) => thread.status === "interrupted"));
  assert.equal((await page(0))[0].thread_id, idle);
  const [found] = one;
  assert.equal(found.thread_id, first);
  const [question] = questions(found);
  assert.equal(question.action_request.action, "send_email");
  assert.deepEqual(question.config, Object.fromEntries(OPTIONS.map((option) => [`allow_${option}`, true])));
  assert.match(question.description, /review/);
  const [assistant] = await client.assistants.search({ graphId: "inbox", limit: 1 });
  const of = await client.threads.search({ limit: 1, status: "interrupted", metadata: { assistant_id: assistant.assistant_id } });
  assert.equal(of[0].thread_id, first);
});

await step("the state has the question with the task that asks", async () => {
  const state = await client.threads.getState(first);
  const [question] = state.tasks.at(-1).interrupts.at(-1).value;
  assert.equal(question.action_request.args.to, "ann@example.com");
});

const EMAIL = { action: "send_email", args: { to: "bob@example.com" } };
for (const [type, args] of [["accept", null], ["edit", EMAIL], ["response", "rather not"]]) {
  await step(`a person answers: ${type}`, async () => {
    const { nodes, said } = await answer(await asked("inbox"), "inbox", { type, args });
    assert.deepEqual(nodes, ["ask"]);
    assert.deepEqual(said, [{ type, args }]);
  });
}

await step("a person ignores, without waiting for the run", async () => {
  const thread = await asked("inbox");
  const run = await client.runs.create(thread, "inbox", { command: { resume: [{ type: "ignore", args: null }] } });
  await client.runs.join(thread, run.run_id);
  assert.match((await client.threads.get(thread)).values.messages.at(-1).content, /"ignore"/);
});

await step("a thread is marked as resolved: nothing is left to run", async () => {
  await client.threads.updateState(first, { values: null, asNode: END });
  const thread = await client.threads.get(first);
  assert.equal(thread.status, "idle");
  assert.deepEqual((await client.threads.getState(first)).next, []);
  const waiting = await client.threads.search({ limit: 100, status: "interrupted", metadata: { graph_id: "inbox" } });
  assert.ok(!waiting.some((one) => one.thread_id === first));
});

await step("questions of LangChain's middleware are there, too", async () => {
  const thread = await client.threads.get(await asked("approvals"));
  const [question] = questions(thread);
  assert.deepEqual(question.action_requests.map((one) => one.name), ["send_email", "delete_file"]);
  assert.deepEqual(question.review_configs[1], { action_name: "delete_file", allowed_decisions: ["approve", "reject"] });
});
