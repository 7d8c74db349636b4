import { Failure } from "../parts/basic";
import { Table } from "../parts/table";
import { useEvery, useLoad } from "../hooks";
import { API_URL, ask } from "../server";

const LOOK_EVERY_MS = 3000;
const TILES: [string, string][] = [
  ["num_pending_runs", "runs waiting"], ["num_running_runs", "runs running"], ["workers_active", "slots in use"], ["workers_max", "slots"],
  ["stream_clients", "stream clients"], ["events_not_projected", "events not projected"], ["events_unreadable", "events unreadable"],
  ["pg_pool_available", "free connections"],
];

type Sample = { name: string; labels: string; value: number };

/** The lines of Prometheus' text format. */
export function samples(text: string): Sample[] {
  return text.split("\n").flatMap((line) => {
    const found = line.match(/^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$/);
    return found ? [{ name: found[1], labels: found[2] ?? "", value: Number(found[3]) }] : [];
  });
}

const partition = (sample: Sample) => Number(sample.labels.match(/"(\d+)"/)?.[1]);

export default function SystemPage() {
  const info = useLoad(() => ask("GET", "/info"), []);
  const health = useLoad(() => ask("GET", "/ok?check_db=true"), []);
  const metrics = useLoad(async () => samples(await ask<string>("GET", "/metrics")), []);
  const queue = useLoad(() => ask("GET", "/metrics?format=json"), []);
  useEvery(LOOK_EVERY_MS, () => { health.reload(); metrics.reload(); queue.reload(); });
  const all = metrics.value ?? [];
  const sum = (suffix: string) => {
    const found = all.filter((one) => one.name.endsWith(suffix));
    return found.length ? found.reduce((before, one) => before + one.value, 0) : undefined;
  };
  const lag = all.filter((one) => one.name.endsWith("partition_lag")).sort((a, b) => partition(a) - partition(b));
  const wait = queue.value?.queue;
  return (
    <main className="page">
      <div className="bar"><h1>System</h1><span>threadlog {info.value?.version}, LangGraph {info.value?.langgraph_py_version}</span><span className="push" />
        <a href={`${API_URL}/docs`}>API</a><a href={`${API_URL}/metrics`}>All metrics</a></div>
      <Failure text={health.error || metrics.error} />
      <div className="tiles">
        {Object.entries((health.value?.services ?? {}) as Record<string, any>).map(([name, service]) => (
          <div className="tile" key={name}><b>{service.ok ? "ok" : "in trouble"}</b>{name}{service.error && <div className="error">{service.error}</div>}</div>
        ))}
        {TILES.map(([name, title]) => sum(name) !== undefined && <div className="tile" key={name}><b>{sum(name)}</b>{title}</div>)}
        {wait && <div className="tile"><b>{(wait.pending_runs_wait_time_max_secs ?? 0).toFixed(1)} s</b>longest wait</div>}
      </div>
      <h2>Partitions</h2>
      <Table label="Lag per partition" rows={lag} columns={[
        { title: "Partition", cell: (row) => partition(row) },
        { title: "Commands not decided yet", cell: (row) => row.value },
      ]} />
    </main>
  );
}
