// What the log has of the thread, read page by page and followed while the page is open.
import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { add, type Usage } from "../parts/spent";
import { askPage, reason, watched } from "../server";
import type { Span } from "./use_run";

export type LogEvent = { id: string; partition: number; offset: number; index: number; at: string; command_id: string; actor: string | null; type: string; event: any };
export type Events = { events: LogEvent[]; error: string; complete: boolean };

const PAGE = 1000;
const END = /^run\.(succeeded|failed|timed_out|interrupted|stopped|rolled_back|lease_expired|released|deleted|refused)$/;
const LOOK_EVERY_MS = 1500;

export function useEvents(threadId: string): Events {
  const restored = useSyncExternalStore(watched.subscribe, watched.restored);
  const [state, setState] = useState<Events>({ events: [], error: "", complete: false });
  const after = useRef("");
  const busy = useRef(false);
  const read = useCallback(async (current: () => boolean) => {
    if (busy.current) return;
    busy.current = true;
    try {
      for (let more = true; more && current(); ) {
        const page = await askPage<LogEvent[]>(`/threads/${threadId}/events?limit=${PAGE}${after.current ? `&after=${after.current}` : ""}`);
        if (!current()) return;
        after.current = page.next ?? page.rows.at(-1)?.id ?? after.current;
        more = page.next !== null;
        if (page.rows.length || !more) {
          setState((now) => page.rows.length || now.error || !now.complete ? { events: [...now.events, ...page.rows], error: "", complete: !more } : now);
        }
      }
    } catch (failure) {
      if (current()) setState((now) => ({ ...now, error: reason(failure), complete: true }));
    } finally {
      busy.current = false;
    }
  }, [threadId]);
  useEffect(() => {
    let open = true;
    void read(() => open);
    const timer = setInterval(() => !document.hidden && void read(() => open), LOOK_EVERY_MS);
    return () => {
      open = false;
      clearInterval(timer);
    };
  }, [read, restored]);
  return state;
}

/** The checkpoint that was the thread's newest when this event had happened; "": there was none yet. */
export function checkpointAt(events: LogEvent[], index: number): string {
  for (let at = Math.min(index, events.length - 1); at >= 0; at--) {
    const { type, event } = events[at];
    if (type === "checkpoint.saved" && !event.ns) return event.checkpoint_id;
  }
  return "";
}

/** Where an event with this id is; -1: it is not there (yet). */
export const indexOf = (events: LogEvent[], id: string) => events.findIndex((one) => one.id === id);

/** `run`: the run that it is of. */
export type Bar = { key: string; label: string; begin: number; end?: number; failed?: boolean; run?: string };

/** The runs of the thread in time: how long each waited, its attempts, and between which times it made each step. */
export function barsOf(events: LogEvent[]): Bar[] {
  const bars: Bar[] = [];
  const open = new Map<string, Bar>();
  const begin = (key: string, label: string, at: number) => {
    const bar: Bar = { key: `${key} ${bars.length}`, label, begin: at, run: key.split(" ")[1] };
    bars.push(bar);
    open.set(key, bar);
  };
  const end = (key: string, at: number, failed = false) => {
    const bar = open.get(key);
    if (bar) Object.assign(bar, { end: at, failed });
    open.delete(key);
  };
  const planned = new Map<string, string[]>(); // the nodes that are to run after a checkpoint
  for (const { type, event, at } of events) {
    const run = String(event.run_id ?? event.job_id ?? "");
    // What an executor reports in one record happened one after the other: it says when.
    const time = +new Date((type === "run.started" && event.at) || (type === "checkpoint.saved" && event.checkpoint?.ts) || at);
    const short = run.slice(-6);
    if (type === "run.created") begin(`wait ${run}`, `${short} waits`, time);
    else if (type === "tasks.planned" && !event.ns) planned.set(event.checkpoint_id, (event.tasks ?? []).map((task: any) => task.name));
    else if (type === "run.started") {
      end(`wait ${run}`, time);
      begin(`attempt ${run}`, `${short} attempt ${event.attempt ?? ""}`, time);
      begin(`step ${run}`, `${short} begins`, time);
    } else if (type === "checkpoint.saved" && !event.ns) {
      const step = open.get(`step ${run}`);
      if (!step) continue;
      const nodes = planned.get(event.parent_id);
      if (nodes?.length) step.label = `${short} ${nodes.join(", ")}`;
      end(`step ${run}`, time);
      begin(`step ${run}`, `${short} after step ${event.metadata?.step ?? ""}`, time);
    } else if (END.test(type)) {
      const failed = type !== "run.succeeded" && type !== "run.interrupted" && type !== "run.stopped";
      for (const key of [`wait ${run}`, `attempt ${run}`, `step ${run}`]) end(key, time, failed);
    }
  }
  return bars.filter((bar) => bar.end === undefined || bar.end > bar.begin);
}

/** What the runs of these events have used, by model, as their ends tell it. */
export function usageOf(events: LogEvent[]): Usage {
  const usage: Usage = {};
  for (const { event } of events) add(usage, event.usage);
  return usage;
}

/** `outer:inner:node`, as in the graph that is drawn with its subgraphs. */
const nodeIn = (ns: unknown, name: string) => [...String(ns ?? "").split("|").filter(Boolean).map((part) => part.split(":")[0]), name].join(":");

/** Which nodes of the run that was under way at this event had worked, worked, or were next. */
export function lightsAt(events: LogEvent[], index: number): { spans: Span[]; next: string[] } {
  let begin = Math.min(index, events.length - 1);
  if (begin < 0) return { spans: [], next: [] };
  while (begin > 0 && events[begin].type !== "run.started") begin -= 1;
  const run = events[begin].event.run_id;
  const planned = new Map<string, string>(); // a run may begin with what was planned before it
  const spans = new Map<string, Span>();
  let going = true;
  for (let at = 0; at <= index && at < events.length; at++) {
    const { type, event } = events[at];
    if (type === "tasks.planned") for (const task of event.tasks ?? []) planned.set(task.id, nodeIn(event.ns, task.name));
    if (at < begin || event.run_id !== run) continue;
    if (type === "tasks.planned") {
      for (const task of event.tasks ?? []) if (!spans.has(task.id)) spans.set(task.id, { id: task.id, node: nodeIn(event.ns, task.name), begin: at });
    } else if (type === "writes.saved" && planned.has(event.task_id)) {
      const channels = (event.writes ?? []).map((write: any) => write?.[1]);
      const span = spans.get(event.task_id) ?? { id: event.task_id, node: planned.get(event.task_id)!, begin: at };
      spans.set(span.id, channels.includes("__interrupt__") ? span : { ...span, end: at, failed: channels.includes("__error__") });
    } else if (END.test(type)) going = false;
  }
  const all = [...spans.values()];
  return going ? { spans: all, next: [] } : { spans: all.filter((span) => span.end !== undefined), next: all.filter((span) => span.end === undefined).map((span) => span.node) };
}
