import { lazy, Suspense, useState } from "react";
import { Dialog, Failure, Fallback } from "./parts/basic";
import { link, useConnection, usePlace, useTheme } from "./hooks";
import { API_URL, ask, authenticate, credentials, reason } from "./server";
import { ThreadsPage } from "./pages/threads";

const ThreadPage = lazy(() => import("./thread/thread_page"));
const AssistantsPage = lazy(() => import("./pages/assistants"));
const CronsPage = lazy(() => import("./pages/crons"));
const StorePage = lazy(() => import("./pages/store"));
const ComparePage = lazy(() => import("./thread/compare_page"));
const ExplainPage = lazy(() => import("./pages/explain"));
const RerunsPage = lazy(() => import("./reruns/reruns_page"));
const InboxPage = lazy(() => import("./pages/inbox"));
const RunsPage = lazy(() => import("./pages/runs"));
const SystemPage = lazy(() => import("./pages/system"));

const PAGES: [string, string][] = [
  ["threads", "Threads"], ["inbox", "Inbox"], ["runs", "Runs"], ["reruns", "Reruns"], ["assistants", "Assistants"], ["crons", "Crons"],
  ["store", "Store"], ["system", "System"],
];

function Page() {
  const { page, id, tab, at } = usePlace();
  if (page === "threads" && id && tab === "runs" && at) return <ExplainPage key={`${id} ${at}`} threadId={id} runId={at} />;
  if (page === "threads" && id && tab === "compare") return <ComparePage key={id} threadId={id} at={at} />;
  if (page === "threads" && id) return <ThreadPage key={id} id={id} tab={tab} at={at} />;
  switch (page) {
    case "threads": return <ThreadsPage />;
    case "inbox": return <InboxPage />;
    case "runs": return <RunsPage />;
    case "reruns": return <RerunsPage runId={id} />;
    case "assistants": return <AssistantsPage />;
    case "crons": return <CronsPage />;
    case "store": return <StorePage />;
    case "system": return <SystemPage />;
  }
  return <main className="page"><h1>No such page</h1><p>The Studio has no page “{page}”. <a href={link("threads")}>To the threads</a></p></main>;
}

export function App() {
  const place = usePlace();
  const connection = useConnection();
  const [theme, turn] = useTheme();
  const [asking, setAsking] = useState(false);
  return (
    <div className="shell">
      <nav className="nav" aria-label="Pages">
        <span className="brand">threadlog studio</span>
        {PAGES.map(([name, title]) => (
          <a key={name} href={link(name)} aria-current={place.page === name ? "page" : undefined}>{title}</a>
        ))}
        <div className="foot">
          <button onClick={turn} aria-label={`Colours: ${theme}`}>{theme === "auto" ? "◐ auto" : theme === "light" ? "○ light" : "● dark"}</button>
          <button onClick={() => setAsking(true)}>{credentials() ? "Signed in" : "Sign in"}</button>
          <a href={`${API_URL}/docs`}>API</a>
        </div>
      </nav>
      <div style={{ display: "flex", flexDirection: "column", minHeight: 0, minWidth: 0 }}>
        <div role="status" aria-live="polite">
          {connection === "down" && <div className="banner">The server does not answer. This page goes on when it is back.</div>}
        </div>
        {connection === "unauthorized" || asking ? <SignIn done={() => setAsking(false)} /> : null}
        <Fallback raw={place}><Suspense fallback={<main className="page" aria-busy="true"><p className="empty">Loading …</p></main>}><Page /></Suspense></Fallback>
      </div>
    </div>
  );
}

/** Asks for the header that every call carries. */
function SignIn({ done }: { done: () => void }) {
  const kept = credentials();
  const [name, setName] = useState(kept?.name ?? "Authorization");
  const [value, setValue] = useState(kept?.value ?? "");
  const [error, setError] = useState("");
  return (
    <Dialog title="Sign in" close={done}>
      <form onSubmit={async (event) => {
        event.preventDefault();
        try {
          new Headers({ [name]: value });
        } catch {
          return setError("That is not a header: letters and dashes in its name, no line breaks in its value.");
        }
        authenticate(name, value);
        try {
          await ask("POST", "/assistants/count", {});
          done();
          location.reload();
        } catch (failure) {
          setError(reason(failure));
        }
      }}>
        <p>This server asks who you are. The header is sent with every call, to this server only, and is forgotten when the tab is closed.</p>
        <label>Header <input value={name} onChange={(event) => setName(event.target.value)} required /></label>
        <label>Value <input type="password" value={value} onChange={(event) => setValue(event.target.value)} placeholder="Bearer …" autoFocus required /></label>
        <Failure text={error} />
        <button className="main">Sign in</button>
      </form>
    </Dialog>
  );
}
