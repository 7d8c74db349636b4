import { lazy, Suspense, useState } from "react";
import { Failure } from "../parts/basic";
import { JsonView } from "../parts/json";

const JsonEditor = lazy(() => import("../parts/editor"));
const SchemaForm = lazy(() => import("../parts/form"));

export type Interrupt = { id?: string; interrupt_id?: string; value: any; response_schema?: any };

export const idOf = (interrupt: Interrupt) => interrupt.id ?? interrupt.interrupt_id ?? "";

/** Everything the thread waits for, answered at once: LangGraph resumes when it has all answers. */
export function Interrupts({ waiting, answer, busy }: { waiting: Interrupt[]; answer: (resume: any) => void; busy: boolean }) {
  const [answers, setAnswers] = useState<Record<string, any>>({});
  const give = (interrupt: Interrupt, value: any) => {
    if (waiting.length === 1) return answer(idOf(interrupt) ? { [idOf(interrupt)]: value } : value);
    const all = { ...answers, [idOf(interrupt)]: value };
    setAnswers(all);
    if (waiting.every((one) => idOf(one) in all)) answer(all);
  };
  return (
    <section className="bar" style={{ display: "grid" }} aria-label="Waiting for you">
      {waiting.map((interrupt, index) => idOf(interrupt) in answers ? (
        <div className="ask" key={idOf(interrupt)}>Answered; {waiting.length - Object.keys(answers).length} more to go.</div>
      ) : (
        <Question key={idOf(interrupt) || index} interrupt={interrupt} give={(value) => give(interrupt, value)} busy={busy} />
      ))}
    </section>
  );
}

function Question({ interrupt, give, busy }: { interrupt: Interrupt; give: (value: any) => void; busy: boolean }) {
  const { value, response_schema: schema } = interrupt;
  const review = value && typeof value === "object" && Array.isArray(value.action_requests);
  return (
    <div className="ask">
      <b>The agent waits for an answer</b>
      {typeof value === "string" ? <p style={{ margin: 0 }}>{value}</p> : <JsonView value={value} open={3} />}
      {schema ? (
        <Suspense fallback={null}><SchemaForm schema={schema} submit={give} action="Answer" busy={busy} /></Suspense>
      ) : review ? <Review actions={value.action_requests} give={give} busy={busy} /> : <Free give={give} busy={busy} />}
    </div>
  );
}

type Decision = { type: "approve" } | { type: "reject"; message?: string } | { type: "edit"; edited_action: { name: string; args: any } };

/** The questions of LangChain's human-in-the-loop middleware: approve, edit or reject each call. */
function Review({ actions, give, busy }: { actions: any[]; give: (value: any) => void; busy: boolean }) {
  const [decisions, setDecisions] = useState<Record<number, Decision>>({});
  const [editing, setEditing] = useState<number | null>(null);
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  const decide = (index: number, decision: Decision) => {
    const all = { ...decisions, [index]: decision };
    setDecisions(all);
    setEditing(null);
    if (actions.every((_, one) => all[one])) give({ decisions: actions.map((_, one) => all[one]) });
  };
  return (
    <>
      {actions.map((action, index) => (
        <div key={index} className="bar">
          <code>{String(action.name)}</code>
          {decisions[index] ? <span>{decisions[index].type}</span> : editing === index ? (
            <div style={{ width: "100%" }}>
              <Suspense fallback={null}><JsonEditor label={`Arguments of ${action.name}`} text={text} change={setText} /></Suspense>
              <Failure text={error} />
              <button className="main" disabled={busy} onClick={() => {
                try {
                  decide(index, { type: "edit", edited_action: { name: action.name, args: JSON.parse(text) } });
                } catch (failure) {
                  setError(`Not JSON: ${(failure as Error).message}`);
                }
              }}>Approve as edited</button>
            </div>
          ) : (
            <>
              <button className="main" disabled={busy} onClick={() => decide(index, { type: "approve" })}>Approve</button>
              <button disabled={busy} onClick={() => { setText(JSON.stringify(action.args ?? action.arguments ?? {}, null, 2)); setEditing(index); }}>Edit</button>
              <button className="bad" disabled={busy} onClick={() => decide(index, { type: "reject" })}>Reject</button>
            </>
          )}
        </div>
      ))}
    </>
  );
}

function Free({ give, busy }: { give: (value: any) => void; busy: boolean }) {
  const [text, setText] = useState("");
  const [asJson, setAsJson] = useState(false);
  const [error, setError] = useState("");
  return (
    <form className="composer" onSubmit={(event) => {
      event.preventDefault();
      if (!asJson) return give(text);
      try {
        give(JSON.parse(text));
      } catch (failure) {
        setError(`Not JSON: ${(failure as Error).message}`);
      }
    }}>
      <textarea aria-label="Your answer" value={text} onChange={(event) => setText(event.target.value)} />
      <Failure text={error} />
      <div className="bar">
        <button className="main" disabled={busy}>Answer</button>
        <button type="button" disabled={busy} onClick={() => give(true)}>Yes (true)</button>
        <button type="button" disabled={busy} onClick={() => give(false)}>No (false)</button>
        <label><input type="checkbox" checked={asJson} onChange={(event) => setAsJson(event.target.checked)} /> the answer is JSON</label>
      </div>
    </form>
  );
}
