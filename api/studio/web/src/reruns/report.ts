// The report that `threadlog rerun --report` writes, read from a file that anybody may have edited.

export type Verdict = "same" | "different" | "unanswered";
export type Change = { path: string; recorded: unknown; today: unknown; has: string[] };
export type Task = { step: number; node: string; verdict: Verdict; details: string[]; changes: Change[] };
export type Rerun = { run_id: string; thread_id: string; graph_id: string; verdict: Verdict; why: string; tasks: Task[] };
/** `unreadable`: what of it is not a run, as it stands there. */
export type Report = { name: string; made_at: string; runs: Rerun[]; unreadable: unknown[] };

export const VERDICTS: Verdict[] = ["different", "unanswered", "same"];
export const WORDS: Record<Verdict, string> = { same: "same", different: "different", unanswered: "can't be compared" };

const MOST_BYTES = 256 * 1024 * 1024;

const isObject = (value: unknown): value is Record<string, any> => typeof value === "object" && value !== null && !Array.isArray(value);
const isVerdict = (value: unknown): value is Verdict => VERDICTS.includes(value as Verdict);
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const list = (value: unknown): any[] => (Array.isArray(value) ? value : []);

function taskOf(value: unknown): Task | null {
  if (!isObject(value) || !isVerdict(value.verdict) || typeof value.node !== "string") return null;
  const changes = list(value.changes).filter(isObject).map((one) => ({
    path: text(one.path), recorded: one.recorded, today: one.today, has: Array.isArray(one.has) ? one.has.map(String) : ["recorded", "today"],
  }));
  return { step: Number(value.step) || 0, node: value.node, verdict: value.verdict, details: list(value.details).map(String), changes };
}

function runOf(value: unknown): Rerun | null {
  if (!isObject(value) || typeof value.run_id !== "string" || !isVerdict(value.verdict) || !Array.isArray(value.tasks)) return null;
  const tasks = value.tasks.map(taskOf);
  if (tasks.includes(null)) return null;
  return { run_id: value.run_id, thread_id: text(value.thread_id), graph_id: text(value.graph_id), verdict: value.verdict, why: text(value.why), tasks: tasks as Task[] };
}

/** Raises an `Error` whose message is a sentence. */
export async function readReport(file: File): Promise<Report> {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} has ${(file.size / 1_048_576).toFixed(0)} MB: too much for this page, which takes 256.`);
  const content = await file.text().catch(() => {
    throw new Error(`${file.name} can't be read.`);
  });
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (failure) {
    throw new Error(`${file.name} is not JSON: ${(failure as Error).message}. Make it with \`threadlog rerun RUN --report FILE\`.`);
  }
  if (!isObject(value) || !Array.isArray(value.runs)) {
    throw new Error(`${file.name} is JSON, and not a report of \`threadlog rerun\`: it has no list \`runs\`.`);
  }
  const runs: Rerun[] = [];
  const unreadable: unknown[] = [];
  for (const one of value.runs) {
    const run = runOf(one);
    if (run) runs.push(run);
    else unreadable.push(one);
  }
  return { name: file.name, made_at: text(value.made_at), runs, unreadable };
}

export function countsOf(verdicts: Verdict[]): Record<Verdict, number> {
  const counts = { same: 0, different: 0, unanswered: 0 };
  for (const one of verdicts) counts[one] += 1;
  return counts;
}

/** Where runs do otherwise, by graph and node, the most frequent first. */
export function placesOf(runs: Rerun[]): { key: string; graph: string; node: string; runs: number; changes: string[] }[] {
  const places = new Map<string, { key: string; graph: string; node: string; runs: number; changes: Set<string> }>();
  for (const run of runs) {
    const seen = new Set<string>();
    for (const task of run.tasks.filter((one) => one.verdict === "different")) {
      const key = JSON.stringify([run.graph_id, task.node]);
      const place = places.get(key) ?? { key, graph: run.graph_id, node: task.node, runs: 0, changes: new Set() };
      if (!seen.has(key)) place.runs += 1;
      seen.add(key);
      for (const change of task.changes) place.changes.add(change.path);
      places.set(key, place);
    }
  }
  return [...places.values()].map((one) => ({ ...one, changes: [...one.changes] })).sort((a, b) => b.runs - a.runs);
}
