import type { LogEvent } from "./use_events";

/** One slider over the thread's log. `at`: index of an event; null: now. */
export function Scrubber({ events, at, move }: { events: LogEvent[]; at: number | null; move: (at: number | null) => void }) {
  if (events.length < 2) return null;
  const last = events.length - 1;
  const index = at ?? last;
  const shown = events[index];
  return (
    <div className="bar">
      <label style={{ flex: 1, display: "flex", gap: "var(--space-2)" }}>Moment
        <input type="range" style={{ flex: 1 }} min={0} max={last} value={index} aria-valuetext={`${shown.type}, event ${index + 1} of ${events.length}`}
          onChange={(event) => move(Number(event.target.value) === last ? null : Number(event.target.value))} />
      </label>
      <span>{index + 1} / {events.length}</span>
      {at !== null && <><code>{shown.type}</code><span>{shown.at.slice(11, 23)}</span><button onClick={() => move(null)}>Back to now</button></>}
    </div>
  );
}
