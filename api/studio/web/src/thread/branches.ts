// The checkpoints of a thread as a tree: which lead to one, where two part, what ran between them.
import { checkpointOf, parentOf, type State } from "./states";

/** From the oldest checkpoint that is known to this one. */
export function lineage(states: State[], id: string): State[] {
  const byId = new Map(states.map((state) => [checkpointOf(state), state]));
  const line: State[] = [];
  for (let at = byId.get(id); at && !line.includes(at); at = byId.get(parentOf(at))) line.push(at);
  return line.reverse();
}

/** The ends of branches: what nothing was run from, the newest first. */
export function tips(states: State[]): State[] {
  const parents = new Set(states.map(parentOf));
  return states.filter((state) => !parents.has(checkpointOf(state)));
}

export type Fork = { common: State[]; left: State[]; right: State[] };

/** What two checkpoints have in common, and what each has of its own after that. */
export function forkOf(states: State[], left: string, right: string): Fork {
  const one = lineage(states, left);
  const other = lineage(states, right);
  let n = 0;
  while (n < one.length && n < other.length && one[n] === other[n]) n += 1;
  return { common: one.slice(0, n), left: one.slice(n), right: other.slice(n) };
}

/** The nodes that ran between each checkpoint and the one before it. */
export function ranIn(line: State[], before: State | undefined): string[] {
  return line.flatMap((state, index) => ranFor(state, index ? line[index - 1] : before));
}

export function ranFor(state: State, before: State | undefined): string[] {
  return state.metadata?.source === "loop" ? (before?.next ?? []) : [];
}

/** What a checkpoint is, in a few words. */
export function titleOf(state: State): string {
  const next = state.next?.length ? `→ ${state.next.join(", ")}` : "· end";
  return `step ${state.metadata?.step ?? "?"} · ${state.metadata?.source ?? ""} ${next}`;
}
