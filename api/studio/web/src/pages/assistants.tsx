import { useState } from "react";
import { Dialog, Failure, Id, When } from "../parts/basic";
import { Diff, JsonView } from "../parts/json";
import { JsonDialog } from "../parts/json_form";
import { Table } from "../parts/table";
import { useLoad } from "../hooks";
import { usePages } from "./paging";
import { client, reason } from "../server";

export default function AssistantsPage() {
  const { rows, more, reload, failure } = usePages<any>((offset, limit) => client.assistants.search({ offset, limit }), []);
  const [open, setOpen] = useState<any>(null);
  const [editing, setEditing] = useState<any>(null);
  const [error, setError] = useState("");
  return (
    <main className="page">
      <div className="bar"><h1>Assistants</h1><span className="push" /><button onClick={reload}>Reload</button>
        <button className="main" onClick={() => setEditing({ graph_id: rows[0]?.graph_id ?? "" })}>New assistant</button></div>
      <Failure text={failure || error} />
      <Table label="Assistants" rows={rows} more={more} columns={[
        { title: "Name", cell: (row) => <button className="bare" onClick={() => setOpen(row)}>{row.name ?? row.graph_id}</button> },
        { title: "Graph", width: "140px", cell: (row) => row.graph_id },
        { title: "Version", width: "80px", cell: (row) => row.version },
        { title: "Id", cell: (row) => <Id id={row.assistant_id} /> },
        { title: "Updated", width: "180px", cell: (row) => <When at={row.updated_at} /> },
        { title: " ", width: "150px", cell: (row) => <span className="bar"><button onClick={() => setEditing(row)}>Edit</button>
          <button className="bad" onClick={() => confirm(`Delete the assistant ${row.name ?? row.assistant_id}?`) && client.assistants.delete(row.assistant_id).then(reload, (trouble) => setError(reason(trouble)))}>Delete</button></span> },
      ]} />
      {open && <Versions assistant={open} close={() => setOpen(null)} changed={reload} />}
      {editing && (
        <JsonDialog title={editing.assistant_id ? "Edit the assistant" : "New assistant"} action="Save" close={() => setEditing(null)}
          help={editing.assistant_id ? "What is saved is its next version." : "Its name, and what its runs get besides their own."}
          initial={editing.assistant_id ? { name: editing.name, description: editing.description, config: editing.config, context: editing.context, metadata: editing.metadata } : { graph_id: editing.graph_id, name: "", config: {}, context: {}, metadata: {} }}
          act={async (value) => {
            if (editing.assistant_id) await client.assistants.update(editing.assistant_id, value);
            else await client.assistants.create({ ...value, graphId: value.graph_id });
            reload();
          }} />
      )}
    </main>
  );
}

function Versions({ assistant, close, changed }: { assistant: any; close: () => void; changed: () => void }) {
  const versions = useLoad(() => client.assistants.getVersions(assistant.assistant_id, { limit: 100 } as any), [assistant.assistant_id]);
  const schemas = useLoad(() => client.assistants.getSchemas(assistant.assistant_id), [assistant.assistant_id]);
  const [error, setError] = useState("");
  return (
    <Dialog title={assistant.name ?? assistant.graph_id} close={close}>
      <Failure text={versions.error || error} />
      {(versions.value ?? []).map((version: any, index: number) => (
        <details key={version.version} open={index === 0}>
          <summary>version {version.version}, <When at={version.created_at} /></summary>
          <button onClick={() => client.assistants.setLatest(assistant.assistant_id, version.version).then(() => { changed(); close(); }, (trouble) => setError(reason(trouble)))}>Make it the latest</button>
          <JsonView value={{ config: version.config, context: version.context, metadata: version.metadata }} />
          {versions.value![index + 1] && <><h2>Difference to version {versions.value![index + 1].version}</h2><Diff before={pick(versions.value![index + 1])} after={pick(version)} /></>}
        </details>
      ))}
      <details><summary>Schemas</summary><JsonView value={schemas.value ?? schemas.error} open={1} /></details>
    </Dialog>
  );
}

const pick = ({ name, config, context, metadata }: any) => ({ name, config, context, metadata });
