// A chat page as small as can be, by each of the libraries that people build theirs with (`?library=`): what it shows is
// text that a test can read.
import React, { useMemo, useState } from "react";
import { createRoot } from "react-dom/client";
import { AssistantRuntimeProvider, MessagePrimitive, ThreadPrimitive } from "@assistant-ui/react";
import { unstable_createLangGraphStream, useLangGraphRuntime } from "@assistant-ui/react-langgraph";
import { Client } from "@langchain/langgraph-sdk";
import { useStream as useRunStream } from "@langchain/langgraph-sdk/react";
import { useStream } from "@langchain/react";

const query = new URLSearchParams(location.search);
const assistantId = query.get("graph") ?? "chat";
const apiUrl = query.get("url");
const input = () => JSON.parse(query.get("input") ?? '{"messages":[{"type":"human","content":"hello from react"}]}');
const text = (content) => (typeof content === "string" ? content : content.map((block) => block.text ?? "").join(""));

function useThreadId() {
  const [threadId, setThreadId] = useState(query.get("thread"));
  const onThreadId = (id) => {
    setThreadId(id);
    query.set("thread", id);
    history.replaceState(null, "", `?${query}`);
  };
  return { threadId, onThreadId };
}

function Shown({ stream, interrupts, say, answer }) {
  return (
    <main>
      <ol id="messages">{stream.messages.map((m, i) => <li key={m.id ?? i}>{`${m.type ?? m.getType()}: ${text(m.content)}`}</li>)}</ol>
      <pre id="values">{JSON.stringify(stream.values)}</pre>
      <ul id="tools">{(stream.toolCalls ?? []).map((c) => <li key={c.callId ?? c.id}>{`${c.name} ${c.status} ${JSON.stringify(c.input)}`}</li>)}</ul>
      <p id="loading">{String(stream.isLoading)}</p>
      <p id="error">{stream.error ? String(stream.error.message ?? stream.error) : ""}</p>
      <ul id="interrupts">{interrupts.map((i) => <li key={i.id}>{JSON.stringify(i.value)}</li>)}</ul>
      <button id="say" onClick={() => void say()}>say</button>
      <button id="answer" onClick={() => void answer("yes")}>answer</button>
      <button id="stop" onClick={() => void stream.stop()}>stop</button>
    </main>
  );
}

// The event-streaming protocol: @langchain/react.
function Chat() {
  const stream = useStream({ assistantId, apiUrl, transport: query.get("transport") ?? "sse", ...useThreadId() });
  return <Shown stream={stream} interrupts={stream.interrupts} say={() => stream.submit(input())} answer={(value) => stream.respond(value)} />;
}

// Streams of runs: @langchain/langgraph-sdk/react, which came before.
function RunChat() {
  const stream = useRunStream({ assistantId, apiUrl, reconnectOnMount: true, ...useThreadId() });
  const options = { streamResumable: true, onDisconnect: "continue", streamMode: ["values", "messages-tuple"] };
  return (
    <Shown
      stream={stream}
      interrupts={stream.interrupt ? [stream.interrupt] : []}
      say={() => stream.submit(input(), options)}
      answer={(resume) => stream.submit(undefined, { ...options, command: { resume } })}
    />
  );
}

const Tool = ({ toolName, args, result }) => <>{` ${toolName} ${JSON.stringify(args)} ${result} `}</>;
const parts = { Text: ({ text }) => <>{text}</>, tools: { Fallback: Tool } };
const Said = ({ role }) => <li>{`${role}: `}<MessagePrimitive.Parts components={parts} /></li>;
const components = { UserMessage: () => <Said role="human" />, AssistantMessage: () => <Said role="ai" /> };

// assistant-ui, which streams runs by the JavaScript client.
function Assistant() {
  const client = useMemo(() => new Client({ apiUrl }), []);
  const runtime = useLangGraphRuntime({
    stream: unstable_createLangGraphStream({ client, assistantId, onDisconnect: "continue" }),
    create: async () => {
      const { thread_id: externalId } = await client.threads.create();
      return { externalId };
    },
  });
  const say = () => runtime.thread.append({ role: "user", content: [{ type: "text", text: text(input().messages[0].content) }] });
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ol id="messages"><ThreadPrimitive.Messages components={components} /></ol>
      <p id="loading"><ThreadPrimitive.If running>true</ThreadPrimitive.If><ThreadPrimitive.If running={false}>false</ThreadPrimitive.If></p>
      <button id="say" onClick={() => void say()}>say</button>
    </AssistantRuntimeProvider>
  );
}

const Page = { runs: RunChat, assistant: Assistant }[query.get("library")] ?? Chat;
createRoot(document.getElementById("root")).render(<Page />);
