import { useState, type DragEvent } from "react";
import { Failure, Id, When } from "../parts/basic";
import { CopyJson, JsonView } from "../parts/json";
import { Table } from "../parts/table";
import { Sides } from "../parts/sides";
import { link } from "../hooks";
import { countsOf, placesOf, readReport, VERDICTS, WORDS, type Report, type Rerun, type Task, type Verdict } from "./report";

const TONES: Record<Verdict, string> = { same: "success", different: "error", unanswered: "pending" };
const Says = ({ verdict }: { verdict: Verdict }) => <span className={`badge ${TONES[verdict]}`}>{WORDS[verdict]}</span>;

let kept: Report | null = null; // until the tab is closed: a link out of the report leads back to it

/** The report of `threadlog rerun`: where today's code does otherwise. It is read here, and sent nowhere. */
export default function RerunsPage({ runId }: { runId: string }) {
  const [report, setReport] = useState(kept);
  const [error, setError] = useState("");
  const [wanted, setWanted] = useState<Verdict | "">("");
  const [place, setPlace] = useState("");
  const [over, setOver] = useState(false);
  const open = async (file: File | undefined) => {
    if (!file) return;
    try {
      kept = await readReport(file);
      setReport(kept);
      setError("");
      setWanted("");
      setPlace("");
      location.hash = link("reruns", ...(kept.runs.length === 1 ? [kept.runs[0].run_id] : []));
    } catch (failure) {
      setError((failure as Error).message);
    }
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    void open(event.dataTransfer.files[0]);
  };
  const run = report?.runs.find((one) => one.run_id === runId);
  return (
    <main className="page" onDragOver={(event) => { event.preventDefault(); setOver(true); }} onDragLeave={() => setOver(false)} onDrop={drop}>
      <div className="bar"><h1>Reruns</h1>{report && <span className="badge">{report.name}</span>}{report?.made_at && <When at={report.made_at} />}</div>
      <div className={`drop ${over ? "over" : ""}`}>
        <label>Report <input type="file" accept=".json,application/json" aria-label="Report" onChange={(event) => { void open(event.target.files?.[0]); event.target.value = ""; }} /></label>
        <span>or drop it here. It is made by <code>threadlog rerun RUN --report FILE</code>, of many runs with <code>--since 7d</code>; it stays in this tab.</span>
      </div>
      <Failure text={error} />
      {report && report.unreadable.length > 0 && (
        <section aria-label="Unreadable">
          <Failure text={`${report.unreadable.length} of ${report.runs.length + report.unreadable.length} runs of the report can't be understood; they are below as they are.`} />
          <JsonView value={report.unreadable} open={1} />
        </section>
      )}
      {report && runId && !run && <Failure text={`The report has no run ${runId}.`} />}
      {report && (run ? <OneRun run={run} many={report.runs.length > 1} /> : <Summary report={report} wanted={wanted} setWanted={setWanted} place={place} setPlace={setPlace} />)}
    </main>
  );
}

function Summary({ report, wanted, setWanted, place, setPlace }: {
  report: Report; wanted: Verdict | ""; setWanted: (verdict: Verdict | "") => void; place: string; setPlace: (key: string) => void;
}) {
  const counts = countsOf(report.runs.map((run) => run.verdict));
  const places = placesOf(report.runs);
  const at = places.find((one) => one.key === place);
  const rows = report.runs.filter((run) => (!wanted || run.verdict === wanted)
    && (!at || (run.graph_id === at.graph && run.tasks.some((task) => task.node === at.node && task.verdict === "different"))));
  return (
    <>
      <div className="tiles" role="group" aria-label="Runs by result">
        {VERDICTS.map((verdict) => (
          <button key={verdict} className={`tile ${TONES[verdict]}`} aria-pressed={wanted === verdict} onClick={() => setWanted(wanted === verdict ? "" : verdict)}>
            <b>{counts[verdict]}</b>{WORDS[verdict]}</button>
        ))}
      </div>
      {places.length > 0 && (
        <section aria-label="Where they differ">
          <h2>Where they differ</h2>
          <ul className="plain">
            {places.slice(0, 50).map((one) => (
              <li key={one.key}><button className="bare" aria-pressed={place === one.key} onClick={() => setPlace(place === one.key ? "" : one.key)}>{one.graph} · {one.node}</button>
                {" "}in {one.runs} {one.runs === 1 ? "run" : "runs"}{one.changes.length > 0 && <>: <code>{one.changes.slice(0, 6).join(", ")}{one.changes.length > 6 ? " …" : ""}</code></>}</li>
            ))}
          </ul>
        </section>
      )}
      <div className="bar"><h2>Runs</h2><span className="badge">{rows.length} of {report.runs.length}</span>
        {(wanted || place) && <button onClick={() => { setWanted(""); setPlace(""); }}>All of them</button>}<span className="push" /><CopyJson value={rows} /></div>
      <Table label="Runs of the report" rows={rows} columns={[
        { title: "Run", width: "130px", cell: (row) => <a href={link("reruns", row.run_id)}><Id id={row.run_id} /></a> },
        { title: "Graph", width: "120px", cell: (row) => row.graph_id },
        { title: "Result", width: "150px", cell: (row) => <Says verdict={row.verdict} /> },
        { title: "First of it", width: "2fr", cell: (row) => firstOf(row) },
      ]} />
    </>
  );
}

function firstOf(run: Rerun): string {
  const task = run.tasks.find((one) => one.verdict === run.verdict && one.verdict !== "same");
  return run.why || (task ? `step ${task.step} ${task.node}: ${task.details[0] ?? ""}` : "");
}

function OneRun({ run, many }: { run: Rerun; many: boolean }) {
  const [all, setAll] = useState(false);
  const counts = countsOf(run.tasks.map((task) => task.verdict));
  const shown = all ? run.tasks : run.tasks.filter((task) => task.verdict !== "same");
  return (
    <section aria-label={`Run ${run.run_id}`}>
      <div className="bar">
        {many && <a href={link("reruns")}>All runs</a>}
        <h2>Run <Id id={run.run_id} /></h2><span>{run.graph_id}</span><Says verdict={run.verdict} />
        <span className="push" />
        {run.thread_id && <a href={link("threads", run.thread_id, "runs", run.run_id)}>Explain it</a>}
        {run.thread_id && <a href={link("threads", run.thread_id)}>The thread</a>}<CopyJson value={run} />
      </div>
      {run.why && <Failure text={`It could not be executed again: ${run.why}`} />}
      {run.tasks.length > 0 && <p className="bar">{VERDICTS.filter((one) => counts[one]).map((one) => `${counts[one]} ${WORDS[one]}`).join(", ")}
        {counts.same > 0 && <label><input type="checkbox" checked={all} onChange={(event) => setAll(event.target.checked)} /> also what is the same</label>}</p>}
      <ol className="plain" aria-label="Steps of the rerun">{shown.map((task, index) => <Step key={index} task={task} />)}</ol>
      {!shown.length && run.tasks.length > 0 && <p className="empty">Today's code does what it did.</p>}
    </section>
  );
}

function Step({ task }: { task: Task }) {
  return (
    <li className="ran">
      <div className="bar"><b>step {task.step}</b><code>{task.node}</code><Says verdict={task.verdict} /></div>
      {task.changes.length ? task.changes.map((change, index) => (
        <Sides key={index} title={change.path} names={["recorded", "today"]} has={[change.has.includes("recorded"), change.has.includes("today")]} sides={[change.recorded, change.today]} />
      )) : task.details.map((detail, index) => <p key={index} style={{ margin: 0 }}>{detail}</p>)}
    </li>
  );
}
