import { lazy, Suspense, useState } from "react";
import { Badge, Failure, When } from "../parts/basic";
import { CopyJson, Diff, JsonView } from "../parts/json";
import { link } from "../hooks";
import { client, reason } from "../server";
import { checkpointOf, parentOf, type State } from "./states";

const JsonEditor = lazy(() => import("../parts/editor"));

/** The checkpoints as a tree: what was run or edited again from one is a branch of it. */
export function HistoryTree({ states, chosen, choose }: { states: State[]; chosen: string; choose: (id: string) => void }) {
  const known = new Set(states.map(checkpointOf));
  const children = new Map<string, State[]>();
  for (const state of [...states].reverse()) {
    const parent = known.has(parentOf(state)) ? parentOf(state) : "";
    children.set(parent, [...(children.get(parent) ?? []), state]);
  }
  return <div className="tree" role="group" aria-label="Checkpoints"><Branch from="" children={children} chosen={chosen} choose={choose} /></div>;
}

/** A line of checkpoints is a list; only where it parts it is nested. */
function Branch({ from, children, chosen, choose }: { from: string; children: Map<string, State[]>; chosen: string; choose: (id: string) => void }) {
  const line: State[] = [];
  let next = children.get(from) ?? [];
  while (next.length === 1) {
    line.push(next[0]);
    next = children.get(checkpointOf(next[0])) ?? [];
  }
  return (
    <ul>
      {line.map((state) => <li key={checkpointOf(state)}><Checkpoint state={state} chosen={chosen} choose={choose} /></li>)}
      {next.map((state) => (
        <li key={checkpointOf(state)}>
          <Checkpoint state={state} chosen={chosen} choose={choose} />
          <Branch from={checkpointOf(state)} children={children} chosen={chosen} choose={choose} />
        </li>
      ))}
    </ul>
  );
}

function Checkpoint({ state, chosen, choose }: { state: State; chosen: string; choose: (id: string) => void }) {
  const id = checkpointOf(state);
  return (
    <button className="bare" aria-pressed={id === chosen} onClick={() => choose(id)} style={{ fontWeight: id === chosen ? 700 : 400 }}>
      step {state.metadata?.step ?? "?"} · {state.metadata?.source ?? ""} {state.next?.length ? `→ ${state.next.join(", ")}` : "· end"}
    </button>
  );
}

/** One state: what it is, how it differs from another, and what can be done from it. */
export function StateView({ threadId, state, states, run, changed }: {
  threadId: string; state: State; states: State[]; run: (checkpoint: string) => void; changed: () => void;
}) {
  const [view, setView] = useState("values");
  const [beside, setBeside] = useState("");
  const [text, setText] = useState("");
  const [node, setNode] = useState("");
  const [error, setError] = useState("");
  const id = checkpointOf(state);
  const newest = checkpointOf(states.find((one) => checkpointOf(one) !== id) ?? state);
  const parent = states.find((one) => checkpointOf(one) === parentOf(state));
  const other = states.find((one) => checkpointOf(one) === beside);
  return (
    <section aria-label="State">
      <div className="bar">
        <When at={state.created_at} />
        {state.next?.map((one: string) => <Badge key={one} text={`next: ${one}`} />)}
        <span className="push" />
        <select aria-label="How the state is shown" value={view} onChange={(event) => {
          setView(event.target.value);
          if (event.target.value === "edit") setText(JSON.stringify(state.values, null, 2));
        }}>
          <option value="values">values</option><option value="diff">difference to its parent</option>
          <option value="compare">compare with …</option><option value="edit">edit</option><option value="raw">everything</option>
        </select>
        <a href={link("threads", threadId, "compare", `${newest}..${id}`)}>Side by side</a>
        <button onClick={() => run(id)}>Run from here</button>
        <CopyJson value={state} />
      </div>
      {view === "values" && <JsonView value={state.values} />}
      {view === "raw" && <JsonView value={state} />}
      {view === "diff" && <Diff before={parent?.values ?? {}} after={state.values} />}
      {view === "compare" && (
        <>
          <label>With <select aria-label="With" value={beside} onChange={(event) => setBeside(event.target.value)}>
            <option value="">choose a checkpoint</option>
            {states.filter((one) => checkpointOf(one) !== id).map((one) => (
              <option key={checkpointOf(one)} value={checkpointOf(one)}>step {one.metadata?.step} · {checkpointOf(one).slice(-12)}</option>
            ))}
          </select></label>
          {other && (
            <>
              <Diff before={other.values} after={state.values} />
              <div className="two"><div><h2>the other</h2><JsonView value={other.values} /></div><div><h2>this one</h2><JsonView value={state.values} /></div></div>
            </>
          )}
        </>
      )}
      {view === "edit" && (
        <form onSubmit={async (event) => {
          event.preventDefault();
          setError("");
          try {
            await client.threads.updateState(threadId, { values: JSON.parse(text), asNode: node || undefined, checkpointId: id } as any);
            changed();
            setView("values");
          } catch (failure) {
            setError(reason(failure));
          }
        }}>
          <p>The values go through the graph's reducers as an update by a node, and make a new checkpoint after this one.</p>
          <Suspense fallback={null}><JsonEditor label="Values" text={text} change={setText} /></Suspense>
          <Failure text={error} />
          <div className="bar"><label>as node <input value={node} onChange={(event) => setNode(event.target.value)} placeholder="the last one" /></label><button className="main">Make a fork</button></div>
        </form>
      )}
    </section>
  );
}
