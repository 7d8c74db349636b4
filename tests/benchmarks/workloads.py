"""The workloads: each drives one server for a bounded time and returns its figures.

A figure's unit is the end of its name: `_ms`, `_s`, `_per_s`, `_mb`; `cpu_ms` is CPU of the server's whole process tree
per run, `cpu_us` per event. Percentiles are of single requests. `share` shortens a workload (time, rounds, counts), for
rounds that take turns every few seconds (`pairs`).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any, Protocol

from tests.benchmarks.client import Client, spread
from tests.benchmarks.servers import Running

Figures = dict[str, float]


class Workload(Protocol):
    async def __call__(self, server: Running, client: Client, share: float = 1.0) -> Figures: ...


def percentile(values: list[float], q: float) -> float:
    """The q-th percentile (0-100) by linear interpolation."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * q / 100
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


async def warm(client: Client) -> None:
    for graph in ("noop", "noop", "chat", "noop"):
        given: Any = {"messages": [{"role": "user", "content": "hi"}]} if graph == "chat" else {}
        await client.wait(await client.thread(), graph, given)

    async def once() -> None:
        await client.wait(await client.thread(), "noop", {})

    await spread([once for _ in range(40)], 8, lambda _: None)


async def _wait_for(server: Running, client: Client, at_once: int, seconds: float) -> Figures:
    """Each run on a thread of its own, made just before: latencies are of the run, rate and CPU of both."""
    latencies: list[float] = []
    deadline = time.perf_counter() + seconds

    async def worker() -> None:
        while time.perf_counter() < deadline:
            thread = await client.thread()
            start = time.perf_counter()
            await client.wait(thread, "noop", {})
            latencies.append(time.perf_counter() - start)

    cpu, start = server.cpu_s(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    took, cpu = time.perf_counter() - start, server.cpu_s() - cpu
    return {
        "p50_ms": percentile(latencies, 50) * 1e3,
        "p99_ms": percentile(latencies, 99) * 1e3,
        "runs_per_s": len(latencies) / took,
        "cpu_ms": cpu / len(latencies) * 1e3,
    }


async def wait_one(server: Running, client: Client, share: float = 1.0) -> Figures:
    """One client, one `wait` run after the other."""
    return await _wait_for(server, client, 1, 6 * share)


async def wait_16(server: Running, client: Client, share: float = 1.0) -> Figures:
    return await _wait_for(server, client, 16, 8 * share)


async def wait_64(server: Running, client: Client, share: float = 1.0) -> Figures:
    return await _wait_for(server, client, 64, 8 * share)


async def _burst(server: Running, client: Client, graph: str, given: Any, count: int, probe: bool) -> Figures:
    threads = await client.threads(count)
    accepted: list[tuple[str, str]] = []
    accept_s: list[float] = []
    health_s: list[float] = []

    async def accept(thread: str) -> None:
        begun = time.perf_counter()
        accepted.append((thread, await client.background(thread, graph, given)))
        accept_s.append(time.perf_counter() - begun)

    async def health() -> None:
        while True:
            begun = time.perf_counter()
            await client.call("GET", "/ok")
            health_s.append(time.perf_counter() - begun)
            await asyncio.sleep(0.05)

    before, peak = server.memory_mb() if probe else 0.0, 0.0
    cpu = server.cpu_s()
    probing = asyncio.create_task(health()) if probe else None
    start = time.perf_counter()
    await spread([lambda t=t: accept(t) for t in threads], 64, lambda _: None)  # type: ignore[misc]
    all_accepted = time.perf_counter() - start
    open_runs = accepted
    while open_runs:
        if time.perf_counter() - start > 180:
            raise RuntimeError(f"{len(open_runs)} of {count} runs have not ended after 180 s")
        still: list[tuple[str, str]] = []

        async def look(thread: str, run: str, still: list[tuple[str, str]] = still) -> None:
            if not await client.ended(thread, run):
                still.append((thread, run))

        head = open_runs[-50:]  # the newest: when they have ended, look at the others
        await spread([lambda t=t, r=r: look(t, r) for t, r in head], 8, lambda _: None)  # type: ignore[misc]
        open_runs = open_runs[:-50] + still if len(still) < len(head) else open_runs
        if len(still) == len(head):
            if probe:
                peak = max(peak, server.memory_mb())
            await asyncio.sleep(0.1)
    figures = {
        "accepted_per_s": count / all_accepted,
        "accept_p99_ms": percentile(accept_s, 99) * 1e3,
        "done_s": time.perf_counter() - start,
        "cpu_ms": (server.cpu_s() - cpu) / count * 1e3,
    }
    if probing is not None:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
        figures |= {"ok_p99_ms": percentile(health_s, 99) * 1e3, "more_memory_mb": peak - before}
    return figures


async def burst(server: Running, client: Client, share: float = 1.0) -> Figures:
    """1000 background runs, accepted through 64 connections."""
    return await _burst(server, client, "noop", {}, round(1000 * share), probe=False)


async def sleepers(server: Running, client: Client, share: float = 1.0) -> Figures:
    """1000 background runs that sleep 5 s each, `GET /ok` every 50 ms meanwhile."""
    return await _burst(server, client, "sleep", {"n": 5}, round(1000 * share), probe=True)


async def first_event(server: Running, client: Client, share: float = 1.0) -> Figures:
    """One client: time from the request to the first streamed event, of up to 150 streams in 8 s."""
    firsts: list[float] = []
    cpu, deadline = server.cpu_s(), time.perf_counter() + 8
    while len(firsts) < 150 * share and time.perf_counter() < deadline:
        thread = await client.thread()
        start = time.perf_counter()
        body = {"assistant_id": "noop", "input": {}, "stream_mode": ["updates"]}
        first = 0.0
        async for at, count in client.stream("POST", f"/threads/{thread}/runs/stream", body):
            if count and not first:
                first = at - start
        firsts.append(first)
    return {
        "p50_ms": percentile(firsts, 50) * 1e3,
        "p99_ms": percentile(firsts, 99) * 1e3,
        "cpu_ms": (server.cpu_s() - cpu) / len(firsts) * 1e3,
    }


async def _events(
    server: Running, client: Client, graph: str, given: Any, mode: str, streams: int, rounds: float
) -> Figures:
    total, firsts, cpu, started = 0, [], server.cpu_s(), time.perf_counter()

    async def one() -> None:
        nonlocal total
        thread = await client.thread()
        for _ in range(max(1, round(rounds))):
            begun, first, count = time.perf_counter(), 0.0, 0
            body = {"assistant_id": graph, "input": given, "stream_mode": [mode]}
            async for at, count in client.stream("POST", f"/threads/{thread}/runs/stream", body):
                if count >= 2 and not first:  # the metadata event is not what the user waits for
                    first = at - begun
            firsts.append(first)
            total += count
            if graph == "chat":
                thread = await client.thread()

    await asyncio.gather(*(one() for _ in range(streams)))
    took, cpu = time.perf_counter() - started, server.cpu_s() - cpu
    return {
        "events_per_s": total / took,
        "first_p50_ms": percentile(firsts, 50) * 1e3,
        "cpu_us": cpu / total * 1e6,
    }


async def custom_one(server: Running, client: Client, share: float = 1.0) -> Figures:
    """One stream of 20 000 custom events at a time."""
    return await _events(server, client, "tokens", {"n": 20_000}, "custom", 1, 4 * share)


async def custom_16(server: Running, client: Client, share: float = 1.0) -> Figures:
    """Sixteen streams of 5000 custom events each."""
    return await _events(server, client, "tokens", {"n": 5_000}, "custom", 16, 3 * share)


async def chat_16(server: Running, client: Client, share: float = 1.0) -> Figures:
    """Sixteen chat streams (`messages-tuple`) of a 50-word answer each, again and again."""
    given = {"messages": [{"role": "user", "content": "hi"}]}
    return await _events(server, client, "chat", given, "messages-tuple", 16, 48 * share)


async def fanout(server: Running, client: Client, share: float = 1.0) -> Figures:
    """100 joiners on one slow stream of 200 events: how many got every one."""
    thread = await client.thread()
    body = {"assistant_id": "slow_tokens", "input": {"n": 200}, "stream_mode": ["custom"], "stream_resumable": True}
    run = await client.call("POST", f"/threads/{thread}/runs", body)
    complete = 0

    async def join() -> None:
        nonlocal complete
        seen = 0
        async for _, count in client.stream("GET", f"/threads/{thread}/runs/{run['run_id']}/stream"):
            seen = count
        complete += seen >= 200

    await asyncio.wait_for(asyncio.gather(*(join() for _ in range(100))), 120)
    return {"complete": float(complete)}


async def idle(server: Running, client: Client, share: float = 1.0) -> Figures:
    """Cold start, then memory and CPU of a server nobody asks anything for 10 s."""
    await asyncio.sleep(2)
    cpu, start = server.cpu_s(), time.perf_counter()
    await asyncio.sleep(10 * share)
    share = (server.cpu_s() - cpu) / (time.perf_counter() - start)
    return {"cold_start_s": server.cold_start_s, "memory_mb": server.memory_mb(), "cpu_percent": share * 100}


WORKLOADS: dict[str, Workload] = {
    "idle": idle,
    "wait_one": wait_one,
    "wait_16": wait_16,
    "wait_64": wait_64,
    "burst": burst,
    "first_event": first_event,
    "custom_one": custom_one,
    "custom_16": custom_16,
    "chat_16": chat_16,
    "sleepers": sleepers,
    "fanout": fanout,
}


def median(rounds: list[Figures]) -> Figures:
    return {name: statistics.median(one[name] for one in rounds if name in one) for name in rounds[0]}
