import { diffWordsWithSpace } from "diff";
import { JsonView } from "./json";

const LONGEST = 20_000; // characters of a text that is compared word by word

/** Two values beside each other; of two texts the words that differ are marked. `has`: which of them are there. */
export function Sides({ title, names, has, sides }: { title: string; names: [string, string]; has: [boolean, boolean]; sides: [unknown, unknown] }) {
  const texts = sides.every((one) => typeof one === "string") && has[0] && has[1] ? (sides as [string, string]) : null;
  const words = texts && texts[0].length + texts[1].length <= LONGEST ? diffWordsWithSpace(texts[0], texts[1]) : null;
  const shown = (side: 0 | 1) => {
    if (!has[side]) return <span className="empty">nothing</span>;
    if (words) {
      return <div className="text">{words.filter((word) => (side === 0 ? !word.added : !word.removed)).map((word, index) => (
        word.added ? <ins key={index}>{word.value}</ins> : word.removed ? <del key={index}>{word.value}</del> : <span key={index}>{word.value}</span>
      ))}</div>;
    }
    return typeof sides[side] === "string" ? <div className="text">{sides[side] as string}</div> : <JsonView value={sides[side]} open={2} />;
  };
  return (
    <div className="sides">
      {title && <code className="path">{title}</code>}
      <div className="two">
        {([0, 1] as const).map((side) => <div key={side} className={side === 0 ? "removed" : "added"}><span className="who">{names[side]}</span>{shown(side)}</div>)}
      </div>
    </div>
  );
}
