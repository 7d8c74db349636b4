import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef, useState } from "react";
import { Badge, duration, Failure, Id, When } from "../parts/basic";
import { CopyJson, JsonView } from "../parts/json";
import { Spent, totalsOf } from "../parts/spent";
import { link, useEvery, useLoad } from "../hooks";
import { ask, askText, client, reason } from "../server";

type Chapter = { partition: number; offset: number; index: number; at: string; seconds: number; type: string; text: string; checkpoint_id: string | null };
type Attempt = { number: number; scheduled_at: string; started_at: string | null; ended_at: string | null; executor: string | null; end: string | null; steps: number };
type Story = {
  run_id: string; thread_id: string; graph_id: string; assistant_id: string | null; asked_by: string | null; status: string; asked_at: string | null;
  waited_seconds: number | null; ran_seconds: number | null; steps: number; attempts: Attempt[]; interrupts: Record<string, any[]>; error: any;
  usage: Record<string, Record<string, number>>; chapters: Chapter[]; left_out: number; complete: boolean;
};

const LOOK_EVERY_MS = 2000;
const PATIENCE = 5; // the story of a long run takes the server long: it is asked for less often
const ALL = 10_000;
const LINE_PX = 30;

const KINDS: Record<string, (chapter: Chapter) => boolean> = {
  everything: () => true,
  decisions: (chapter) => /^(run|state|webhook|thread|report)\./.test(chapter.type),
  steps: (chapter) => /^(checkpoint|tasks|writes|checkpoints)\./.test(chapter.type),
  "questions and errors": (chapter) => toneOf(chapter) === "bad" || toneOf(chapter) === "wait",
};

function toneOf({ type, text }: Chapter): string {
  if (/^(run\.(failed|timed_out|refused|lease_expired|interrupted|rolled_back|deleted)|report\.fenced|webhook\.(failed|dead)|state\.update_failed|thread\.deleted)$/.test(type) || text.endsWith("raised an error")) return "bad";
  if (text.startsWith("it waits for an answer") || text.startsWith("it stopped before") || text.endsWith("asks a question and waits") || type === "run.released") return "wait";
  if (/^(run\.succeeded|webhook\.delivered|state\.updated)$/.test(type)) return "good";
  return /^run\./.test(type) ? "main" : "";
}

/** The story of a run: who asked, what was decided and why, and where the log has it. `runId`: also `latest`. */
export default function ExplainPage({ threadId, runId }: { threadId: string; runId: string }) {
  const [kind, setKind] = useState("everything");
  const took = useRef(0);
  const asked = useRef(0);
  const id = useLoad(async () => (runId === "latest" ? (await client.runs.list(threadId, { limit: 1 }))[0]?.run_id ?? "" : runId), [threadId, runId]);
  const path = `/threads/${encodeURIComponent(threadId)}/runs/${encodeURIComponent(id.value ?? "")}/explain?limit=${ALL}`;
  const story = useLoad(async () => {
    if (!id.value) return undefined;
    const began = (asked.current = performance.now());
    try {
      return await ask<Story>("GET", path);
    } finally {
      took.current = performance.now() - began;
    }
  }, [id.value]);
  const told = story.value;
  const thread = useLoad(() => client.threads.get(threadId), [threadId, told]);
  // A question of a run may have been answered by a later one.
  const waits = told && Object.keys(told.interrupts).some((task) => task in (thread.value?.interrupts ?? {}));
  const [further, setFurther] = useState<Chapter[]>([]); // of a run that has more than one response holds
  const [left, setLeft] = useState(0);
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    setFurther([]);
    setLeft(told?.left_out ?? 0);
  }, [told]);
  const over = told && !["pending", "running"].includes(told.status) && told.attempts.every((attempt) => attempt.end);
  useEvery(LOOK_EVERY_MS, () => {
    if (told && !over && !story.loading && performance.now() - asked.current > PATIENCE * took.current) story.reload();
  });
  const all = [...(told?.chapters ?? []), ...further];
  const chapters = all.filter(KINDS[kind]);
  const more = async () => {
    const last = all.at(-1)!;
    try {
      const page = await ask<Story>("GET", `${path}&after=${last.offset}-${last.index}`);
      setFurther([...further, ...page.chapters]);
      setLeft(page.left_out);
      setTrouble("");
    } catch (failure) {
      setTrouble(reason(failure));
    }
  };
  const totals = totalsOf(told?.usage);
  return (
    <main className="page">
      <div className="bar"><h1>Run <Id id={id.value || runId} /></h1>{told && <Badge text={told.status} />}
        {told && !over && <span role="status">it goes on …</span>}
        <span className="push" /><a href={link("threads", threadId)}>To the thread</a>
        {told && <CopyText label="Copy as text" load={() => askText(path)} />}{told && <CopyJson value={told} />}</div>
      <Failure text={id.error || story.error} />
      {id.value === "" && <p className="empty">This thread has no runs.</p>}
      {!told && !story.error && id.value !== "" && !id.error && <p className="empty">Loading …</p>}
      {told && (
        <>
          <Facts story={told} totals={totals} />
          {told.error && <Failure text={`${told.error.error ?? "Error"}: ${told.error.message ?? ""}`} />}
          {Object.keys(told.interrupts).length > 0 && <section aria-label="What it asked" className="ask"><b>{waits ? "It waits for an answer" : thread.value ? "It asked, and waits no longer" : "It asked"}</b>
            {Object.values(told.interrupts).flat().map((one: any, index) => typeof one?.value === "string" ? <p key={index} style={{ margin: 0 }}>{one.value}</p> : <JsonView key={index} value={one?.value ?? one} open={2} />)}
            {waits && <a href={link("threads", threadId)}>Answer in the thread</a>}</section>}
          <div className="bar"><h2>What happened</h2>
            <label>Show <select aria-label="Show" value={kind} onChange={(event) => setKind(event.target.value)}>{Object.keys(KINDS).map((one) => <option key={one}>{one}</option>)}</select></label>
            <span className="badge">{chapters.length} of {all.length + left}</span></div>
          {!told.complete && <Failure text="The log goes on: this is what the part of it that the server looked through has. `threadlog explain` reads all of it." />}
          <Chapters threadId={threadId} chapters={chapters} />
          <Failure text={trouble} />
          {left > 0 && <button onClick={more}>{left.toLocaleString()} more</button>}
        </>
      )}
    </main>
  );
}

function Facts({ story, totals }: { story: Story; totals: ReturnType<typeof totalsOf> }) {
  const seconds = (value: number | null) => (value === null ? "" : duration(value * 1000));
  return (
    <dl className="facts" aria-label="The run">
      <dt>asked</dt><dd><When at={story.asked_at} /> by {story.asked_by ?? "a client that did not say who it is"}</dd>
      <dt>graph</dt><dd>{story.graph_id}{story.assistant_id && <> · assistant <Id id={story.assistant_id} /></>}</dd>
      <dt>took</dt><dd>{[story.waited_seconds !== null && `waited ${seconds(story.waited_seconds)}`, story.ran_seconds !== null && `ran ${seconds(story.ran_seconds)}`, `${story.steps} checkpoints`].filter(Boolean).join(", ")}</dd>
      <dt>attempts</dt><dd>{story.attempts.length ? story.attempts.map((attempt) => (
        <div key={attempt.number}>{attempt.number}: {attempt.executor ? <>on <code>{attempt.executor}</code></> : "not begun"}, {attempt.steps} checkpoints, {attempt.end ? attempt.end.replace("run.", "").replace("_", " ") : "under way"}</div>
      )) : "none yet"}</dd>
      <dt>tokens</dt><dd>{totals.total ? <Spent usage={story.usage} /> : "none"}</dd>
    </dl>
  );
}

/** One line each, drawn while in view. */
function Chapters({ threadId, chapters }: { threadId: string; chapters: Chapter[] }) {
  const place = useRef<HTMLDivElement>(null);
  const lines = useVirtualizer({ count: chapters.length, getScrollElement: () => place.current, estimateSize: () => LINE_PX, overscan: 10 });
  const of = (chapter: Chapter) => `${chapter.offset}-${chapter.index}`;
  return (
    <div className="story" ref={place} tabIndex={0} role="list" aria-label="Story">
      <div role="presentation" style={{ height: lines.getTotalSize(), position: "relative" }}>
        {lines.getVirtualItems().map((item) => {
          const chapter = chapters[item.index];
          return (
            <div key={item.key} ref={lines.measureElement} data-index={item.index} role="listitem" aria-setsize={chapters.length} aria-posinset={item.index + 1}
              className={`chapter ${toneOf(chapter)}`} style={{ transform: `translateY(${item.start}px)` }}>
              <time dateTime={chapter.at} title={chapter.at}>{chapter.seconds.toFixed(3)} s</time>
              <span className="what">{chapter.text}</span>
              <span className="where">
                <a className="mono" href={link("threads", threadId, "log", of(chapter))} aria-label={`Event ${chapter.partition}@${chapter.offset} in the log`}>{chapter.partition}@{chapter.offset}</a>
                <a href={link("threads", threadId, "moment", of(chapter))} aria-label={`The state at ${chapter.partition}@${chapter.offset}`}>state</a>
              </span>
            </div>
          );
        })}
      </div>
      {!chapters.length && <p className="empty">Nothing of that kind.</p>}
    </div>
  );
}

function CopyText({ label, load }: { label: string; load: () => Promise<string> }) {
  const [said, setSaid] = useState(label);
  return (
    <button onClick={async () => {
      const ended = await load().then((text) => navigator.clipboard.writeText(text)).then(() => "Copied", () => "That failed");
      setSaid(ended);
      setTimeout(() => setSaid(label), 1500);
    }}>{said}</button>
  );
}
