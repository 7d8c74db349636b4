// The connection to the server: the public API only, through its public client.
import { Client } from "@langchain/langgraph-sdk";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const KEPT = "threadlog.studio.header";
const CHECK_AGAIN_MS = 1500;

/** Where the API is: the page is at <API>/studio/, whatever prefix the application mounts it under. */
export const API_URL = location.origin + location.pathname.replace(/\/studio(\/.*)?$/, "");

export type Connection = "up" | "down" | "unauthorized";
type Listener = () => void;

let connection: Connection = "up";
let restored = 0;
const listeners = new Set<Listener>();

function become(now: Connection): void {
  if (now === connection) return;
  if (now === "up") restored += 1;
  connection = now;
  for (const listener of listeners) listener();
  if (now === "down") setTimeout(lookAgain, CHECK_AGAIN_MS);
}

async function lookAgain(): Promise<void> {
  const up = await fetch(`${API_URL}/ok`).then((answer) => answer.ok, () => false);
  if (up) become("up");
  else setTimeout(lookAgain, CHECK_AGAIN_MS);
}

export const watched = {
  subscribe(listener: Listener): Listener {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  connection: () => connection,
  /** How often the connection came back: what is shown is loaded again then. */
  restored: () => restored,
};

/** The header that proves who the user is, kept until the tab is closed. */
export function credentials(): { name: string; value: string } | null {
  try {
    const kept = sessionStorage.getItem(KEPT);
    return kept ? JSON.parse(kept) : null;
  } catch {
    return null;
  }
}

export function authenticate(name: string, value: string): void {
  sessionStorage.setItem(KEPT, JSON.stringify({ name, value }));
  become("up");
}

async function watchedFetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const headers = new Headers(init?.headers);
  const proof = credentials();
  if (proof) headers.set(proof.name, proof.value);
  let answer: Response;
  try {
    answer = await fetch(input, { ...init, headers });
  } catch (error) {
    if (!(error instanceof DOMException && error.name === "AbortError")) become("down");
    throw error;
  }
  if (answer.status === 401) become("unauthorized");
  else if (connection === "down") become("up");
  return answer;
}

export const client = new Client({
  apiUrl: API_URL,
  apiKey: null as unknown as string,
  callerOptions: { fetch: watchedFetch, maxRetries: 0 },
});

export class ServerError extends Error {
  constructor(readonly status: number, detail: string) {
    super(detail);
  }
}

async function received(method: string, path: string, accept: string, body?: unknown): Promise<{ text: string; answer: Response }> {
  const answer = await watchedFetch(API_URL + path, {
    method,
    headers: { Accept: accept, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { text: await answer.text(), answer };
}

async function send(method: string, path: string, body?: unknown): Promise<{ value: any; headers: Headers }> {
  const { text, answer } = await received(method, path, "application/json", body);
  let value: any = text;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    // shown as it is
  }
  if (!answer.ok) throw new ServerError(answer.status, (value && value.detail) || text || answer.statusText);
  return { value, headers: answer.headers };
}

/** One request that the client has no method for. */
export async function ask<T = any>(method: string, path: string, body?: unknown): Promise<T> {
  return (await send(method, path, body)).value;
}

/** The same as text, where the server has one for people. */
export async function askText(path: string): Promise<string> {
  const { text, answer } = await received("GET", path, "text/plain");
  if (!answer.ok) throw new ServerError(answer.status, text);
  return text;
}

/** A page of rows, and where the next one begins; null: this is the last. */
export async function askPage<T>(path: string, body?: unknown): Promise<{ rows: T; next: string | null }> {
  const { value, headers } = await send(body === undefined ? "GET" : "POST", path, body);
  return { rows: value, next: headers.get("X-Pagination-Next") };
}

/** What went wrong, as one sentence for a person. */
export function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const said = error.message.match(/^HTTP \d+: (.*)$/s)?.[1] ?? error.message;
  try {
    return JSON.parse(said).detail ?? said;
  } catch {
    return said;
  }
}
