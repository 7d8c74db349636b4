import { lazy, memo, Suspense } from "react";
import { JsonView } from "./json";

const Markdown = lazy(() => import("./markdown"));

/** A chat message as LangChain's messages are in JSON. */
export type ChatMessage = { id?: string; type?: string; role?: string; name?: string; content?: any; tool_calls?: any[]; tool_call_id?: string; status?: string; usage_metadata?: any };

export function isMessages(value: unknown): value is ChatMessage[] {
  return Array.isArray(value) && value.length > 0 && value.every((one) => one && typeof one === "object" && "content" in one && ("type" in one || "role" in one));
}

const IMAGE = /^data:image\/(png|jpeg|gif|webp);base64,/;

function Block({ block }: { block: any }) {
  if (typeof block === "string") return <Text text={block} />;
  if (block?.type === "text" && typeof block.text === "string") return <Text text={block.text} />;
  const thought = block?.reasoning ?? block?.thinking;
  if (typeof thought === "string") return <details className="reasoning"><summary>reasoning</summary><Text text={thought} /></details>;
  const url = block?.image_url?.url ?? block?.url ?? (block?.data && block?.mime_type ? `data:${block.mime_type};base64,${block.data}` : block?.base64 && block?.mime_type ? `data:${block.mime_type};base64,${block.base64}` : "");
  if (typeof url === "string" && IMAGE.test(url)) return <img src={url} alt="in the message" />;
  if (typeof url === "string" && url.startsWith("data:")) return <a href={url} download={block.filename ?? "file"}>{block.filename ?? "file"} ({block.mime_type ?? "data"})</a>;
  if (block?.type === "tool_use" || block?.type === "input_json_delta" || block?.type === "tool_call") return null; // among the tool calls
  return <JsonView value={block} open={1} />;
}

const Text = ({ text }: { text: string }) => <Suspense fallback={<p>{text}</p>}><Markdown text={text} /></Suspense>;

export const Message = memo(function Message({ message, live = false }: { message: ChatMessage; live?: boolean }) {
  const type = String(message.type ?? message.role ?? "message").replace("MessageChunk", "").replace("AI", "ai");
  const who = type === "user" ? "human" : type === "assistant" ? "ai" : type;
  const content = Array.isArray(message.content) ? message.content : [message.content ?? ""];
  return (
    <article className={`message ${who}`} aria-label={`${who} message`} aria-busy={live}>
      <div className="who"><span>{who}{message.name ? ` · ${message.name}` : ""}</span>{message.status === "error" && <span>failed</span>}
        {message.usage_metadata?.total_tokens ? <span>{message.usage_metadata.total_tokens} tokens</span> : null}</div>
      {content.map((block, index) => <Block key={index} block={block} />)}
      {(message.tool_calls ?? []).map((call: any, index: number) => (
        <div className="call" key={call.id ?? index}><b>{String(call.name)}</b> <JsonView value={call.args} open={1} /></div>
      ))}
    </article>
  );
});
