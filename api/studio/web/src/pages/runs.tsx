import { useState } from "react";
import { Badge, Dialog, Failure, Id, When, duration } from "../parts/basic";
import { JsonView } from "../parts/json";
import { Table } from "../parts/table";
import { link } from "../hooks";
import { usePages } from "./paging";
import { ask, client, reason } from "../server";

const PER_THREAD = 20;
const AT_ONCE = 8;

/** The runs of the threads that changed last. */
export default function RunsPage() {
  const [threads, setThreads] = useState("");
  const [status, setStatus] = useState("");
  const [error, setError] = useState("");
  const [open, setOpen] = useState<any>(null);
  const { rows, reload, failure, more, loading } = usePages<any>(async (offset, limit) => {
    const found = await client.threads.search({ ...(threads ? { status: threads } : {}), limit: Math.min(limit, 100), offset, sortBy: "updated_at", sortOrder: "desc", select: ["thread_id"] } as any);
    const runs: any[] = [];
    for (let first = 0; first < found.length; first += AT_ONCE) {
      const some = found.slice(first, first + AT_ONCE);
      runs.push(...(await Promise.all(some.map((thread) => client.runs.list(thread.thread_id, { limit: PER_THREAD, ...(status ? { status } : {}) } as any).catch(() => [])))).flat());
    }
    return runs.sort((a, b) => b.created_at.localeCompare(a.created_at));
  }, [threads, status]);
  const cancel = async (wanted: string) => {
    if (!confirm(`Cancel every ${wanted === "all" ? "pending and running" : wanted} run of this server?`)) return;
    try {
      await ask("POST", "/runs/cancel", { status: wanted });
      setError("");
    } catch (trouble) {
      setError((trouble as any).status === 404 ? "There is none." : reason(trouble));
    }
    reload();
  };
  return (
    <main className="page">
      <div className="bar"><h1>Runs</h1>
        <label>of threads that are <select aria-label="Threads" value={threads} onChange={(event) => setThreads(event.target.value)}>{["", "busy", "idle", "interrupted", "error"].map((one) => <option key={one} value={one}>{one || "anything"}</option>)}</select></label>
        <label>Status <select aria-label="Status" value={status} onChange={(event) => setStatus(event.target.value)}>{["", "pending", "running", "success", "error", "interrupted", "timeout"].map((one) => <option key={one} value={one}>{one || "any"}</option>)}</select></label>
        <span className="push" /><button onClick={() => cancel("pending")}>Cancel pending</button><button className="bad" onClick={() => cancel("all")}>Cancel all</button><button onClick={reload}>Reload</button></div>
      <Failure text={failure || error} />
      {loading && !rows.length ? <p className="empty">Loading …</p> : <Table label="Runs" rows={rows} more={more} columns={[
        { title: "Run", cell: (row) => <button className="bare" onClick={() => setOpen(row)}><Id id={row.run_id} /></button> },
        { title: "Thread", cell: (row) => <a href={link("threads", row.thread_id)}><Id id={row.thread_id} /></a> },
        { title: "Status", width: "110px", cell: (row) => <Badge text={row.status} /> },
        { title: "Graph", width: "120px", cell: (row) => String(row.metadata?.graph_id ?? row.kwargs?.config?.configurable?.graph_id ?? "") },
        { title: "Created", width: "180px", cell: (row) => <When at={row.created_at} /> },
        { title: "Took", width: "100px", cell: (row) => ["pending", "running"].includes(row.status) ? "" : duration(+new Date(row.updated_at) - +new Date(row.created_at)) },
        { title: "Story", width: "80px", cell: (row) => <a href={link("threads", row.thread_id, "runs", row.run_id)} aria-label={`Explain run ${row.run_id}`}>Explain</a> },
      ]} />}
      {open && <Dialog title="Run" close={() => setOpen(null)}><JsonView value={open} open={2} /></Dialog>}
    </main>
  );
}
