// A chat page as small as can be: what useStream gives, as text that a test can read.
import React, { useState } from "react";
import { createRoot } from "react-dom/client";
import { useStream } from "@langchain/react";

const query = new URLSearchParams(location.search);

function Chat() {
  const [threadId, setThreadId] = useState(query.get("thread"));
  const stream = useStream({
    assistantId: query.get("graph") ?? "chat",
    apiUrl: query.get("url"),
    transport: query.get("transport") ?? "sse",
    threadId,
    onThreadId: (id) => {
      setThreadId(id);
      query.set("thread", id);
      history.replaceState(null, "", `?${query}`);
    },
  });
  const text = (content) => (typeof content === "string" ? content : content.map((block) => block.text ?? "").join(""));
  return (
    <main>
      <ol id="messages">{stream.messages.map((m, i) => <li key={m.id ?? i}>{`${m.type ?? m.getType()}: ${text(m.content)}`}</li>)}</ol>
      <pre id="values">{JSON.stringify(stream.values)}</pre>
      <ul id="tools">{(stream.toolCalls ?? []).map((c) => <li key={c.callId}>{`${c.name} ${c.status} ${JSON.stringify(c.input)}`}</li>)}</ul>
      <p id="loading">{String(stream.isLoading)}</p>
      <p id="error">{stream.error ? String(stream.error.message ?? stream.error) : ""}</p>
      <ul id="interrupts">{stream.interrupts.map((i) => <li key={i.id}>{JSON.stringify(i.value)}</li>)}</ul>
      <button id="say" onClick={() => void stream.submit(JSON.parse(query.get("input") ?? '{"messages":[{"type":"human","content":"hello from react"}]}'))}>say</button>
      <button id="answer" onClick={() => void stream.respond("yes")}>answer</button>
      <button id="stop" onClick={() => void stream.stop()}>stop</button>
    </main>
  );
}
createRoot(document.getElementById("root")).render(<Chat />);
