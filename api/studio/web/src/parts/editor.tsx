import { json } from "@codemirror/lang-json";
import { EditorState } from "@codemirror/state";
import { basicSetup, EditorView } from "codemirror";
import { useEffect, useRef } from "react";

const COLOURS = EditorView.theme({
  "&": { color: "var(--text)", backgroundColor: "var(--ground)" },
  ".cm-content": { caretColor: "var(--text)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-gutters": { color: "var(--faint)", backgroundColor: "var(--surface)", borderRight: "1px solid var(--line)" },
  ".cm-activeLine, .cm-activeLineGutter, .cm-selectionMatch": { backgroundColor: "var(--accent-wash)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--accent-wash)" },
});

/** An editor of JSON text. */
export default function JsonEditor({ text, change, label }: { text: string; change: (text: string) => void; label: string }) {
  const place = useRef<HTMLDivElement>(null);
  const latest = useRef(change);
  latest.current = change;
  useEffect(() => {
    const view = new EditorView({
      parent: place.current!,
      state: EditorState.create({
        doc: text,
        extensions: [
          basicSetup, json(), COLOURS, EditorView.lineWrapping, EditorView.contentAttributes.of({ "aria-label": label }),
          EditorView.updateListener.of((update) => update.docChanged && latest.current(update.state.doc.toString())),
        ],
      }),
    });
    return () => view.destroy();
  }, []);
  return <div className="editor" ref={place} />;
}
