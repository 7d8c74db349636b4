import { useRef } from "react";
import { Badge, Failure, Id, When } from "../parts/basic";
import { Table } from "../parts/table";
import { link, useEvery, useLoad } from "../hooks";
import { API_URL, ServerError, ask } from "../server";
import { UsagePart } from "./usage";

const LOOK_EVERY_MS = 3000;
const RATE_OVER_MS = 30_000;
const SHOWN = 50;
const FAILED = ["error", "timeout"];
const TILES: [string, string][] = [
  ["num_pending_runs", "runs waiting"], ["num_running_runs", "runs running"], ["workers_active", "slots in use"], ["workers_max", "slots"],
  ["stream_clients", "stream clients"], ["events_not_projected", "events not projected"], ["events_unreadable", "events unreadable"],
  ["pg_pool_available", "free connections"],
];
const DOCS: [string, string][] = [["docs", "API"], ["metrics", "All metrics"], ["asyncapi.json", "Events"], ["openapi.json", "OpenAPI"]];

type Sample = { name: string; labels: string; value: number };
type Partition = { partition: number; owner: string | null; epoch: number; decided: number; projected: number; lag: number | null };
type System = {
  partitions: Partition[]; executors: { executor_id: string; slots: number; active: number; left_behind: number; graphs: string[] }[];
  not_projected: number; skipped: any[]; unreadable: any[]; webhooks: { waiting: number; failed: number; dead: number };
};

/** The lines of Prometheus' text format. */
export function samples(text: string): Sample[] {
  return text.split("\n").flatMap((line) => {
    const found = line.match(/^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$/);
    return found ? [{ name: found[1], labels: found[2] ?? "", value: Number(found[3]) }] : [];
  });
}

/** How much a count that only grows grows per second, over the last half minute. */
function useRates(counts: Record<string, number> | undefined): Record<string, number> | undefined {
  const past = useRef<{ at: number; counts: Record<string, number> }[]>([]);
  const seen = useRef(counts);
  if (counts && seen.current !== counts) {
    seen.current = counts;
    const now = Date.now();
    past.current = [...past.current.filter((one) => now - one.at < RATE_OVER_MS), { at: now, counts }];
  }
  const [first, last] = [past.current[0], past.current.at(-1)];
  if (!first || !last || first === last) return undefined;
  const seconds = (last.at - first.at) / 1000;
  return Object.fromEntries(Object.keys(last.counts).map((name) => [name, Math.max(0, (last.counts[name] - (first.counts[name] ?? 0)) / seconds)]));
}

const sumOf = (partitions: Partition[], what: "decided" | "projected") => partitions.reduce((sum, one) => sum + one[what] + 1, 0);

export default function SystemPage() {
  const info = useLoad(() => ask("GET", "/info"), []);
  const health = useLoad(() => ask("GET", "/ok?check_db=true"), []);
  const metrics = useLoad(async () => samples(await ask<string>("GET", "/metrics")), []);
  const queue = useLoad(() => ask("GET", "/metrics?format=json"), []);
  const system = useLoad(async () => {
    try {
      const value = await ask<System>("GET", "/system");
      return { value, counts: { commands: sumOf(value.partitions, "decided"), events: sumOf(value.partitions, "projected") }, forbidden: "" };
    } catch (error) {
      if (error instanceof ServerError && error.status === 403) return { forbidden: error.message };
      throw error;
    }
  }, []);
  const failed = useLoad(() => ask<any[]>("POST", "/runs/search", { status: FAILED, limit: SHOWN, select: ["run_id", "thread_id", "graph_id", "status", "error", "updated_at"] }), []);
  const webhooks = useLoad(() => ask<any[]>("GET", `/runs/webhooks?limit=${SHOWN}`), []);
  useEvery(LOOK_EVERY_MS, () => [health, metrics, queue, system, failed, webhooks].forEach((one) => one.reload()));
  const rates = useRates(system.value?.counts);
  const all = metrics.value ?? [];
  const sum = (suffix: string) => {
    const found = all.filter((one) => one.name.endsWith(suffix));
    return found.length ? found.reduce((before, one) => before + one.value, 0) : undefined;
  };
  const wait = queue.value?.queue;
  const told = system.value?.value;
  const owned = told?.partitions.filter((one) => one.owner).length;
  return (
    <main className="page system">
      <div className="bar"><h1>System</h1><span>threadlog {info.value?.version}, LangGraph {info.value?.langgraph_py_version}</span><span className="push" />
        {DOCS.map(([path, title]) => <a key={path} href={`${API_URL}/${path}`}>{title}</a>)}</div>
      <Failure text={health.error || metrics.error || system.error} />
      <div className="tiles">
        {Object.entries((health.value?.services ?? {}) as Record<string, any>).map(([name, service]) => (
          <div className="tile" key={name}><b>{service.ok ? "ok" : "in trouble"}</b>{name}{service.error && <div className="error">{service.error}</div>}</div>
        ))}
        {TILES.map(([name, title]) => sum(name) !== undefined && <div className="tile" key={name}><b>{sum(name)}</b>{title}</div>)}
        {wait && <div className="tile"><b>{(wait.pending_runs_wait_time_max_secs ?? 0).toFixed(1)} s</b>longest wait</div>}
        {told && <>
          <div className="tile"><b>{rates ? rates.commands.toFixed(1) : "…"}</b>commands per second</div>
          <div className="tile"><b>{rates ? rates.events.toFixed(1) : "…"}</b>event records per second</div>
          <div className="tile"><b>{owned} of {told.partitions.length}</b>partitions owned</div>
          <div className="tile"><b>{told.webhooks.waiting}</b>webhooks waiting</div>
          <div className="tile"><b>{told.webhooks.dead}</b>webhooks dead</div>
        </>}
      </div>
      <UsagePart />
      <section aria-label="Recent errors">
        <div className="bar"><h2>Recent errors</h2><span className="push" /><a href={link("runs")}>All runs</a></div>
        <Failure text={failed.error} />
        <Table label="Recent errors" rows={failed.value ?? []} columns={[
          { title: "Run", cell: (row) => <a href={link("threads", row.thread_id, "runs", row.run_id)}><Id id={row.run_id} /></a> },
          { title: "Thread", cell: (row) => <a href={link("threads", row.thread_id)}><Id id={row.thread_id} /></a> },
          { title: "Graph", width: "120px", cell: (row) => row.graph_id },
          { title: "Status", width: "100px", cell: (row) => <Badge text={row.status} /> },
          { title: "Error", width: "2fr", cell: (row) => <span title={row.error?.message}>{row.error ? `${row.error.error ?? "error"}: ${row.error.message ?? ""}` : ""}</span> },
          { title: "Ended", width: "180px", cell: (row) => <When at={row.updated_at} /> },
        ]} />
      </section>
      <section aria-label="Webhooks that failed">
        <h2>Webhooks that could not be delivered</h2>
        <Failure text={webhooks.error} />
        <Table label="Failed webhooks" rows={webhooks.value ?? []} columns={[
          { title: "State", width: "90px", cell: (row) => <Badge text={row.state === "dead" ? "error" : "pending"} label={row.state} /> },
          { title: "To", width: "1.5fr", cell: (row) => row.url },
          { title: "Run", cell: (row) => <a href={link("threads", row.thread_id, "runs", row.run_id)}><Id id={row.run_id} /></a> },
          { title: "Attempts", width: "90px", cell: (row) => row.attempts },
          { title: "Reason", width: "1.5fr", cell: (row) => <span title={row.reason}>{[row.http_status, row.reason].filter(Boolean).join(" ")}</span> },
          { title: "Failed", width: "180px", cell: (row) => <When at={row.failed_at} /> },
          { title: "Next attempt", width: "180px", cell: (row) => <When at={row.next_attempt_at} /> },
        ]} />
      </section>
      {system.value?.forbidden && <p className="empty">{system.value.forbidden}</p>}
      {told && <>
        <section aria-label="Partitions"><h2>Partitions</h2>
          <Table label="Partitions" rows={told.partitions} columns={[
            { title: "Partition", width: "90px", cell: (row) => row.partition },
            { title: "Owner", width: "2fr", cell: (row) => row.owner ?? <Badge text="error" label="none" /> },
            { title: "Epoch", width: "90px", cell: (row) => row.epoch },
            { title: "Commands not decided yet", cell: (row) => row.lag ?? "the log does not respond" },
            { title: "Last command", width: "120px", cell: (row) => row.decided },
            { title: "Last event record", width: "140px", cell: (row) => row.projected },
          ]} /></section>
        <section aria-label="Executors"><h2>Executors</h2>
          <Table label="Executors" rows={told.executors} columns={[
            { title: "Executor", width: "2fr", cell: (row) => row.executor_id },
            { title: "Slots in use", width: "120px", cell: (row) => `${row.active} of ${row.slots}` },
            { title: "Nodes left behind", width: "140px", cell: (row) => row.left_behind },
            { title: "Graphs", width: "2fr", cell: (row) => row.graphs.join(", ") },
          ]} /></section>
        {told.skipped.length + told.unreadable.length > 0 && <section aria-label="Left out">
          <h2>What the read models do not hold ({told.not_projected})</h2>
          <Table label="Left out" rows={[...told.skipped, ...told.unreadable]} columns={[
            { title: "Place", width: "160px", cell: (row) => `${row.topic ?? "events"} ${row.partition}:${row.offset}` },
            { title: "Type", width: "160px", cell: (row) => row.type ?? "unreadable" },
            { title: "Of", cell: (row) => row.key ?? "" },
            { title: "Why", width: "2fr", cell: (row) => <span title={row.error}>{row.error}</span> },
          ]} /></section>}
      </>}
    </main>
  );
}
