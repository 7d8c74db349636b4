import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { reason, watched } from "./server";

export type Loaded<T> = { value: T | undefined; error: string; loading: boolean; reload: () => void };

export function useConnection() {
  return useSyncExternalStore(watched.subscribe, watched.connection);
}

/** Loads when `inputs` change, when it is told to, and when the server has come back. What was loaded stays meanwhile. */
export function useLoad<T>(load: () => Promise<T>, inputs: unknown[]): Loaded<T> {
  const restored = useSyncExternalStore(watched.subscribe, watched.restored);
  const [asked, setAsked] = useState(0);
  const [state, setState] = useState<Omit<Loaded<T>, "reload">>({ value: undefined, error: "", loading: true });
  const key = JSON.stringify(inputs);
  const before = useRef(key);
  useEffect(() => {
    let current = true;
    const other = before.current !== key;
    before.current = key;
    setState((now) => ({ value: other ? undefined : now.value, error: "", loading: true }));
    load().then(
      (value) => current && setState({ value, error: "", loading: false }),
      (error) => current && setState((now) => ({ value: now.value, error: reason(error), loading: false })),
    );
    return () => {
      current = false;
    };
  }, [key, asked, restored]);
  return { ...state, reload: useCallback(() => setAsked((n) => n + 1), []) };
}

/** `#/<page>/<id>/<tab>/<at>`: what of the page's thing is looked at. */
export type Place = { page: string; id: string; tab: string; at: string };

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // an address that was cut
  }
}

function placeOf(hash: string): Place {
  const [page = "", id = "", tab = "", at = ""] = hash.replace(/^#\/?/, "").split("/").map(decoded);
  return { page: page || "threads", id, tab, at };
}

export function usePlace(): Place {
  const hash = useSyncExternalStore(
    (changed) => {
      addEventListener("hashchange", changed);
      return () => removeEventListener("hashchange", changed);
    },
    () => location.hash,
  );
  return placeOf(hash);
}

export const link = (...parts: string[]) => "#/" + parts.map(encodeURIComponent).join("/");

export function useEvery(ms: number, act: () => void): void {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

export function useTheme(): [string, () => void] {
  const [theme, setTheme] = useState(() => localStorage.getItem("threadlog.studio.theme") ?? "auto");
  useEffect(() => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    localStorage.setItem("threadlog.studio.theme", theme);
  }, [theme]);
  return [theme, () => setTheme(theme === "auto" ? "light" : theme === "light" ? "dark" : "auto")];
}
