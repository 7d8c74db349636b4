import { useState } from "react";
import { Failure, Id, When } from "../parts/basic";
import { Interrupts, type Interrupt } from "../thread/interrupts";
import { link, useEvery } from "../hooks";
import { usePages } from "./paging";
import { client, reason } from "../server";

const LOOK_EVERY_MS = 5000;

/** Everything that waits for a person, the one that waits longest first. */
export default function InboxPage() {
  const { rows, more, reload, failure, loading } = usePages<any>(
    (offset, limit) => client.threads.search({ status: "interrupted", offset, limit, sortBy: "updated_at", sortOrder: "asc" } as any), []);
  useEvery(LOOK_EVERY_MS, reload);
  const waiting = rows.filter((thread) => Object.keys(thread.interrupts ?? {}).length);
  return (
    <main className="page">
      <div className="bar"><h1>Inbox</h1><span className="badge">{waiting.length} waiting</span><span className="push" /><button onClick={reload}>Reload</button></div>
      <Failure text={failure} />
      {!loading && !waiting.length && <p className="empty">Nobody waits for an answer.</p>}
      {waiting.map((thread) => <Waiting key={thread.thread_id} thread={thread} answered={reload} />)}
      {rows.length > 0 && rows.length % 200 === 0 && <button onClick={more}>More</button>}
    </main>
  );
}

function Waiting({ thread, answered }: { thread: any; answered: () => void }) {
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const interrupts: Interrupt[] = Object.values(thread.interrupts).flat() as Interrupt[];
  return (
    <section aria-label={`Thread ${thread.thread_id}`}>
      <div className="bar"><a href={link("threads", thread.thread_id)}><Id id={thread.thread_id} /></a><span>{thread.metadata?.graph_id}</span><span>since <When at={thread.updated_at} /></span><a href={link("threads", thread.thread_id, "runs", "latest")}>Why?</a></div>
      <Failure text={error} />
      <Interrupts key={interrupts.map((one) => one.id).join()} waiting={interrupts} busy={busy} answer={async (resume) => {
        setBusy(true);
        try {
          const assistant = thread.metadata?.assistant_id ?? thread.metadata?.graph_id;
          await client.runs.create(thread.thread_id, assistant, { command: { resume }, multitaskStrategy: "reject", streamResumable: true } as any);
          answered();
        } catch (failure) {
          setError(reason(failure));
        }
        setBusy(false);
      }} />
    </section>
  );
}
