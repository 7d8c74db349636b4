import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef, type ReactNode } from "react";

export type Column<T> = { title: string; width?: string; cell: (row: T) => ReactNode };

const ROW_PX = 37;

/** A table that draws only the rows in view. `more` is called when its end comes near. */
export function Table<T>({ label, columns, rows, more }: { label: string; columns: Column<T>[]; rows: T[]; more?: () => void }) {
  const place = useRef<HTMLDivElement>(null);
  const inView = useVirtualizer({ count: rows.length, getScrollElement: () => place.current, estimateSize: () => ROW_PX, overscan: 12 });
  const gridTemplateColumns = columns.map((column) => column.width ?? "minmax(80px, 1fr)").join(" ");
  const drawn = inView.getVirtualItems();
  return (
    <div className="table" ref={place} role="table" aria-label={label} aria-rowcount={rows.length} tabIndex={0}
      onScroll={(event) => {
        const { scrollTop, clientHeight, scrollHeight } = event.currentTarget;
        if (more && scrollTop + clientHeight > scrollHeight - 10 * ROW_PX) more();
      }}>
      <div role="rowgroup">
        <div role="row" className="head" style={{ gridTemplateColumns }}>
          {columns.map((column) => <div role="columnheader" key={column.title}>{column.title}</div>)}
        </div>
      </div>
      <div role="rowgroup" style={{ height: inView.getTotalSize(), position: "relative" }}>
        {drawn.map((item) => (
          <div role="row" key={item.key} className="over" aria-rowindex={item.index + 1}
            style={{ gridTemplateColumns, transform: `translateY(${item.start}px)`, height: ROW_PX }}>
            {columns.map((column) => <div role="cell" key={column.title}>{column.cell(rows[item.index])}</div>)}
          </div>
        ))}
      </div>
      {!rows.length && <p className="empty">Nothing here.</p>}
    </div>
  );
}
