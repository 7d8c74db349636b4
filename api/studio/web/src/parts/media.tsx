// Pictures, sounds and files in messages, and thoughts, in the forms that LangChain and the providers of models have for them.

export type MediaBlock = { url: string; kind: string; name: string };

const SHOWN = /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*$/;
const KINDS: Record<string, string> = { image_url: "image", input_image: "image", image: "image", audio: "audio", input_audio: "audio", video: "video", file: "file", input_file: "file", document: "file" };

const text = (value: any) => (typeof value === "string" ? value : "");

/** What a block holds or points to; null: none of these. */
export function mediaOf(block: any): MediaBlock | null {
  const kind = KINDS[block?.type];
  if (!kind) return null;
  const inner = [block.image_url, block.file, block.input_audio, block.source, block].find((one) => one && typeof one === "object");
  const mime = text(block.mime_type || inner.mime_type || inner.media_type) || (kind === "image" ? "image/png" : "application/octet-stream");
  const data = text(block.base64 || block.data || inner.base64 || inner.data);
  const url = text(block.image_url) || text(block.file_data) || text(inner.file_data) || text(inner.url) || text(block.url) || (data && `data:${mime};base64,${data}`);
  return url ? { url, kind, name: text(block.filename || block.metadata?.filename || block.metadata?.name || inner.filename) } : null;
}

/** What a block says that the model thought; empty: it is none. */
export function thoughtOf(block: any): string {
  const summary = Array.isArray(block?.summary) ? block.summary.map((one: any) => text(one?.text)).join("\n\n") : "";
  return text(block?.reasoning) || text(block?.thinking) || (block?.type === "reasoning" ? summary : "");
}

/** A picture that the message contains; a link to what is elsewhere, which is loaded by a click alone; anything else as its text. */
export function Media({ url, kind, name }: MediaBlock) {
  if (kind === "image" && SHOWN.test(url)) return <img src={url} alt={name || "in the message"} />;
  const mime = url.match(/^data:([\w.+-]+\/[\w.+-]+)?[;,]/)?.[1];
  if (url.startsWith("data:")) return <a className="media" href={url} download={name || kind}>{name || kind} ({mime ?? "data"})</a>;
  if (/^https?:\/\//i.test(url)) return <a className="media" href={url} target="_blank" rel="noreferrer noopener">{name || kind}: {url}</a>;
  return <code>[{kind} {url.slice(0, 200)}]</code>;
}
