import { useState } from "react";

export type Series = { name: string; values: number[] };

const WIDTH = 720;
const HEIGHT = 140;
const SHADES = ["var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)", "var(--series-5)", "var(--series-6)"];

const shade = (index: number) => SHADES[index % SHADES.length];

/** Stacked columns over time, one shade for each series, with the figures as a table for those who don't see them. */
export function Columns({ label, times, series, say }: { label: string; times: string[]; series: Series[]; say: (value: number) => string }) {
  const [over, setOver] = useState<number | null>(null);
  const sums = times.map((_, index) => series.reduce((sum, one) => sum + one.values[index], 0));
  const most = Math.max(...sums, 0);
  const step = WIDTH / Math.max(times.length, 1);
  const text = (index: number) => `${times[index]}: ${say(sums[index])}${series.length > 1 ? ` (${series.filter((one) => one.values[index]).map((one) => `${one.name || "–"} ${say(one.values[index])}`).join(", ")})` : ""}`;
  return (
    <figure className="chart">
      <figcaption><b>{label}</b> {over === null ? `at most ${say(most)}` : text(over)}</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true" onMouseLeave={() => setOver(null)}>
        {times.map((time, index) => {
          let top = HEIGHT;
          return (
            <g key={time} onMouseEnter={() => setOver(index)}>
              <rect x={index * step} y={0} width={step} height={HEIGHT} fill={over === index ? "var(--accent-wash)" : "transparent"} />
              {most > 0 && series.map((one, at) => {
                const height = (one.values[index] / most) * (HEIGHT - 2);
                top -= height;
                return height > 0 && <rect key={one.name} x={index * step + step * 0.1} y={top} width={step * 0.8} height={height} fill={shade(at)} />;
              })}
            </g>
          );
        })}
      </svg>
      {series.length > 1 && <div className="legend">{series.map((one, at) => <span key={one.name}><i style={{ background: shade(at) }} />{one.name || "–"}</span>)}</div>}
      <table className="hidden">
        <caption>{label}</caption>
        <thead><tr><th scope="col">from</th>{series.map((one) => <th scope="col" key={one.name}>{one.name || "–"}</th>)}</tr></thead>
        <tbody>{times.map((time, index) => <tr key={time}><th scope="row">{time}</th>{series.map((one) => <td key={one.name}>{say(one.values[index])}</td>)}</tr>)}</tbody>
      </table>
    </figure>
  );
}
