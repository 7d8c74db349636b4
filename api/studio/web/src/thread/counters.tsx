import { useEffect, useState } from "react";
import { duration } from "../parts/basic";
import { add, Tally, totalsOf, type Usage } from "../parts/spent";
import type { Live } from "./use_run";

const TICK_MS = 250;

/** Tokens, cost and time: of the run that is watched, as it goes on, and of the whole thread, from its log. */
export function Counters({ live, logged }: { live: Live; logged: Usage }) {
  const [, tick] = useState(0);
  useEffect(() => {
    if (!live.running) return;
    const timer = setInterval(() => tick((n) => n + 1), TICK_MS);
    return () => clearInterval(timer);
  }, [live.running]);
  const run: Usage = {};
  for (const { model, tokens } of Object.values(live.used)) add(run, { [model]: tokens });
  const elapsed = live.began ? (live.ended ?? performance.now()) - live.began : 0;
  const said = totalsOf(run).total > 0;
  return (
    <div className="bar counters push" role="group" aria-label="Counters">
      {live.began > 0 && <span className="badge">{live.running ? "this run" : "last run"}: {said ? <Tally usage={run} title="This run" /> : `${live.tokens} chunks`} · <time>{duration(elapsed)}</time></span>}
      {totalsOf(logged).total > 0 && <span className="badge">thread: <Tally usage={logged} title="The runs of this thread that have ended" /></span>}
    </div>
  );
}
