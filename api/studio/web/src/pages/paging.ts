import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { reason, watched } from "../server";

const PAGE = 200;

/** Rows that are fetched page by page as they come into view. */
export function usePages<T>(fetch: (offset: number, limit: number) => Promise<T[]>, inputs: unknown[]) {
  const restored = useSyncExternalStore(watched.subscribe, watched.restored);
  const [rows, setRows] = useState<T[]>([]);
  const [failure, setFailure] = useState("");
  const [loading, setLoading] = useState(true);
  const [asked, setAsked] = useState(0);
  const turn = useRef(0);
  const busy = useRef(false);
  const complete = useRef(false);
  const key = JSON.stringify(inputs);
  const load = useCallback(async (mine: number, offset: number) => {
    busy.current = true;
    try {
      const page = await fetch(offset, PAGE);
      if (mine !== turn.current) return;
      complete.current = page.length < PAGE;
      setRows((now) => (offset ? [...now, ...page] : page));
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
    setLoading(true);
    void load(turn.current, 0);
  }, [key, asked, restored]);
  const more = () => {
    if (!busy.current && !complete.current && rows.length) void load(turn.current, rows.length);
  };
  return { rows, more, failure, loading, reload: () => setAsked((n) => n + 1) };
}
