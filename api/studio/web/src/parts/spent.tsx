// What runs have used: tokens by model, and what they cost where the server has prices.

export type Usage = Record<string, Record<string, number>>;
export type Totals = { input: number; output: number; total: number };

export function totalsOf(usage: Usage | undefined | null): Totals {
  const totals = { input: 0, output: 0, total: 0 };
  for (const used of Object.values(usage ?? {})) {
    totals.input += used.input_tokens ?? 0;
    totals.output += used.output_tokens ?? 0;
    totals.total += used.total_tokens ?? (used.input_tokens ?? 0) + (used.output_tokens ?? 0);
  }
  return totals;
}

const count = (n: number) => n.toLocaleString();

/** A line per model. */
export function Spent({ usage }: { usage: Usage }) {
  return (
    <>
      {Object.entries(usage).map(([model, used]) => (
        <div key={model}>{model}: {Object.entries(used).map(([kind, n]) => `${kind.replaceAll("_", " ")} ${count(n)}`).join(", ")}</div>
      ))}
    </>
  );
}
