import { duration } from "../parts/basic";
import type { Span } from "./use_run";

/** The run's nodes in time. */
export function Waterfall({ spans, began, ended }: { spans: Span[]; began: number; ended?: number }) {
  if (!spans.length) return <p className="empty">Start a run, or open one that is running, to see its steps in time.</p>;
  const until = ended ?? performance.now();
  const whole = Math.max(1, until - began);
  return (
    <div className="fall" role="list" aria-label="Steps in time">
      {spans.map((span) => (
        <div className="step" role="listitem" key={span.id}>
          <span title={span.node}>{span.node}</span>
          <div className="lane"><i className={span.failed ? "error" : ""} style={{
            left: `${((span.begin - began) / whole) * 100}%`, width: `${(((span.end ?? until) - span.begin) / whole) * 100}%`,
          }} /></div>
          <span>{duration((span.end ?? until) - span.begin)}</span>
        </div>
      ))}
    </div>
  );
}
