import { lazy, Suspense, useState } from "react";
import { Failure } from "../parts/basic";
import { useLoad } from "../hooks";
import { client } from "../server";

const JsonEditor = lazy(() => import("../parts/editor"));
const SchemaForm = lazy(() => import("../parts/form"));

export type Settings = { context: any; strategy: string };
export const STRATEGIES = ["reject", "enqueue", "interrupt", "rollback"];

const hasFields = (schema: any) => schema && typeof schema === "object" && Object.keys(schema.properties ?? {}).length > 0;

/** What goes into the next run: text for a chat, a form from the schema of its input, or JSON. */
export function Composer({ assistant, chat, running, send, cancel, settings, setSettings }: {
  assistant: string; chat: boolean; running: boolean; send: (input: any) => void; cancel: () => void;
  settings: Settings; setSettings: (settings: Settings) => void;
}) {
  const [mode, setMode] = useState(chat ? "chat" : "form");
  const [text, setText] = useState("");
  const [json, setJson] = useState("{}");
  const [form, setForm] = useState<any>({});
  const [error, setError] = useState("");
  const [open, setOpen] = useState(false);
  const schemas = useLoad(() => client.assistants.getSchemas(assistant), [assistant]);
  const input: any = schemas.value?.input_schema;
  const context: any = hasFields((schemas.value as any)?.context_schema) ? (schemas.value as any).context_schema : (schemas.value as any)?.config_schema;
  const go = () => {
    setError("");
    if (mode === "chat") {
      if (!text.trim()) return;
      send({ messages: [{ role: "user", content: text }] });
      return setText("");
    }
    if (mode === "form") return send(form);
    try {
      send(JSON.parse(json));
    } catch (failure) {
      setError(`Not JSON: ${(failure as Error).message}`);
    }
  };
  return (
    <form className="composer" onSubmit={(event) => { event.preventDefault(); go(); }}>
      <div className="bar">
        <label>Input <select aria-label="Input" value={mode} onChange={(event) => setMode(event.target.value)}>
          <option value="chat">chat</option><option value="form">form</option><option value="json">JSON</option>
        </select></label>
        <label>If a run is active <select aria-label="If a run is active" value={settings.strategy} onChange={(event) => setSettings({ ...settings, strategy: event.target.value })}>
          {STRATEGIES.map((one) => <option key={one}>{one}</option>)}
        </select></label>
        {hasFields(context) && <button type="button" aria-expanded={open} onClick={() => setOpen(!open)}>Context</button>}
      </div>
      {open && hasFields(context) && (
        <Suspense fallback={null}><SchemaForm schema={context} value={settings.context} change={(value) => setSettings({ ...settings, context: value })} /></Suspense>
      )}
      {mode === "chat" && (
        <textarea aria-label="Message" placeholder="Message; Enter sends, Shift+Enter begins a line" value={text} onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => { if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) { event.preventDefault(); go(); } }} />
      )}
      {mode === "form" && (input ? (
        <Suspense fallback={null}><SchemaForm schema={input} value={form} change={setForm} /></Suspense>
      ) : <p className="empty">{schemas.error || "Loading the schema …"}</p>)}
      {mode === "json" && <Suspense fallback={null}><JsonEditor label="Input as JSON" text={json} change={setJson} /></Suspense>}
      <Failure text={error} />
      <div className="bar">
        <button className="main" type="submit">Send</button>
        {running && <button type="button" className="bad" onClick={cancel}>Cancel the run</button>}
      </div>
    </form>
  );
}
