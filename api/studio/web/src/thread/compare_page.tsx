import { lazy, Suspense, useMemo, useState } from "react";
import { Failure, Fallback, Id } from "../parts/basic";
import { changes, CopyJson } from "../parts/json";
import { Sides } from "../parts/sides";
import { link, useLoad } from "../hooks";
import { ask, client } from "../server";
import { forkOf, ranFor, ranIn, tips, titleOf, type Fork } from "./branches";
import { checkpointOf, type State } from "./states";

const GraphView = lazy(() => import("./graph"));

const MOST_STATES = 1000;
const MOST_STEPS = 100;
const MOST_CHANGES = 100;
const NAMES: [string, string] = ["left", "right"];

/** Two branches of a thread's history beside each other. `at`: `<checkpoint>..<checkpoint>`; without: the two newest ends. */
export default function ComparePage({ threadId, at }: { threadId: string; at: string }) {
  const thread = useLoad(() => client.threads.get(threadId), [threadId]);
  const history = useLoad(() => ask<State[]>("POST", `/threads/${threadId}/history`, { limit: MOST_STATES }), [threadId]);
  const states = history.value ?? [];
  const ends = useMemo(() => tips(states), [states]);
  const [given, other] = at.split("..");
  const left = given || checkpointOf(ends[0]);
  const right = other || checkpointOf(ends[1] ?? states.at(-1));
  const known = (id: string) => states.some((state) => checkpointOf(state) === id);
  const missing = history.value && states.length ? [left, right].filter((id) => !known(id)) : [];
  const go = (one: string, two: string) => { location.hash = link("threads", threadId, "compare", `${one}..${two}`); };
  const fork = useMemo(() => forkOf(states, left, right), [states, left, right]);
  const assistant = (thread.value?.metadata as any)?.assistant_id ?? (thread.value?.metadata as any)?.graph_id ?? "";
  return (
    <main className="page">
      <div className="bar"><h1>Branches of <Id id={threadId} /></h1><span className="push" /><a href={link("threads", threadId)}>To the thread</a>
        {states.length > 0 && <CopyJson value={{ common: fork.common.at(-1) ?? null, left: fork.left, right: fork.right }} />}</div>
      <Failure text={thread.error || history.error || (missing.length ? `The history of this thread has no checkpoint ${missing.join(", ")}.` : "")} />
      {history.value && !states.length && <p className="empty">This thread has no checkpoints.</p>}
      {states.length > 0 && (
        <>
          <div className="two">
            <Choice label="Left" chosen={left} ends={ends} states={states} choose={(id) => go(id, right)} />
            <Choice label="Right" chosen={right} ends={ends} states={states} choose={(id) => go(left, id)} />
          </div>
          {!missing.length && <Fallback raw={fork}>
            <div className="bar"><Parting fork={fork} /><span className="push" /><button onClick={() => go(right, left)}>Swap</button></div>
            {assistant && <div className="two">
              {(["left", "right"] as const).map((side) => (
                <section key={side} aria-label={`Graph of the ${side}`} className="side still">
                  <Suspense fallback={<p className="empty">Loading …</p>}><GraphView assistant={assistant} {...lights(fork, side)} /></Suspense>
                </section>
              ))}
            </div>}
            <Steps fork={fork} threadId={threadId} />
          </Fallback>}
        </>
      )}
    </main>
  );
}

function Choice({ label, chosen, ends, states, choose }: { label: string; chosen: string; ends: State[]; states: State[]; choose: (id: string) => void }) {
  const option = (state: State) => <option key={checkpointOf(state)} value={checkpointOf(state)}>{titleOf(state)} · …{checkpointOf(state).slice(-6)}</option>;
  const inner = states.filter((state) => !ends.includes(state));
  return (
    <label className="field">{label} <select aria-label={label} value={chosen} onChange={(event) => choose(event.target.value)}>
      <optgroup label="ends of branches">{ends.map(option)}</optgroup>
      {inner.length > 0 && <optgroup label="on the way">{inner.map(option)}</optgroup>}
    </select></label>
  );
}

function Parting({ fork }: { fork: Fork }) {
  const steps = (n: number) => (n === 1 ? "1 checkpoint" : `${n} checkpoints`);
  if (!fork.left.length && !fork.right.length) return <span>Both are the same checkpoint.</span>;
  const last = fork.common.at(-1);
  const where = last ? `They part after ${titleOf(last)}` : "They have no checkpoint in common";
  return <span>{where}: the left has {steps(fork.left.length)} of its own, the right {steps(fork.right.length)}.</span>;
}

/** Through which nodes a branch went: those before the fork, and its own. */
function lights(fork: Fork, side: "left" | "right") {
  const line = fork[side];
  const own = ranIn(line, fork.common.at(-1));
  return {
    spans: own.map((node, index) => ({ id: `${index}`, node, begin: 0, end: 1 })), shared: ranIn(fork.common, undefined),
    next: (line.at(-1) ?? fork.common.at(-1))?.next ?? [],
  };
}

function Steps({ fork, threadId }: { fork: Fork; threadId: string }) {
  const [shown, setShown] = useState(MOST_STEPS);
  const count = Math.max(fork.left.length, fork.right.length);
  const rows = Array.from({ length: Math.min(count, shown) }, (_, index) => index);
  const first = rows.find((index) => JSON.stringify(fork.left[index]?.values) !== JSON.stringify(fork.right[index]?.values));
  return (
    <section aria-label="Step by step">
      <h2>Step by step from where they part</h2>
      <ol className="plain">{rows.map((index) => <Step key={`${checkpointOf(fork.left[index])} ${checkpointOf(fork.right[index])}`} fork={fork} index={index} threadId={threadId} open={index === first || index === count - 1} />)}</ol>
      {count > shown && <button onClick={() => setShown(shown + MOST_STEPS)}>{count - shown} more</button>}
    </section>
  );
}

function Step({ fork, index, threadId, open }: { fork: Fork; index: number; threadId: string; open: boolean }) {
  const [unfolded, setUnfolded] = useState(open);
  const states = [fork.left[index], fork.right[index]];
  const before = index ? [fork.left[index - 1], fork.right[index - 1]] : [fork.common.at(-1), fork.common.at(-1)];
  const both = states[0] && states[1];
  const found = useMemo(() => (both ? changes(states[0].values, states[1].values) : []), [states[0], states[1]]);
  const word = !both ? `only on the ${states[0] ? "left" : "right"}` : found.length ? `${found.length} ${found.length === 1 ? "difference" : "differences"}` : "the same state";
  // Where one has ended, its step before is not compared again: what the other goes on to do is shown.
  const rest = both ? found : changes((states[0] ? before[0] : before[1])?.values ?? {}, (states[0] ?? states[1]).values);
  return (
    <li className="ran">
      <div className="two">
        {states.map((state, side) => (
          <div key={side} className="bar">
            {state ? <><b>{ranFor(state, before[side]).join(", ") || state.metadata?.source}</b><a href={link("threads", threadId, "checkpoint", checkpointOf(state))}>{titleOf(state)}</a></> : <span className="empty">{NAMES[side]}: nothing more</span>}
          </div>
        ))}
      </div>
      <button className="bare" aria-expanded={unfolded} onClick={() => setUnfolded(!unfolded)}>{unfolded ? "▾" : "▸"} {word}</button>
      {unfolded && rest.slice(0, MOST_CHANGES).map((change) => (
        <Sides key={change.path} title={change.path} names={both ? NAMES : ["before", "after"]}
          has={[change.before !== undefined, change.after !== undefined]} sides={[change.before, change.after]} />
      ))}
      {unfolded && rest.length > MOST_CHANGES && <p>{rest.length - MOST_CHANGES} more differences</p>}
    </li>
  );
}
