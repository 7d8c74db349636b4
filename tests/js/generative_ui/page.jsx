// A page that shows what the agent shows: LoadExternalComponent for each message of `values.ui`.
import React, { useState } from "react";
import { createRoot } from "react-dom/client";
import { useStream } from "@langchain/langgraph-sdk/react";
import { LoadExternalComponent, uiMessageReducer } from "@langchain/langgraph-sdk/react-ui";

const query = new URLSearchParams(location.search);

function Page() {
  const [threadId, setThreadId] = useState(query.get("thread"));
  const stream = useStream({
    apiUrl: query.get("url"),
    assistantId: query.get("assistant"),
    threadId,
    onThreadId: (id) => {
      setThreadId(id);
      query.set("thread", id);
      history.replaceState(null, "", `?${query}`);
    },
    onCustomEvent: (event, { mutate }) => mutate((before) => ({ ...before, ui: uiMessageReducer(before.ui ?? [], event) })),
  });
  return (
    <main>
      <button id="say" onClick={() => stream.submit({ messages: [{ type: "human", content: "Oslo" }] })}>say</button>
      {(stream.values.ui ?? []).map((ui) => <LoadExternalComponent key={ui.id} stream={stream} message={ui} meta={{ ui }} className="shown" />)}
    </main>
  );
}

createRoot(document.getElementById("root")).render(<Page />);
