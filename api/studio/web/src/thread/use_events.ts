// What the log has of the thread, read page by page and followed while the page is open.
import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { askPage, reason, watched } from "../server";

export type LogEvent = { id: string; partition: number; offset: number; index: number; at: string; command_id: string; actor: string | null; type: string; event: any };
export type Events = { events: LogEvent[]; error: string; complete: boolean };

const PAGE = 1000;
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
  for (const { type, event, at } of events) {
    const time = +new Date(at);
    const run = String(event.run_id ?? event.job_id ?? "");
    const short = run.slice(-6);
    if (type === "run.created") begin(`wait ${run}`, `${short} waits`, time);
    else if (type === "run.started") {
      end(`wait ${run}`, time);
      begin(`attempt ${run}`, `${short} attempt ${event.attempt ?? ""}`, time);
      begin(`step ${run}`, `${short} begins`, time);
    } else if (type === "checkpoint.saved" && !event.ns) {
      const step = open.get(`step ${run}`);
      if (step) {
        step.label = `${short} step ${event.metadata?.step ?? ""}`;
        end(`step ${run}`, time);
        begin(`step ${run}`, `${short} after step ${event.metadata?.step ?? ""}`, time);
      }
    } else if (/^run\.(succeeded|failed|timed_out|interrupted|stopped|rolled_back|lease_expired|released|deleted|refused)$/.test(type)) {
      const failed = type !== "run.succeeded" && type !== "run.interrupted" && type !== "run.stopped";
      for (const key of [`wait ${run}`, `attempt ${run}`, `step ${run}`]) end(key, time, failed);
    }
  }
  return bars.filter((bar) => bar.end === undefined || bar.end > bar.begin);
}

/** Tokens that the runs of these events used, as their ends tell them. */
export function tokensOf(events: LogEvent[]): number {
  let total = 0;
  for (const { event } of events) for (const used of Object.values(event.usage ?? {}) as any[]) total += used?.total_tokens ?? 0;
  return total;
}
