import { useEffect, useState } from "react";
import { Badge, Failure, Id, When } from "../parts/basic";
import { Table } from "../parts/table";
import { link, useLoad } from "../hooks";
import { usePages } from "./paging";
import { ask, client, reason } from "../server";

const STATUSES = ["", "idle", "busy", "interrupted", "error"];

export function ThreadsPage() {
  const [status, setStatus] = useState("");
  const [metadata, setMetadata] = useState("");
  const [error, setError] = useState("");
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const filter: any = status ? { status } : {};
  try {
    if (metadata.trim()) filter.metadata = JSON.parse(metadata);
  } catch {
    // said below
  }
  const wrong = metadata.trim() && !filter.metadata ? "The filter is not JSON yet." : "";
  const count = useLoad(() => ask<number>("POST", "/threads/count", filter), [status, JSON.stringify(filter)]);
  const { rows, more, reload, failure, loading } = usePages<any>(
    (offset, limit) => client.threads.search({ ...filter, offset, limit, sortBy: "updated_at", sortOrder: "desc", select: ["thread_id", "status", "created_at", "updated_at", "metadata"] } as any), [JSON.stringify(filter)]);
  useEffect(() => setChosen(new Set()), [JSON.stringify(filter)]);
  const create = async () => {
    try {
      location.hash = link("threads", (await client.threads.create()).thread_id);
    } catch (trouble) {
      setError(reason(trouble));
    }
  };
  const each = async (act: (id: string) => Promise<unknown>) => {
    const failed = (await Promise.allSettled([...chosen].map(act))).filter((one) => one.status === "rejected");
    setError(failed.length ? `${failed.length} of ${chosen.size} failed: ${reason((failed[0] as PromiseRejectedResult).reason)}` : "");
    setChosen(new Set());
    reload();
    count.reload();
  };
  return (
    <main className="page">
      <div className="bar">
        <h1>Threads</h1><span className="badge">{count.value ?? "…"}</span>
        <label>Status <select aria-label="Status" value={status} onChange={(event) => setStatus(event.target.value)}>
          {STATUSES.map((one) => <option key={one} value={one}>{one || "any"}</option>)}
        </select></label>
        <label>Metadata <input className="mono" placeholder='{"user": "ada"}' value={metadata} onChange={(event) => setMetadata(event.target.value)} /></label>
        <span className="push" />
        {chosen.size > 0 && <button onClick={() => each((id) => ask("POST", "/runs/cancel", { thread_id: id, status: "all" }).catch((trouble) => { if (trouble.status !== 404) throw trouble; }))}>Cancel runs of {chosen.size}</button>}
        {chosen.size > 0 && <button className="bad" onClick={() => confirm(`Delete ${chosen.size} threads and all that belongs to them?`) && each((id) => client.threads.delete(id))}>Delete {chosen.size}</button>}
        <button onClick={() => { reload(); count.reload(); }}>Reload</button>
        <button className="main" onClick={create}>New thread</button>
      </div>
      <Failure text={error || failure || wrong} />
      {loading && !rows.length ? <p className="empty">Loading …</p> : (
        <Table label="Threads" rows={rows} more={more} columns={[
          { title: " ", width: "36px", cell: (row) => <input type="checkbox" aria-label={`Choose ${row.thread_id}`} checked={chosen.has(row.thread_id)} onChange={() => {
            const now = new Set(chosen);
            if (!now.delete(row.thread_id)) now.add(row.thread_id);
            setChosen(now);
          }} /> },
          { title: "Thread", cell: (row) => <a href={link("threads", row.thread_id)}><Id id={row.thread_id} /></a> },
          { title: "Status", width: "110px", cell: (row) => <Badge text={row.status} /> },
          { title: "Graph", width: "120px", cell: (row) => String(row.metadata?.graph_id ?? "") },
          { title: "Updated", width: "180px", cell: (row) => <When at={row.updated_at} /> },
          { title: "Created", width: "180px", cell: (row) => <When at={row.created_at} /> },
          { title: "Metadata", width: "2fr", cell: (row) => <code>{JSON.stringify(row.metadata)}</code> },
        ]} />
      )}
    </main>
  );
}
