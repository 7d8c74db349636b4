// What runs have used: tokens by model, and what they cost where the server has prices.
import { ask } from "../server";
import { useLoad } from "../hooks";

/** Counts of tokens by model. */
export type Usage = Record<string, Record<string, number>>;
export type Totals = { input: number; output: number; total: number };
export type Price = { model: string; input: number; output: number; cache_read: number };

export function add(usage: Usage, more: Usage | undefined | null): void {
  for (const [model, used] of Object.entries(more ?? {})) {
    const sum = (usage[model] ??= {});
    for (const [kind, count] of Object.entries(used ?? {})) if (typeof count === "number") sum[kind] = (sum[kind] ?? 0) + count;
  }
}

export function totalsOf(usage: Usage | undefined | null): Totals {
  const totals = { input: 0, output: 0, total: 0 };
  for (const used of Object.values(usage ?? {})) {
    totals.input += used.input_tokens ?? 0;
    totals.output += used.output_tokens ?? 0;
    totals.total += used.total_tokens ?? (used.input_tokens ?? 0) + (used.output_tokens ?? 0);
  }
  return totals;
}

const MILLION = 1_000_000;
const escaped = (text: string) => text.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");

function priceOf(model: string, prices: Price[]): Price | undefined {
  return prices.find((price) => price.model === model) ?? prices.find((price) => new RegExp(`^${escaped(price.model)}$`, "s").test(model));
}

/** In the currency of the server's prices; null: there is none for any of the models. */
export function costOf(usage: Usage, prices: Price[]): number | null {
  let cost: number | null = null;
  for (const [model, used] of Object.entries(usage)) {
    const price = priceOf(model, prices);
    if (!price) continue;
    const input = used.input_tokens ?? 0;
    const cached = Math.min(used.cache_read_tokens ?? 0, input);
    cost = (cost ?? 0) + ((input - cached) * price.input + cached * price.cache_read + (used.output_tokens ?? 0) * price.output) / MILLION;
  }
  return cost;
}

let known: Promise<Price[]> | null = null; // they change when the server starts anew

/** What models cost here; nothing where the server has no prices, or the caller may not see them. */
export function usePrices(): Price[] {
  const { value } = useLoad(() => (known ??= ask<{ prices: Price[] }>("GET", "/prices").then((answer) => answer.prices ?? [], () => { known = null; return []; })), []);
  return value ?? [];
}

const count = (n: number) => n.toLocaleString();
export const money = (cost: number) => cost.toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: cost < 1 ? 6 : 2 });

/** In one line: tokens in and out, and the cost if it is known. */
export function Tally({ usage, title }: { usage: Usage; title: string }) {
  const totals = totalsOf(usage);
  const cost = costOf(usage, usePrices());
  return (
    <span className="tally" title={`${title}: ${count(totals.input)} tokens in, ${count(totals.output)} out`}>
      {count(totals.total)} tokens{totals.input || totals.output ? ` (${count(totals.input)} in, ${count(totals.output)} out)` : ""}{cost !== null && ` · cost ${money(cost)}`}
    </span>
  );
}

/** A line per model. */
export function Spent({ usage }: { usage: Usage }) {
  const prices = usePrices();
  return (
    <>
      {Object.entries(usage).map(([model, used]) => {
        const cost = costOf({ [model]: used }, prices);
        return <div key={model}>{model}: {Object.entries(used).map(([kind, n]) => `${kind.replaceAll("_", " ")} ${count(n)}`).join(", ")}{cost !== null && `, cost ${money(cost)}`}</div>;
      })}
    </>
  );
}
