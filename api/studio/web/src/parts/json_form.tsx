import { lazy, Suspense, useState } from "react";
import { Dialog, Failure } from "./basic";
import { reason } from "../server";

const JsonEditor = lazy(() => import("./editor"));

/** Asks for one JSON value and does something with it; says what is wrong with it. */
export function JsonDialog({ title, help, initial, action, act, close }: {
  title: string; help?: string; initial: unknown; action: string; act: (value: any) => Promise<unknown>; close: () => void;
}) {
  const [text, setText] = useState(JSON.stringify(initial, null, 2));
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  return (
    <Dialog title={title} close={close}>
      <form onSubmit={async (event) => {
        event.preventDefault();
        setBusy(true);
        try {
          await act(JSON.parse(text));
          close();
        } catch (failure) {
          setError(failure instanceof SyntaxError ? `Not JSON: ${failure.message}` : reason(failure));
        }
        setBusy(false);
      }}>
        {help && <p>{help}</p>}
        <Suspense fallback={null}><JsonEditor label={title} text={text} change={setText} /></Suspense>
        <Failure text={error} />
        <button className="main" disabled={busy}>{action}</button>
      </form>
    </Dialog>
  );
}
