import { useEffect, useMemo, useState } from "react";
import { Badge, Dialog, Failure, Id, When, duration } from "../parts/basic";
import { JsonView } from "../parts/json";
import { Table } from "../parts/table";
import { link, useEvery, useLoad } from "../hooks";
import { useSearch } from "./paging";
import { ask, askPage, client, reason } from "../server";

type Run = {
  run_id: string; thread_id: string; assistant_id: string | null; graph_id: string; status: string; metadata: any;
  error: { error?: string; message?: string } | null; attempt: number; created_at: string; updated_at: string; cancel_reason: string | null;
};

const STATUSES: Record<string, string[]> = {
  any: [], "in flight": ["pending", "running"], pending: ["pending"], running: ["running"], success: ["success"],
  failed: ["error", "timeout"], error: ["error"], timeout: ["timeout"], interrupted: ["interrupted"],
};
const HOURS: Record<string, number> = { "any time": 0, "the last hour": 1, "the last day": 24, "the last 7 days": 168, "the last 30 days": 720 };
const FIELDS = ["run_id", "thread_id", "assistant_id", "graph_id", "status", "metadata", "error", "attempt", "created_at", "updated_at", "cancel_reason"];
const IN_FLIGHT = STATUSES["in flight"];
const COUNT_EVERY_MS = 10_000;
const TYPING_MS = 250;
const BATCH = 1000;
const AT_ONCE = 8;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** What is typed into the search field: the id of a run or a thread, or metadata as JSON. */
function typedFilter(text: string): { filter: any; wrong: string } {
  const typed = text.trim();
  if (!typed) return { filter: {}, wrong: "" };
  if (UUID.test(typed)) return { filter: { id: typed }, wrong: "" };
  try {
    const metadata = JSON.parse(typed);
    if (metadata && typeof metadata === "object" && !Array.isArray(metadata)) return { filter: { metadata }, wrong: "" };
  } catch {
    // said below
  }
  return { filter: null, wrong: "Search for the id of a run or a thread, or for metadata as JSON." };
}

function useLater<T>(value: T, ms: number): T {
  const [late, setLate] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setLate(value), ms);
    return () => clearTimeout(timer);
  }, [JSON.stringify(value), ms]);
  return late;
}

/** The id may be a run's or a thread's. */
async function resolved(id: string): Promise<any> {
  const runs = await ask<number>("POST", "/runs/count", { run_ids: [id] });
  return runs ? { run_ids: [id] } : { thread_id: id };
}

export default function RunsPage() {
  const [status, setStatus] = useState("any");
  const [assistant, setAssistant] = useState("");
  const [span, setSpan] = useState("any time");
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  const [doing, setDoing] = useState("");
  const [open, setOpen] = useState<any>(null);
  const [chosen, setChosen] = useState<Map<string, Run>>(new Map());
  const settled = useLater(text, TYPING_MS);
  const typed = typedFilter(settled);
  const id: string | undefined = typed.filter?.id;
  const target = useLoad(async () => (id ? resolved(id) : {}), [id]);
  const assistants = useLoad(() => client.assistants.search({ limit: 1000, sortBy: "name", sortOrder: "asc" }), []);
  const since = useMemo(() => (HOURS[span] ? new Date(Date.now() - HOURS[span] * 3_600_000).toISOString() : null), [span]);
  const [kind, name] = assistant ? [assistant.slice(0, 1), assistant.slice(2)] : ["", ""];
  const wanted: any = {
    ...(id ? target.value ?? { run_ids: [id] } : typed.filter ?? {}), ...(since ? { since } : {}), ...(STATUSES[status].length ? { status: STATUSES[status] } : {}),
    ...(kind === "a" ? { assistant_id: name } : kind === "g" ? { graph_id: name } : {}),
  };
  const key = JSON.stringify(wanted);
  const { rows, more, reload, failure, loading } = useSearch<Run>("/runs/search", { ...wanted, select: FIELDS });
  const count = useLoad(() => ask<number>("POST", "/runs/count", wanted), [wanted]);
  useEvery(COUNT_EVERY_MS, count.reload);
  useEffect(() => setChosen(new Map()), [key]);
  const names = new Map((assistants.value ?? []).map((one: any) => [one.assistant_id, one.name]));
  const graphs = [...new Set((assistants.value ?? []).map((one: any) => one.graph_id as string))].sort();
  const again = () => { reload(); count.reload(); };

  /** Cancel these, thread by thread; returns why one could not be. */
  const cancelThese = async (runs: Run[], done: (runs: number) => void): Promise<string> => {
    const threads = new Map<string, string[]>();
    for (const run of runs) threads.set(run.thread_id, [...(threads.get(run.thread_id) ?? []), run.run_id]);
    const left = [...threads];
    let trouble = "";
    const work = async () => {
      for (let next = left.pop(); next; next = left.pop()) {
        const [thread_id, run_ids] = next;
        await ask("POST", "/runs/cancel", { thread_id, run_ids }).catch((failed) => { if (failed.status !== 404) trouble = reason(failed); });
        done(run_ids.length);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return trouble;
  };
  const cancelChosen = async () => {
    setError(await cancelThese([...chosen.values()], () => undefined));
    setChosen(new Map());
    again();
  };
  const cancelMatching = async () => {
    const flying = { ...wanted, status: IN_FLIGHT.filter((one) => !STATUSES[status].length || STATUSES[status].includes(one)) };
    try {
      const total = flying.status.length ? await ask<number>("POST", "/runs/count", flying) : 0;
      if (!total) return setError("None of these runs is pending or running.");
      if (!confirm(`Cancel ${total} pending and running runs that match the filter?`)) return;
      let done = 0;
      let after: string | null = null;
      do {
        const page: { rows: Run[]; next: string | null } = await askPage<Run[]>("/runs/search", { ...flying, sort_order: "asc", limit: BATCH, select: ["run_id", "thread_id"], ...(after ? { after } : {}) });
        const trouble = await cancelThese(page.rows, (runs) => setDoing(`Cancelled ${(done += runs)} of ${total} …`));
        if (trouble) throw new Error(trouble);
        after = page.next;
      } while (after);
      setError("");
    } catch (trouble) {
      setError(reason(trouble));
    } finally {
      setDoing("");
      again();
    }
  };
  const look = (row: Run) => ask("GET", `/runs/${row.run_id}`).then((run) => setOpen({ ...row, ...run }), (trouble) => setError(reason(trouble)));
  const clear = text === settled && !typed.wrong && (!id || !!target.value);
  const flies = (row: Run) => IN_FLIGHT.includes(row.status);
  return (
    <main className="page">
      <div className="bar"><h1>Runs</h1><span className="badge" aria-label="Runs found">{count.value ?? "…"}</span>
        <input type="search" className="mono" aria-label="Search" size={26} placeholder='an id, or {"user": "ada"}' value={text} onChange={(event) => setText(event.target.value)} />
        <label>Status <select aria-label="Status" value={status} onChange={(event) => setStatus(event.target.value)}>{Object.keys(STATUSES).map((one) => <option key={one}>{one}</option>)}</select></label>
        <label>Assistant <select aria-label="Assistant" value={assistant} onChange={(event) => setAssistant(event.target.value)}>
          <option value="">any</option>
          <optgroup label="Graphs">{graphs.map((graph) => <option key={graph} value={`g:${graph}`}>{graph}</option>)}</optgroup>
          <optgroup label="Assistants">{[...names].map(([id, title]) => <option key={id} value={`a:${id}`}>{title}</option>)}</optgroup>
        </select></label>
        <label>Created <select aria-label="Created" value={span} onChange={(event) => setSpan(event.target.value)}>{Object.keys(HOURS).map((one) => <option key={one}>{one}</option>)}</select></label>
        <span className="push" />
        {chosen.size > 0 && <button className="bad" onClick={cancelChosen}>Cancel {chosen.size}</button>}
        <button className="bad" disabled={!!doing || !clear} onClick={cancelMatching}>Cancel all that match</button><button onClick={again}>Reload</button></div>
      <div role="status" aria-live="polite">{doing}</div>
      <Failure text={failure || error || typed.wrong || target.error || count.error} />
      {loading && !rows.length ? <p className="empty">Loading …</p> : <Table label="Runs" rows={rows} more={more} columns={[
        { title: " ", width: "36px", cell: (row) => flies(row) && <input type="checkbox" aria-label={`Choose ${row.run_id}`} checked={chosen.has(row.run_id)} onChange={() => {
          const now = new Map(chosen);
          if (!now.delete(row.run_id)) now.set(row.run_id, row);
          setChosen(now);
        }} /> },
        { title: "Run", cell: (row) => <a aria-label={`Explain run ${row.run_id}`} href={link("threads", row.thread_id, "runs", row.run_id)}><Id id={row.run_id} /></a> },
        { title: "Thread", cell: (row) => <a href={link("threads", row.thread_id)}><Id id={row.thread_id} /></a> },
        { title: "Status", width: "100px", cell: (row) => <Badge text={row.status} /> },
        { title: "Graph", width: "110px", cell: (row) => row.graph_id },
        { title: "Assistant", width: "120px", cell: (row) => names.get(row.assistant_id ?? "") ?? (row.assistant_id ? <Id id={row.assistant_id} /> : "") },
        { title: "Created", width: "190px", cell: (row) => <When at={row.created_at} /> },
        { title: "Took", width: "90px", cell: (row) => flies(row) ? "" : duration(+new Date(row.updated_at) - +new Date(row.created_at)) },
        { title: "Error", width: "1.5fr", cell: (row) => <span title={row.error?.message}>{row.error ? `${row.error.error ?? "error"}: ${row.error.message ?? ""}` : row.cancel_reason ?? ""}</span> },
        { title: "", width: "80px", cell: (row) => <button aria-label={`Show ${row.run_id} as JSON`} onClick={() => look(row)}>JSON</button> },
      ]} />}
      {open && <Dialog title="Run" close={() => setOpen(null)}><JsonView value={open} open={2} /></Dialog>}
    </main>
  );
}
