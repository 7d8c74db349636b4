// A run of the thread, as it happens: what it says, which nodes work, how it ended.
import { useCallback, useEffect, useRef, useState } from "react";
import { client, reason, type Json } from "../server";
import type { ChatMessage } from "../parts/message";

export type Span = { id: string; node: string; begin: number; end?: number; failed?: boolean };
export type Live = {
  runId: string; running: boolean; error: string; messages: ChatMessage[]; values: any; spans: Span[]; custom: Json[];
  began: number; ended?: number; tokens: number; seen: number;
};

const NOTHING: Live = { runId: "", running: false, error: "", messages: [], values: undefined, spans: [], custom: [], began: 0, tokens: 0, seen: 0 };
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
    if (Array.isArray(live.values?.messages) && live.values.messages.some((one: any) => one?.id === piece.id)) return next;
    const at = live.messages.findIndex((one) => one.id === piece.id);
    const chunk = String(piece.type).endsWith("Chunk");
    const merged = at < 0 ? piece : chunk ? { ...live.messages[at], ...piece, content: join(live.messages[at].content, piece.content) } : piece;
    const messages = at < 0 ? [...live.messages, merged] : live.messages.with(at, merged);
    return { ...next, messages, tokens: live.tokens + (chunk ? 1 : 0) };
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
