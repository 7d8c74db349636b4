import { useState } from "react";

const MANY = 100;

/** JSON as a tree. Nothing in it is interpreted; long lists are shown in parts. */
export function JsonView({ value, open = 2 }: { value: unknown; open?: number }) {
  return <div className="json mono"><Value value={value} open={open} /></div>;
}

function Value({ value, open }: { value: unknown; open: number }) {
  if (typeof value === "string") return <span className="text">{JSON.stringify(value)}</span>;
  if (value === null || typeof value !== "object") return <span className="other">{String(value)}</span>;
  return <Entries value={value} open={open} />;
}

function Entries({ value, open }: { value: object; open: number }) {
  const [unfolded, setUnfolded] = useState(open > 0);
  const [shown, setShown] = useState(MANY);
  const list = Array.isArray(value);
  const entries = Object.entries(value);
  if (!entries.length) return <span className="other">{list ? "[]" : "{}"}</span>;
  return (
    <details open={unfolded} onToggle={(event) => setUnfolded(event.currentTarget.open)}>
      <summary>{list ? `[${entries.length}]` : `{${entries.length}}`}</summary>
      {unfolded && entries.slice(0, shown).map(([key, inner]) => (
        <div key={key}><span className="key">{key}</span>: <Value value={inner} open={open - 1} /></div>
      ))}
      {unfolded && entries.length > shown && (
        <button className="bare" onClick={() => setShown(shown + 10 * MANY)}>{entries.length - shown} more</button>
      )}
    </details>
  );
}

export function CopyJson({ value, label = "Copy as JSON" }: { value: unknown; label?: string }) {
  const [said, setSaid] = useState(label);
  return (
    <button onClick={() => {
      navigator.clipboard.writeText(JSON.stringify(value, null, 2)).then(
        () => setSaid("Copied"), () => setSaid("The browser refused"));
      setTimeout(() => setSaid(label), 1500);
    }}>{said}</button>
  );
}

type Change = { path: string; before: unknown; after: unknown };

/** What differs, value by value, by path. */
export function changes(before: any, after: any, path = ""): Change[] {
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  const both = [before, after];
  const inside = both.every((one) => one && typeof one === "object") && Array.isArray(before) === Array.isArray(after);
  if (!inside) return [{ path: path || "everything", before, after }];
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return keys.flatMap((key) => changes(before[key], after[key], path ? `${path}.${key}` : key));
}

export function Diff({ before, after }: { before: unknown; after: unknown }) {
  const found = changes(before, after);
  if (!found.length) return <p className="empty">Nothing differs.</p>;
  return (
    <div className="diff">
      {found.slice(0, 200).map((change) => (
        <div key={change.path}>
          <code>{change.path}</code>
          {change.before !== undefined && <div className="removed"><span className="hidden">before: </span><JsonView value={change.before} open={1} /></div>}
          {change.after !== undefined && <div className="added"><span className="hidden">after: </span><JsonView value={change.after} open={1} /></div>}
        </div>
      ))}
      {found.length > 200 && <p>{found.length - 200} more differences</p>}
    </div>
  );
}
