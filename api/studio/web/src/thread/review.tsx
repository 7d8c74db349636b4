import { lazy, Suspense, useId, useState } from "react";
import { Failure } from "../parts/basic";
import { JsonView } from "../parts/json";
import { schemaLike, type Action, type Answer, type Decision, type Review as Asked } from "./reviews";

const JsonEditor = lazy(() => import("../parts/editor"));
const Markdown = lazy(() => import("../parts/markdown"));
const SchemaForm = lazy(() => import("../parts/form"));

const BUTTONS: Record<Answer, string> = { approve: "Approve", edit: "Edit", respond: "Respond", reject: "Reject", ignore: "Ignore" };
const DONE: Record<Answer, string> = { approve: "Approved", edit: "Approved as edited", respond: "Responded", reject: "Rejected", ignore: "Ignored" };

/** Asks of each action whether and how the agent may do it. Answered when all are. */
export function Review({ review, give, busy }: { review: Asked; give: (value: any) => void; busy: boolean }) {
  const [decisions, setDecisions] = useState<Record<number, Decision>>({});
  const decide = (index: number, decision: Decision) => {
    const all = { ...decisions, [index]: decision };
    setDecisions(all);
    if (review.actions.every((_, one) => all[one])) give(review.reply(review.actions.map((_, one) => all[one])));
  };
  return review.actions.map((action, index) => (
    <OneAction key={index} action={action} decision={decisions[index]} busy={busy} decide={(decision) => decide(index, decision)}
      reconsider={() => setDecisions(({ [index]: _, ...others }) => others)} />
  ));
}

function OneAction({ action, decision, decide, reconsider, busy }: {
  action: Action; decision?: Decision; decide: (decision: Decision) => void; reconsider: () => void; busy: boolean;
}) {
  const [open, setOpen] = useState<Answer | null>(null);
  const title = useId();
  const choose = (answer: Answer) => (answer === "approve" || answer === "ignore" ? decide({ answer }) : setOpen(open === answer ? null : answer));
  return (
    <section className="review" aria-labelledby={title}>
      <code id={title}>{action.name}</code>
      {action.description && <Suspense fallback={<p>{action.description}</p>}><Markdown text={action.description} /></Suspense>}
      {open !== "edit" && <JsonView value={action.args} open={2} />}
      {decision ? <div className="bar"><span>{DONE[decision.answer]}</span><button disabled={busy} onClick={reconsider}>Change</button></div> : (
        <>
          <div className="bar">
            {action.allowed.map((answer) => (
              <button key={answer} disabled={busy} className={answer === "approve" ? "main" : answer === "reject" ? "bad" : ""}
                aria-expanded={answer === "approve" || answer === "ignore" ? undefined : open === answer} onClick={() => choose(answer)}>{BUTTONS[answer]}</button>
            ))}
            {!action.allowed.length && <span className="empty">It allows no answer.</span>}
          </div>
          {open === "edit" && <Edited action={action} busy={busy} give={(args) => decide({ answer: "edit", args })} />}
          {(open === "respond" || open === "reject") && (
            <Said key={open} label={open === "respond" ? "Your response" : "Reason (optional)"} needed={open === "respond"} action={open === "respond" ? "Send the response" : "Reject it"} busy={busy}
              give={(message) => decide({ answer: open, message })} />
          )}
        </>
      )}
    </section>
  );
}

function Said({ label, needed, action, give, busy }: { label: string; needed: boolean; action: string; give: (text: string) => void; busy: boolean }) {
  const [text, setText] = useState("");
  return (
    <form className="composer" onSubmit={(event) => { event.preventDefault(); give(text); }}>
      <label>{label} <textarea value={text} onChange={(event) => setText(event.target.value)} /></label>
      <div className="bar"><button className="main" disabled={busy || (needed && !text.trim())}>{action}</button></div>
    </form>
  );
}

/** The arguments as a form: by their schema, else by their values, else as JSON. */
function Edited({ action, give, busy }: { action: Action; give: (args: any) => void; busy: boolean }) {
  const schema = action.argsSchema?.properties ? action.argsSchema : schemaLike(action.args);
  const [asJson, setAsJson] = useState(!schema);
  const [args, setArgs] = useState(action.args);
  const [text, setText] = useState(() => JSON.stringify(action.args, null, 2));
  const [error, setError] = useState("");
  const parsed = (then: (value: any) => void) => {
    setError("");
    try {
      then(JSON.parse(text));
    } catch (failure) {
      setError(`Not JSON: ${(failure as Error).message}`);
    }
  };
  const turn = () => {
    if (!asJson) {
      setText(JSON.stringify(args, null, 2));
      return setAsJson(true);
    }
    parsed((value) => { setArgs(value); setAsJson(false); });
  };
  return (
    <>
      {schema && <label><input type="checkbox" checked={asJson} onChange={turn} /> the arguments as JSON</label>}
      {asJson ? (
        <>
          <Suspense fallback={null}><JsonEditor label={`Arguments of ${action.name}`} text={text} change={setText} /></Suspense>
          <Failure text={error} />
          <div className="bar"><button className="main" disabled={busy} onClick={() => parsed(give)}>Approve as edited</button></div>
        </>
      ) : <Suspense fallback={null}><SchemaForm schema={schema} value={args} change={setArgs} submit={give} action="Approve as edited" busy={busy} /></Suspense>}
    </>
  );
}
