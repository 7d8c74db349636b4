import { useEffect, useState } from "react";
import type { LogEvent } from "./use_events";

const FRAME_MS = 350;

/** One slider over the thread's log, frame by frame. `at`: index of an event; null: now. */
export function Scrubber({ events, at, move }: { events: LogEvent[]; at: number | null; move: (at: number | null) => void }) {
  const [playing, setPlaying] = useState(false);
  const last = events.length - 1;
  const index = Math.min(at ?? last, last);
  const go = (to: number) => move(to >= last ? null : Math.max(0, to));
  useEffect(() => {
    if (!playing) return;
    const timer = setTimeout(() => go(index + 1), FRAME_MS);
    if (at === null) setPlaying(false);
    return () => clearTimeout(timer);
  }, [playing, index, at, last]);
  if (events.length < 2) return null;
  const shown = events[index];
  const play = () => {
    if (at === null) move(0);
    setPlaying(!playing);
  };
  return (
    <div className="bar scrubber">
      <label className="moment">Moment
        <input type="range" min={0} max={last} value={index} aria-valuetext={`${shown.type}, event ${index + 1} of ${events.length}`}
          onChange={(event) => go(Number(event.target.value))} />
      </label>
      <button onClick={() => { setPlaying(false); go(index - 1); }} disabled={index === 0} aria-label="One event back">‹</button>
      <button onClick={() => { setPlaying(false); go(index + 1); }} disabled={at === null} aria-label="One event on">›</button>
      <button onClick={play} aria-pressed={playing}>{playing ? "Pause" : "Play"}</button>
      <span className="count">{index + 1} / {events.length}</span>
      {at !== null && <><code>{shown.type}</code><span>{shown.at.slice(11, 23)}</span><button onClick={() => { setPlaying(false); move(null); }}>Back to now</button></>}
    </div>
  );
}
