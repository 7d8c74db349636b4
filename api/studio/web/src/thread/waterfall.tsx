import { duration } from "../parts/basic";
import { link } from "../hooks";
import type { Bar } from "./use_events";
import type { Span } from "./use_run";

/** What took how long, one line each, every run on a scale of its own. Times are in milliseconds, from any zero. */
export function Waterfall({ label, bars, threadId }: { label: string; bars: Bar[]; threadId?: string }) {
  if (!bars.length) return null;
  const scales = new Map<string, { began: number; until: number }>();
  for (const { run = "", begin, end = Date.now() } of bars) {
    const scale = scales.get(run) ?? { began: begin, until: end };
    scales.set(run, { began: Math.min(scale.began, begin), until: Math.max(scale.until, end) });
  }
  const lane = ({ run = "", begin, end }: Bar) => {
    const { began, until } = scales.get(run)!;
    const whole = Math.max(1, until - began);
    return { left: `${((begin - began) / whole) * 100}%`, width: `${(((end ?? until) - begin) / whole) * 100}%` };
  };
  const lasted = ({ run = "", begin, end }: Bar) => duration((end ?? scales.get(run)!.until) - begin);
  return (
    <div className="fall" role="list" aria-label={label}>
      {bars.map((bar, index) => (
        <div className={`step ${index && bar.run !== bars[index - 1].run ? "next" : ""}`} role="listitem" key={bar.key}>
          {threadId && bar.run ? <a href={link("threads", threadId, "runs", bar.run)} title={`Explain run ${bar.run}`}>{bar.label}</a> : <span title={bar.label}>{bar.label}</span>}
          <div className="lane"><i className={bar.failed ? "error" : ""} style={lane(bar)} /></div>
          <span>{lasted(bar)}</span>
        </div>
      ))}
    </div>
  );
}

export const barsOfNodes = (spans: Span[]): Bar[] =>
  spans.map((span) => ({ key: span.id, label: span.node, begin: span.begin, end: span.end ?? performance.now(), failed: span.failed }));
