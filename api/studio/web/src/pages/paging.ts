import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { askPage, reason, watched } from "../server";

const PAGE = 200;

type Page<T, Place> = { rows: T[]; next: Place | null };

/** Rows that are fetched page by page as they come into view; `fetch` returns where the page after it begins. */
function usePlaces<T, Place>(fetch: (place: Place | null, limit: number) => Promise<Page<T, Place>>, inputs: unknown[]) {
  const restored = useSyncExternalStore(watched.subscribe, watched.restored);
  const [rows, setRows] = useState<T[]>([]);
  const [failure, setFailure] = useState("");
  const [loading, setLoading] = useState(true);
  const [asked, setAsked] = useState(0);
  const turn = useRef(0);
  const busy = useRef(false);
  const next = useRef<Place | null>(null);
  const key = JSON.stringify(inputs);
  const load = useCallback(async (mine: number, place: Place | null) => {
    busy.current = true;
    try {
      const page = await fetch(place, PAGE);
      if (mine !== turn.current) return;
      next.current = page.next;
      setRows((now) => (place === null ? page.rows : [...now, ...page.rows]));
      setFailure("");
    } catch (trouble) {
      if (mine === turn.current) setFailure(reason(trouble));
    } finally {
      if (mine === turn.current) {
        busy.current = false;
        setLoading(false);
      }
    }
  }, [key]);
  useEffect(() => {
    turn.current += 1;
    next.current = null;
    setLoading(true);
    void load(turn.current, null);
  }, [key, asked, restored]);
  const more = () => {
    if (!busy.current && next.current !== null) void load(turn.current, next.current);
  };
  return { rows, more, failure, loading, reload: () => setAsked((n) => n + 1) };
}

/** Pages by offset. */
export function usePages<T>(fetch: (offset: number, limit: number) => Promise<T[]>, inputs: unknown[]) {
  return usePlaces<T, number>(async (offset, limit) => {
    const rows = await fetch(offset ?? 0, limit);
    return { rows, next: rows.length < limit ? null : (offset ?? 0) + limit };
  }, inputs);
}

/** Pages of a POST whose responses say where to go on: nothing is repeated or skipped while rows come and go. */
export function useSearch<T>(path: string, wanted: object) {
  return usePlaces<T, string>((after, limit) => askPage<T[]>(path, { ...wanted, limit, ...(after ? { after } : {}) }), [path, wanted]);
}
