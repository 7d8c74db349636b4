import { useState } from "react";
import { Failure, Id, When } from "../parts/basic";
import { JsonDialog } from "../parts/json_form";
import { Table } from "../parts/table";
import { link } from "../hooks";
import { usePages } from "./paging";
import { ask, client, reason } from "../server";

export default function CronsPage() {
  const { rows, more, reload, failure } = usePages<any>((offset, limit) => client.crons.search({ offset, limit } as any), []);
  const [editing, setEditing] = useState<any>(null);
  const [error, setError] = useState("");
  const change = (work: Promise<unknown>) => work.then(() => { setError(""); reload(); }, (trouble) => setError(reason(trouble)));
  return (
    <main className="page">
      <div className="bar"><h1>Crons</h1><span className="push" /><button onClick={reload}>Reload</button><button className="main" onClick={() => setEditing({})}>New cron</button></div>
      <Failure text={failure || error} />
      <Table label="Crons" rows={rows} more={more} columns={[
        { title: "Schedule", width: "140px", cell: (row) => <code>{row.schedule}</code> },
        { title: "Time zone", width: "120px", cell: (row) => row.timezone ?? "UTC" },
        { title: "Next", width: "180px", cell: (row) => row.enabled === false ? "off" : <When at={row.next_run_date} /> },
        { title: "Ends", width: "180px", cell: (row) => <When at={row.end_time} /> },
        { title: "Thread", cell: (row) => row.thread_id ? <a href={link("threads", row.thread_id)}><Id id={row.thread_id} /></a> : "a new one each time" },
        { title: "Input", cell: (row) => <code>{JSON.stringify(row.payload?.input ?? null)}</code> },
        { title: " ", width: "250px", cell: (row) => <span className="bar">
          <button onClick={() => change(ask("PATCH", `/runs/crons/${row.cron_id}`, { enabled: row.enabled === false }))}>{row.enabled === false ? "Switch on" : "Switch off"}</button>
          <button onClick={() => setEditing(row)}>Edit</button>
          <button className="bad" onClick={() => confirm("Delete this cron?") && change(client.crons.delete(row.cron_id))}>Delete</button></span> },
      ]} />
      {editing && (
        <JsonDialog title={editing.cron_id ? "Edit the cron" : "New cron"} action="Save" close={() => setEditing(null)}
          help="schedule: minute, hour, day, month, day of the week; with a sixth field: seconds."
          initial={editing.cron_id ? { schedule: editing.schedule, timezone: editing.timezone, end_time: editing.end_time, enabled: editing.enabled } : { assistant_id: "", schedule: "0 9 * * 1-5", timezone: "UTC", input: {} }}
          act={(value) => ask(editing.cron_id ? "PATCH" : "POST", editing.cron_id ? `/runs/crons/${editing.cron_id}` : "/runs/crons", value).then(reload)} />
      )}
    </main>
  );
}
