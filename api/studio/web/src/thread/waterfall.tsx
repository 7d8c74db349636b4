import { duration } from "../parts/basic";
import { link } from "../hooks";
import type { Bar } from "./use_events";
import type { Span } from "./use_run";

/** What took how long, one line each. Times are in milliseconds, from any zero. */
export function Waterfall({ label, bars, threadId }: { label: string; bars: Bar[]; threadId?: string }) {
  if (!bars.length) return null;
  const began = Math.min(...bars.map((bar) => bar.begin));
  const until = Math.max(...bars.map((bar) => bar.end ?? bar.begin));
  const whole = Math.max(1, until - began);
  return (
    <div className="fall" role="list" aria-label={label}>
      {bars.map((bar) => (
        <div className="step" role="listitem" key={bar.key}>
          {threadId && bar.run ? <a href={link("threads", threadId, "runs", bar.run)} title={`Explain run ${bar.run}`}>{bar.label}</a> : <span title={bar.label}>{bar.label}</span>}
          <div className="lane"><i className={bar.failed ? "error" : ""} style={{
            left: `${((bar.begin - began) / whole) * 100}%`, width: `${(((bar.end ?? until) - bar.begin) / whole) * 100}%`,
          }} /></div>
          <span>{duration((bar.end ?? until) - bar.begin)}</span>
        </div>
      ))}
    </div>
  );
}

export const barsOfNodes = (spans: Span[]): Bar[] =>
  spans.map((span) => ({ key: span.id, label: span.node, begin: span.begin, end: span.end ?? performance.now(), failed: span.failed }));
