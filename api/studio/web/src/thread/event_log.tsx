import { useEffect, useMemo, useState } from "react";
import { link } from "../hooks";
import { Dialog, Failure, Id } from "../parts/basic";
import { CopyJson, JsonView } from "../parts/json";
import { Table } from "../parts/table";
import { checkpointAt, indexOf, type Events, type LogEvent } from "./use_events";

/** The thread's events, as they stand in the log. */
export default function EventLog({ threadId, log, at: wanted, show }: { threadId: string; log: Events; at: string; show: (index: number) => void }) {
  const [types, setTypes] = useState("");
  const [run, setRun] = useState("");
  const [open, setOpen] = useState<LogEvent | null>(null);
  const runs = useMemo(() => [...new Set(log.events.map((one) => one.event.run_id).filter(Boolean))] as string[], [log.events]);
  const rows = useMemo(() => log.events.filter((one) => one.type.includes(types) && (!run || one.event.run_id === run)), [log.events, types, run]);
  useEffect(() => {
    const there = wanted ? indexOf(log.events, wanted) : -1;
    if (there >= 0) setOpen(log.events[there]);
  }, [wanted, log.complete]);
  const at = open ? log.events.indexOf(open) : -1;
  return (
    <>
      <div className="bar">
        <input aria-label="Types of events" placeholder="type: run., checkpoint …" value={types} onChange={(event) => setTypes(event.target.value)} />
        <select aria-label="Run" value={run} onChange={(event) => setRun(event.target.value)}>
          <option value="">all runs</option>{runs.map((one) => <option key={one} value={one}>…{one.slice(-12)}</option>)}
        </select>
        {wanted && log.complete && indexOf(log.events, wanted) < 0 && <Failure text={`The log of this thread has no event ${wanted}.`} />}
        <span className="badge">{rows.length} of {log.events.length}{log.complete ? "" : " …"}</span>
        <CopyJson value={rows} />
      </div>
      <Failure text={log.error} />
      <Table label="Events" rows={rows} columns={[
        { title: "Position", width: "100px", cell: (row) => <button className="bare mono" onClick={() => setOpen(row)}>{row.partition}/{row.id}</button> },
        { title: "Time", width: "112px", cell: (row) => <time dateTime={row.at} title={row.at}>{row.at.slice(11, 23)}</time> },
        { title: "Event", width: "minmax(170px, 1fr)", cell: (row) => row.type },
        { title: "Run", width: "76px", cell: (row) => row.event.run_id ? <a className="mono" title={`Explain run ${row.event.run_id}`} href={link("threads", threadId, "runs", row.event.run_id)}>{row.event.run_id.slice(-6)}</a> : "" },
        { title: "By", width: "96px", cell: (row) => row.actor ?? "" },
      ]} />
      {open && (
        <Dialog title={open.type} close={() => setOpen(null)}>
          <div className="bar"><CopyJson value={open} />
            <button disabled={!checkpointAt(log.events, at)} onClick={() => { show(at); setOpen(null); }}>The state at this moment</button></div>
          <dl className="facts"><dt>position</dt><dd>partition {open.partition}, offset {open.offset}, event {open.index}</dd>
            <dt>time</dt><dd>{open.at}</dd><dt>by</dt><dd>{open.actor ?? "–"}</dd><dt>command</dt><dd><Id id={open.command_id} /></dd></dl>
          <JsonView value={open.event} open={3} />
        </Dialog>
      )}
    </>
  );
}
