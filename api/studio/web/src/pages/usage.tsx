import { useState } from "react";
import { Failure, When, duration } from "../parts/basic";
import { Columns, type Series } from "../parts/chart";
import { Table } from "../parts/table";
import { useEvery, useLoad } from "../hooks";
import { ServerError, ask, client } from "../server";

type Row = {
  start: string | null; value: string; runs: number; failed: number; interrupted: number; run_median: number | null; run_p95: number | null;
  wait_median: number | null; wait_p95: number | null; calls: number; total_tokens: number; unpriced_calls: number; cost: number;
  models: Record<string, { calls: number; total_tokens: number; cost: number }>;
};
type Usage = { counting: boolean; counted_until: string | null; left_out: number; rows: Row[] };

const SPANS: Record<string, { hours: number; window: string }> = {
  "24 hours": { hours: 24, window: "hour" }, "7 days": { hours: 168, window: "day" }, "30 days": { hours: 720, window: "day" }, "12 months": { hours: 24 * 365, window: "month" },
};
const BY = ["graph", "assistant", "model", "user", "tag"];
const LOOK_EVERY_MS = 30_000;
const TOP = 6; // as many as there are shades

const seconds = (value: number | null) => (value === null ? "–" : duration(value * 1000));
const figure = (value: number) => value.toLocaleString(undefined, { maximumFractionDigits: 0 });
const money = (value: number) => value.toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: value < 1 ? 4 : 2 });

/** The beginnings of all windows of a time, those without anything too. */
export function windowsOf(now: Date, hours: number, window: string): string[] {
  const at = new Date(+now - hours * 3_600_000);
  at.setUTCMinutes(0, 0, 0);
  if (window !== "hour") at.setUTCHours(0);
  if (window === "month") at.setUTCDate(1);
  const starts: string[] = [];
  while (at <= now) {
    starts.push(at.toISOString().slice(0, 13));
    if (window === "month") at.setUTCMonth(at.getUTCMonth() + 1);
    else at.setUTCHours(at.getUTCHours() + (window === "day" ? 24 : 1));
  }
  return starts;
}

/** `by` model: the models of all, one by one. */
function seriesOf(rows: Row[], starts: string[], by: string, what: "total_tokens" | "cost" | "runs"): Series[] {
  const values = new Map<string, Map<string, number>>();
  const add = (name: string, start: string, value: number) => {
    const of = values.get(name) ?? new Map<string, number>();
    values.set(name, of.set(start, (of.get(start) ?? 0) + value));
  };
  for (const row of rows) {
    const start = (row.start ?? "").slice(0, 13);
    if (by !== "model" || what === "runs") add(by === "model" ? "runs" : row.value, start, row[what]);
    else for (const [model, used] of Object.entries(row.models)) add(model, start, used[what]);
  }
  return [...values].map(([name, of]) => ({ name, values: starts.map((start) => of.get(start) ?? 0) }))
    .sort((a, b) => b.values.reduce((x, y) => x + y, 0) - a.values.reduce((x, y) => x + y, 0)).slice(0, TOP);
}

const HOW = "Usage is not counted here. Start the server with THREADLOG_DERIVE=true (pip install 'threadlog[streams]'), or run threadlog derive beside it: it counts from the beginning of the log.";

export function UsagePart() {
  const [span, setSpan] = useState("24 hours");
  const [by, setBy] = useState("graph");
  const { hours, window } = SPANS[span];
  const dimension = by === "model" ? "all" : by;
  const usage = useLoad(async () => {
    const since = encodeURIComponent(new Date(Date.now() - hours * 3_600_000).toISOString());
    try {
      const of = (each: string) => ask<Usage>("GET", `/usage?by=${dimension}&window=${each}&since=${since}&top=${TOP}`);
      const [over, sums] = await Promise.all([of(window), of("all")]);
      return { over, sums, wrong: "" };
    } catch (error) {
      if (error instanceof ServerError && [403, 404].includes(error.status)) return { wrong: error.status === 404 ? HOW : error.message };
      throw error;
    }
  }, [span, by]);
  const assistants = useLoad(() => client.assistants.search({ limit: 1000 }), []);
  useEvery(LOOK_EVERY_MS, usage.reload);
  const names = new Map((assistants.value ?? []).map((one) => [one.assistant_id, one.name]));
  const title = (value: string) => (by === "assistant" ? names.get(value) ?? value : value) || "–";
  const { over, sums, wrong } = usage.value ?? {};
  const starts = windowsOf(new Date(), hours, window);
  const times = starts.map((start) => (window === "hour" ? `${start.replace("T", " ")}:00` : window === "day" ? start.slice(0, 10) : start.slice(0, 7)));
  const rows = by !== "model" ? sums?.rows ?? [] : Object.entries(sums?.rows[0]?.models ?? {}).map(([value, used]) => ({ ...used, value }) as unknown as Row);
  const charted = (what: "total_tokens" | "cost" | "runs") => seriesOf(over?.rows ?? [], starts, by, what).map((one) => ({ ...one, name: title(one.name) }));
  return (
    <section aria-label="Usage and cost">
      <div className="bar"><h2>Usage and cost</h2>
        <label>of <select aria-label="Time" value={span} onChange={(event) => setSpan(event.target.value)}>{Object.keys(SPANS).map((one) => <option key={one}>{one}</option>)}</select></label>
        <label>by <select aria-label="Usage by" value={by} onChange={(event) => setBy(event.target.value)}>{BY.map((one) => <option key={one}>{one}</option>)}</select></label>
        {sums?.counted_until && <span className="faint">counted until <When at={sums.counted_until} /></span>}
        {sums && !sums.counting && <span className="badge error">nothing counts at the moment: threadlog derive does not run</span>}
      </div>
      <Failure text={usage.error} />
      {wrong && <p className="empty">{wrong}</p>}
      {over && sums && <>
        <div className="charts">
          <Columns label="Runs" times={times} series={charted("runs")} say={figure} />
          <Columns label="Tokens" times={times} series={charted("total_tokens")} say={figure} />
          <Columns label="Cost" times={times} series={charted("cost")} say={money} />
        </div>
        <Table label="Usage" rows={rows} columns={[
          { title: by, width: "1.6fr", cell: (row) => <span title={row.value}>{title(row.value)}</span> },
          ...(by === "model" ? [] : [
            { title: "runs", cell: (row: Row) => figure(row.runs) },
            { title: "failed", cell: (row: Row) => `${figure(row.failed)}${row.runs ? ` (${((100 * row.failed) / row.runs).toFixed(1)} %)` : ""}` },
            { title: "waited p50, p95", cell: (row: Row) => `${seconds(row.wait_median)}, ${seconds(row.wait_p95)}` },
            { title: "ran p50, p95", cell: (row: Row) => `${seconds(row.run_median)}, ${seconds(row.run_p95)}` },
          ]),
          { title: "model calls", cell: (row) => figure(row.calls) },
          { title: "tokens", cell: (row) => figure(row.total_tokens) },
          { title: "cost", cell: (row) => `${money(row.cost)}${row.unpriced_calls ? " +" : ""}` },
        ]} />
        {rows.some((row) => row.unpriced_calls) && <p className="faint">+ and calls of models without a price in THREADLOG_PRICES.</p>}
        {sums.left_out > 0 && <p className="faint">{figure(sums.left_out)} more are not shown.</p>}
      </>}
    </section>
  );
}
