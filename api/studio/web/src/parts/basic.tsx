import { Component, useEffect, useRef, type ReactNode } from "react";

export const Badge = ({ text, label }: { text: string; label?: string }) => <span className={`badge ${text}`}>{label ?? text}</span>;

export const Failure = ({ text }: { text: string }) => (text ? <div className="error" role="alert">{text}</div> : null);

export const Id = ({ id }: { id: string }) => <code title={id}>{id.length > 13 ? id.slice(0, 13) + "…" : id}</code>;

/** A time of the server, as the reader's clock has it. */
export function When({ at }: { at: string | null | undefined }) {
  if (!at) return <>–</>;
  const time = new Date(at);
  return <time dateTime={at} title={at}>{Number.isNaN(+time) ? at : time.toLocaleString()}</time>;
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

export function Dialog({ title, close, children }: { title: string; close: () => void; children: ReactNode }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} onClose={close} aria-label={title}>
      <div className="bar"><h1>{title}</h1><button className="push" onClick={close}>Close</button></div>
      {children}
    </dialog>
  );
}

export function Tabs({ names, chosen, choose }: { names: string[]; chosen: string; choose: (name: string) => void }) {
  return (
    <div className="tabs" role="tablist" aria-label="Views"
      onKeyDown={(event) => {
        const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
        if (!step) return;
        const next = names[(names.indexOf(chosen) + step + names.length) % names.length];
        choose(next);
        (event.currentTarget.querySelector(`[data-name="${next}"]`) as HTMLElement | null)?.focus();
      }}>
      {names.map((name) => (
        <button key={name} role="tab" data-name={name} aria-selected={name === chosen} tabIndex={name === chosen ? 0 : -1}
          onClick={() => choose(name)}>{name}</button>
      ))}
    </div>
  );
}

/** What can't be shown is shown raw, never as a blank page. `otherwise`: what serves in its place. */
export class Fallback extends Component<{ raw: unknown; otherwise?: ReactNode; children: ReactNode }, { error: Error | null }> {
  state = { error: null };
  static getDerivedStateFromError = (error: Error) => ({ error });
  componentDidUpdate(before: { raw: unknown }) {
    if (before.raw !== this.props.raw && this.state.error) this.setState({ error: null });
  }
  render() {
    if (!this.state.error) return this.props.children;
    return (
      <div>
        <Failure text={`This can't be drawn: ${(this.state.error as Error).message}`} />
        <pre className="json">{JSON.stringify(this.props.raw, null, 2)}</pre>
        {this.props.otherwise}
      </div>
    );
  }
}
