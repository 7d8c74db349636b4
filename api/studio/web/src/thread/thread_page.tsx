import { lazy, Suspense, useEffect, useMemo, useRef, useState } from "react";
import { Badge, Failure, Fallback, Id, Tabs } from "../parts/basic";
import { CopyJson, JsonView } from "../parts/json";
import { isMessages, Message, type ChatMessage } from "../parts/message";
import { link, useLoad } from "../hooks";
import { ask, client, reason } from "../server";
import { Composer, type Settings } from "./composer";
import { Counters } from "./counters";
import { HistoryTree, StateView } from "./history";
import { Interrupts, type Interrupt } from "./interrupts";
import { checkpointOf } from "./states";
import { useRun } from "./use_run";
import type { Stops } from "./graph";
import { Scrubber } from "./scrubber";
import { barsOf, checkpointAt, indexOf, lightsAt, usageOf, useEvents } from "./use_events";
import { barsOfNodes, Waterfall } from "./waterfall";

const GraphView = lazy(() => import("./graph"));
const EventLog = lazy(() => import("./event_log"));

/** Before the first checkpoint. */
const EMPTY = { values: {}, next: [], tasks: [], metadata: {} };
const VIEWS = ["Graph", "State", "Log", "Steps"];
const MOST_STATES = 1000;
const MOST_BARS = 300;

/** What is looked at: an event of the log, or a checkpoint of the tree. */
type Moment = { event: number | null; checkpoint: string };
const NOW: Moment = { event: null, checkpoint: "" };
const SHOWN_MESSAGES = 100;

export default function ThreadPage({ id, tab, at }: { id: string; tab: string; at: string }) {
  const thread = useLoad(() => client.threads.get(id), [id]);
  const state = useLoad(() => client.threads.getState(id), [id]);
  const history = useLoad(() => ask<any[]>("POST", `/threads/${id}/history`, { limit: MOST_STATES }), [id]);
  const assistants = useLoad(() => client.assistants.search({ limit: 1000, sortBy: "created_at", sortOrder: "asc" }) as Promise<any[]>, []);
  const [assistant, setAssistant] = useState("");
  const [view, setView] = useState(VIEWS[0]);
  const [stops, setStops] = useState<Stops>({ before: [], after: [] });
  const [settings, setSettings] = useState<Settings>({ context: {}, strategy: "enqueue" });
  const [moment, setMoment] = useState<Moment>(NOW);
  const [error, setError] = useState("");
  const reload = () => {
    thread.reload();
    state.reload();
    history.reload();
  };
  const { live, start, watch, settle } = useRun(id, reload);
  useEffect(() => {
    if (state.value) settle();
  }, [state.value]);

  const of = thread.value?.metadata as any;
  const chosen = assistant || of?.assistant_id || (thread.value && assistants.value?.[0]?.assistant_id) || ""; // not before the thread says which
  useEffect(() => {
    client.runs.list(id, { status: "running", limit: 1 } as any).then(([run]) => run && watch(run.run_id), () => {});
  }, [id]);

  const log = useEvents(id);
  // What a cancelled run had stored comes when its executor has stopped, which may be after its stream has ended.
  const stopped = useMemo(() => log.events.filter((one) => one.type === "run.stopped").length, [log.events]);
  useEffect(() => {
    if (stopped && !live.running) reload();
  }, [stopped]);
  const bars = useMemo(() => (view === "Steps" ? barsOf(log.events) : []), [view, log.events]);
  const logged = useMemo(() => usageOf(log.events), [log.events]);
  const lookedAt = moment !== NOW;
  const known = lookedAt ? history.value?.find((one) => checkpointOf(one) === moment.checkpoint) : undefined;
  const fetched = useLoad(async () => (lookedAt && !known && moment.checkpoint ? ask("GET", `/threads/${id}/state/${moment.checkpoint}`) : undefined), [moment.checkpoint, !known]);
  const past: any = lookedAt ? (known ?? fetched.value ?? EMPTY) : undefined;
  const goTo = (event: number | null) => setMoment(event === null ? NOW : { event, checkpoint: checkpointAt(log.events, event) });
  // An address may lead to an event in the log, or to the moment when it had happened.
  useEffect(() => {
    if (tab === "log") setView("Log");
    if (tab === "checkpoint") {
      setMoment({ event: null, checkpoint: at });
      setView("State");
    }
    if (tab !== "moment" || !log.complete) return;
    const there = indexOf(log.events, at);
    if (there >= 0) goTo(there);
    else setError(`The log of this thread has no event ${at}.`);
    setView("State");
  }, [tab, at, log.complete]);
  const values: any = past ? past.values : live.running && live.values !== undefined ? live.values : state.value?.values;
  const waiting: Interrupt[] = useMemo(() => (state.value?.tasks ?? []).flatMap((task: any) => task.interrupts ?? []), [state.value]);
  const run = async (payload: any) => {
    setError("");
    setMoment(NOW);
    const limits = { interruptBefore: stops.before, interruptAfter: stops.after };
    const given = Object.keys(settings.context ?? {}).length ? { context: settings.context } : {};
    await start(chosen, { ...payload, ...given, ...limits, multitaskStrategy: settings.strategy });
  };
  // Of a moment of the log the log tells which nodes had worked; so it does of the last run of a thread that was just opened.
  const told = useMemo(() => {
    if (view !== "Graph" || (live.spans.length && moment.event === null) || (lookedAt && moment.event === null)) return null;
    return lightsAt(log.events, moment.event ?? log.events.length - 1);
  }, [view, log.events, moment, live.spans.length === 0]);
  const cancel = () => live.runId && client.runs.cancel(id, live.runId).catch((failure) => setError(reason(failure)));
  const failed = lastError(state.value);
  const paused = chosen && !live.running && !waiting.length && (state.value?.next?.length ?? 0) > 0;

  if (thread.error && !thread.value) return <main className="page"><Failure text={thread.error} /><a href={link("threads")}>To the threads</a></main>;
  return (
    <main className="page">
      <div className="bar">
        <h1>Thread <Id id={id} /></h1>
        <Badge text={live.running ? "running" : (thread.value?.status ?? "…")} />
        <label>Assistant <select aria-label="Assistant" value={chosen} onChange={(event) => setAssistant(event.target.value)}>
          {(assistants.value ?? []).map((one) => <option key={one.assistant_id} value={one.assistant_id}>{one.name ?? one.graph_id} · v{one.version}</option>)}
        </select></label>
        {assistants.value?.length === 0 && <label>Graph <input aria-label="Graph name" value={assistant} placeholder={of?.graph_id} onChange={(event) => setAssistant(event.target.value)} /></label>}
        {live.runId && <a href={link("threads", id, "runs", live.runId)}>Explain this run</a>}
        {!live.runId && <a href={link("threads", id, "runs", "latest")}>Explain the last run</a>}
        <Counters live={live} logged={logged} />
      </div>
      <Scrubber events={log.events} at={moment.event} move={goTo} />
      <div className="work">
        <section className="side" aria-label="Conversation">
          <Fallback raw={values}><Chat values={values} live={past ? [] : live.messages} running={live.running} /></Fallback>
          <Failure text={error || live.error || state.error || failed} />
          {!past && waiting.length > 0 && !live.running && <Interrupts key={waiting.map((one) => one.id).join()} waiting={waiting} busy={live.running} answer={(resume) => run({ command: { resume } })} />}
          {!past && paused && <div className="ask bar">{failed ? "It failed; what has not run yet: " : cancelled(state.value) ? "Cancelled; what has not run yet: " : "Stopped before "}{state.value!.next.join(", ")}. <button className="main" onClick={() => run({ input: null })}>{failed ? "Retry" : "Go on"}</button></div>}
          {chosen && !past && <Composer key={chosen} assistant={chosen} chat={!values || isMessages(values.messages) || Object.keys(values).length === 0 || "messages" in values}
            running={live.running} send={(input) => run({ input })} cancel={cancel} settings={settings} setSettings={setSettings} />}
          {past && <div className="ask">This is the past. <button onClick={() => setMoment(NOW)}>Back to now</button></div>}
        </section>
        <section className="side" aria-label="Inspector">
          <Tabs names={VIEWS} chosen={view} choose={setView} />
          <div className="panel" role="tabpanel" aria-label={view}>
            <Suspense fallback={<p className="empty">Loading …</p>}>
              {view === "Graph" && chosen && <GraphView assistant={chosen} spans={told?.spans ?? (past ? [] : live.spans)} next={lookedAt ? [...(told?.next ?? []), ...(told ? [] : (past?.next ?? []))] : live.running ? [] : (state.value?.next ?? [])} stops={stops} setStops={setStops} />}
              {view === "State" && <Fallback raw={history.value}>
                <Failure text={history.error} />
                {history.value && <HistoryTree states={history.value} chosen={moment.checkpoint || checkpointOf(history.value[0])} choose={(one) => setMoment(one === checkpointOf(history.value![0]) ? NOW : { event: null, checkpoint: one })} />}
                {(past ?? history.value?.[0]) && <StateView key={checkpointOf(past ?? history.value![0])} threadId={id} state={past ?? history.value![0]} states={history.value ?? []} changed={() => { setMoment(NOW); reload(); }}
                  run={(checkpoint) => run({ input: null, checkpointId: checkpoint })} />}
              </Fallback>}
              {view === "Log" && <EventLog threadId={id} log={log} at={tab === "log" ? at : ""} show={(event) => { goTo(event); setView("State"); }} />}
              {view === "Steps" && <>
                {live.spans.length > 0 && <><h2>Nodes of the run that was watched</h2><Waterfall label="Nodes in time" bars={barsOfNodes(live.spans)} /></>}
                <h2>Runs, from the log</h2>
                <Waterfall label="Steps in time" threadId={id} bars={bars.slice(-MOST_BARS)} />
                {live.custom.length > 0 && <><h2>Custom events</h2>{live.custom.map((one, index) => <JsonView key={index} value={one} open={1} />)}</>}
              </>}
            </Suspense>
          </div>
        </section>
      </div>
    </main>
  );
}

/** Of a task whose run was cancelled the state has asyncio's exception as its error. */
const wasCancelled = (task: any) => /^CancelledError\(/.test(String(task.error ?? ""));
const cancelled = (state: any): boolean => (state?.tasks ?? []).some(wasCancelled);

function lastError(state: any): string {
  const failed = (state?.tasks ?? []).find((task: any) => task.error && !wasCancelled(task));
  return failed ? `${failed.name}: ${typeof failed.error === "string" ? failed.error : JSON.stringify(failed.error)}` : "";
}

function Chat({ values, live, running }: { values: any; live: ChatMessage[]; running: boolean }) {
  const place = useRef<HTMLDivElement>(null);
  const [shown, setShown] = useState(SHOWN_MESSAGES);
  const atEnd = useRef(true);
  const stored: ChatMessage[] = isMessages(values?.messages) ? values.messages : [];
  const ids = new Set(stored.map((message) => message.id));
  const all = [...stored, ...live.filter((message) => !ids.has(message.id))];
  useEffect(() => {
    if (atEnd.current && place.current) place.current.scrollTop = place.current.scrollHeight;
  });
  return (
    <div className="chat" ref={place} role="log" aria-label="Messages" tabIndex={0}
      onScroll={(event) => { const box = event.currentTarget; atEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < 40; }}>
      {all.length > shown && <button onClick={() => setShown(shown + 5 * SHOWN_MESSAGES)}>{all.length - shown} earlier messages</button>}
      {all.slice(-shown).map((message, index) => (
        <Fallback key={message.id ?? `${all.length - shown + index}`} raw={message}><Message message={message} live={running && index === Math.min(all.length, shown) - 1} /></Fallback>
      ))}
      {!all.length && (values && typeof values === "object" && Object.keys(values).length ? <JsonView value={values} /> : <p className="empty">Nothing said yet.</p>)}
      {all.length > 0 && <CopyJson value={all} label="Copy the messages" />}
    </div>
  );
}
