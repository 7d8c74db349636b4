import { lazy, Suspense, useState } from "react";
import { Failure, Fallback } from "../parts/basic";
import { JsonView } from "../parts/json";
import { Review } from "./review";
import { reviewOf } from "./reviews";

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
  const review = reviewOf(value, schema);
  if (review) return <div className="ask"><b>May the agent do this?</b><Fallback raw={value} otherwise={<Free give={give} busy={busy} />}><Review review={review} give={give} busy={busy} /></Fallback></div>;
  return (
    <div className="ask">
      <b>The agent waits for an answer</b>
      {typeof value === "string" ? <p style={{ margin: 0 }}>{value}</p> : <JsonView value={value} open={3} />}
      {schema && typeof schema === "object" ? (
        <Fallback raw={schema} otherwise={<Free give={give} busy={busy} />}><Suspense fallback={null}><SchemaForm schema={schema} submit={give} action="Answer" busy={busy} /></Suspense></Fallback>
      ) : <Free give={give} busy={busy} />}
    </div>
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
