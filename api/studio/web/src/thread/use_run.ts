// A run of the thread, as it happens: what it says, which nodes work, how it ended.
import { useCallback, useEffect, useRef, useState } from "react";
import { client, reason, type Json } from "../server";
import type { ChatMessage } from "../parts/message";

export type Span = { id: string; node: string; begin: number; end?: number; failed?: boolean };
export type Live = {
  runId: string; running: boolean; error: string; messages: ChatMessage[]; values: any; spans: Span[]; custom: Json[];
  began: number; ended?: number; tokens: number; seen: number; used: Record<string, { model: string; tokens: Record<string, number> }>;
};

const NOTHING: Live = { runId: "", running: false, error: "", messages: [], values: undefined, spans: [], custom: [], began: 0, tokens: 0, seen: 0, used: {} };
const MODES = ["values", "messages-tuple", "tasks", "custom"] as any;
const MOST_CUSTOM = 200;

function join(before: any, piece: any): any {
  if (typeof before === "string" && typeof piece === "string") return before + piece;
  const list = (one: any) => (Array.isArray(one) ? one : one ? [{ type: "text", text: one }] : []);
  const all = [...list(before)];
  for (const block of list(piece)) {
    const last = all.at(-1);
    if (last && last.type === block.type && last.index === block.index && typeof block.text === "string" && typeof last.text === "string") all[all.length - 1] = { ...last, text: last.text + block.text };
    else all.push(block);
  }
  return all;
}

/** `client:node` of the graph drawn with its subgraphs, from the event's namespace. */
function nodeOf(event: string, name: string): string {
  const inside = event.split("|").slice(1).map((part) => part.split(":")[0]);
  return [...inside, name].join(":");
}

/** What a message, or a piece of one, tells of the tokens it took. Pieces add up; a whole message has the sum. */
function counted(live: Live, piece: ChatMessage, metadata: any, chunk: boolean): Live["used"] {
  const told = piece.usage_metadata as any;
  if (!told || typeof told !== "object") return live.used;
  const before = chunk ? live.used[piece.id!]?.tokens : undefined;
  const said = (piece as any).response_metadata;
  const sum = (kind: string, count: unknown) => (before?.[kind] ?? 0) + (typeof count === "number" ? count : 0);
  const tokens = {
    input_tokens: sum("input_tokens", told.input_tokens), output_tokens: sum("output_tokens", told.output_tokens), total_tokens: sum("total_tokens", told.total_tokens),
    cache_read_tokens: sum("cache_read_tokens", told.input_token_details?.cache_read),
  };
  const model = String(said?.model_name ?? said?.model ?? metadata?.ls_model_name ?? live.used[piece.id!]?.model ?? "unknown");
  return { ...live.used, [piece.id!]: { model, tokens } };
}

export function apply(live: Live, event: string, data: any): Live {
  const kind = event.split("|")[0];
  const next = { ...live, seen: live.seen + 1 };
  if (kind === "metadata") return { ...next, runId: data.run_id ?? live.runId };
  if (kind === "error") return { ...next, error: data?.message || data?.error || JSON.stringify(data) };
  if (kind === "values" && !event.includes("|")) {
    const kept = new Set((Array.isArray(data?.messages) ? data.messages : []).map((one: any) => one?.id));
    return { ...next, values: data, messages: live.messages.filter((message) => !kept.has(message.id)) };
  }
  if (kind === "custom") return { ...next, custom: [...live.custom, data].slice(-MOST_CUSTOM) };
  if (kind === "messages" && Array.isArray(data) && data[0]?.id) {
    const piece = data[0] as ChatMessage;
    const chunk = String(piece.type).endsWith("Chunk");
    const used = counted(live, piece, data[1], chunk);
    if (Array.isArray(live.values?.messages) && live.values.messages.some((one: any) => one?.id === piece.id)) return { ...next, used };
    const at = live.messages.findIndex((one) => one.id === piece.id);
    const merged = at < 0 ? piece : chunk ? { ...live.messages[at], ...piece, content: join(live.messages[at].content, piece.content) } : piece;
    const messages = at < 0 ? [...live.messages, merged] : live.messages.with(at, merged);
    return { ...next, messages, used, tokens: live.tokens + (chunk ? 1 : 0) };
  }
  if (kind === "tasks" && data?.id) {
    const at = live.spans.findIndex((span) => span.id === data.id);
    const now = performance.now();
    if (at < 0) return { ...next, spans: [...live.spans, { id: data.id, node: nodeOf(event, data.name), begin: now }] };
    return { ...next, spans: live.spans.with(at, { ...live.spans[at], end: now, failed: Boolean(data.error) }) };
  }
  return next;
}

export function useRun(threadId: string, ended: () => void) {
  const [live, setLive] = useState(NOTHING);
  const state = useRef(NOTHING);
  const drawing = useRef(0);
  const stop = useRef<AbortController | null>(null);
  const tell = useRef(ended);
  tell.current = ended;

  // However fast tokens come, the page is drawn once per frame.
  const show = useCallback((now: Live) => {
    state.current = now;
    drawing.current ||= requestAnimationFrame(() => {
      drawing.current = 0;
      setLive(state.current);
    });
  }, []);

  const follow = useCallback(async (open: (signal: AbortSignal) => AsyncIterable<any>, runId = "") => {
    stop.current?.abort();
    const mine = new AbortController();
    stop.current = mine;
    show({ ...NOTHING, runId, running: true, began: performance.now() });
    let error = "";
    try {
      for await (const part of open(mine.signal)) {
        if (mine.signal.aborted) return;
        show(apply(state.current, String(part.event), part.data));
      }
    } catch (failure) {
      error = reason(failure);
    }
    if (stop.current !== mine) return;
    show({ ...state.current, running: false, ended: performance.now(), error: state.current.error || error });
    tell.current();
  }, [show]);

  const start = useCallback((assistant: string, payload: any) => follow((signal) =>
    client.runs.stream(threadId, assistant, {
      ...payload, streamMode: MODES, streamSubgraphs: true, streamResumable: true, onDisconnect: "continue", signal,
    }) as AsyncIterable<any>), [threadId, follow]);

  const watch = useCallback((runId: string) => follow((signal) =>
    client.runs.joinStream(threadId, runId, { signal, lastEventId: "-1", streamMode: MODES } as any) as AsyncIterable<any>, runId), [threadId, follow]);

  /** Forgets what the run has streamed: the state has it now. When its nodes worked stays. */
  const settle = useCallback(() => {
    if (!state.current.running) show({ ...state.current, messages: [], values: undefined });
  }, [show]);

  useEffect(() => () => {
    stop.current?.abort();
    stop.current = null;
    cancelAnimationFrame(drawing.current);
  }, []);

  return { live, start, watch, settle };
}
