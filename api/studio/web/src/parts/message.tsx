import { lazy, memo, Suspense } from "react";
import { JsonView } from "./json";
import { Media, mediaOf, thoughtOf } from "./media";

const Markdown = lazy(() => import("./markdown"));

/** A chat message as LangChain's messages are in JSON. */
export type ChatMessage = { id?: string; type?: string; role?: string; name?: string; content?: any; tool_calls?: any[]; tool_call_id?: string; status?: string; usage_metadata?: any; additional_kwargs?: any };

export function isMessages(value: unknown): value is ChatMessage[] {
  return Array.isArray(value) && value.length > 0 && value.every((one) => one && typeof one === "object" && "content" in one && ("type" in one || "role" in one));
}

const CALLS = ["tool_use", "input_json_delta", "tool_call", "tool_call_chunk", "function_call"]; // shown among the tool calls

function Block({ block }: { block: any }) {
  if (typeof block === "string") return <Text text={block} />;
  if ((block?.type === "text" || block?.type === "output_text") && typeof block.text === "string") return <Text text={block.text} />;
  const thought = thoughtOf(block);
  if (thought) return <Reasoning text={thought} />;
  const media = mediaOf(block);
  if (media) return <Media {...media} />;
  if (CALLS.includes(block?.type)) return null;
  return <JsonView value={block} open={1} />;
}

const Reasoning = ({ text }: { text: string }) => <details className="reasoning"><summary>reasoning</summary><Text text={text} /></details>;

const Text = ({ text }: { text: string }) => <Suspense fallback={<p>{text}</p>}><Markdown text={text} /></Suspense>;

export const Message = memo(function Message({ message, live = false }: { message: ChatMessage; live?: boolean }) {
  const type = String(message.type ?? message.role ?? "message").replace("MessageChunk", "").replace("AI", "ai");
  const who = type === "user" ? "human" : type === "assistant" ? "ai" : type;
  const content = Array.isArray(message.content) ? message.content : [message.content ?? ""];
  const reasoning = message.additional_kwargs?.reasoning_content;
  return (
    <article className={`message ${who}`} aria-label={`${who} message`} aria-busy={live}>
      <div className="who"><span>{who}{message.name ? ` · ${message.name}` : ""}</span>{message.status === "error" && <span>failed</span>}
        {message.usage_metadata?.total_tokens ? <span>{message.usage_metadata.total_tokens} tokens</span> : null}</div>
      {typeof reasoning === "string" && reasoning && <Reasoning text={reasoning} />}
      {content.map((block, index) => <Block key={index} block={block} />)}
      {(message.tool_calls ?? []).map((call: any, index: number) => (
        <div className="call" key={call.id ?? index}><b>{String(call.name)}</b> <JsonView value={call.args} open={1} /></div>
      ))}
    </article>
  );
});
