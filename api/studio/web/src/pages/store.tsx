import { useState } from "react";
import { Dialog, Failure, When } from "../parts/basic";
import { JsonView } from "../parts/json";
import { JsonDialog } from "../parts/json_form";
import { Table } from "../parts/table";
import { useLoad } from "../hooks";
import { usePages } from "./paging";
import { ask, client, reason } from "../server";

const NAMESPACES = 1000;

export default function StorePage() {
  const namespaces = useLoad(() => client.store.listNamespaces({ limit: NAMESPACES } as any), []);
  const [prefix, setPrefix] = useState<string[]>([]);
  const [typed, setTyped] = useState("");
  const [query, setQuery] = useState("");
  const [open, setOpen] = useState<any>(null);
  const [editing, setEditing] = useState<any>(null);
  const [error, setError] = useState("");
  const { rows, more, reload, failure } = usePages<any>(
    async (offset, limit) => (await client.store.searchItems(prefix, { offset, limit, ...(query ? { query } : {}) } as any)).items, [prefix, query]);
  const again = () => { reload(); namespaces.reload(); };
  return (
    <main className="page">
      <div className="bar"><h1>Store</h1>
        <label>Namespace <select aria-label="Namespace" value={JSON.stringify(prefix)} onChange={(event) => setPrefix(JSON.parse(event.target.value))}>
          <option value="[]">all</option>
          {(namespaces.value?.namespaces ?? []).map((one: string[]) => <option key={JSON.stringify(one)} value={JSON.stringify(one)}>{one.join(" / ")}</option>)}
        </select></label>
        <form className="bar" onSubmit={(event) => { event.preventDefault(); setQuery(typed); }}>
          <input type="search" aria-label="Search by meaning" placeholder="search by meaning" value={typed} onChange={(event) => setTyped(event.target.value)} /><button>Search</button>
        </form>
        <span className="push" /><button onClick={again}>Reload</button>
        <button className="main" onClick={() => setEditing({ namespace: prefix.length ? prefix : ["notes"], key: "", value: {} })}>New item</button></div>
      <Failure text={failure || namespaces.error || error} />
      <Table label="Items" rows={rows} more={more} columns={[
        { title: "Namespace", cell: (row) => row.namespace.join(" / ") },
        { title: "Key", cell: (row) => <button className="bare" onClick={() => setOpen(row)}>{row.key}</button> },
        { title: "Value", width: "2fr", cell: (row) => <code>{JSON.stringify(row.value)}</code> },
        { title: "Score", width: "80px", cell: (row) => row.score?.toFixed(3) ?? "" },
        { title: "Updated", width: "180px", cell: (row) => <When at={row.updatedAt ?? row.updated_at} /> },
        { title: " ", width: "150px", cell: (row) => <span className="bar"><button onClick={() => setEditing(row)}>Edit</button>
          <button className="bad" onClick={() => confirm(`Delete ${row.key}?`) && client.store.deleteItem(row.namespace, row.key).then(again, (trouble) => setError(reason(trouble)))}>Delete</button></span> },
      ]} />
      {open && <Dialog title={open.key} close={() => setOpen(null)}><JsonView value={open} open={3} /></Dialog>}
      {editing && <JsonDialog title="Item" action="Save" initial={{ namespace: editing.namespace, key: editing.key, value: editing.value }} close={() => setEditing(null)}
        act={(value) => ask("PUT", "/store/items", value).then(again)} />}
    </main>
  );
}
