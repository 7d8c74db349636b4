"""One chaos run: a server under load, faults one after another, and the account that is settled afterwards."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import orjson

from tests import servers
from tests.chaos import checks
from tests.chaos.app.marks import FOLDER
from tests.chaos.faults import ALL_FAULTS, FAULTS, Target
from tests.chaos.history import Told, stays, told
from tests.chaos.load import PATIENCE_SECONDS, Load, Stuck
from tests.waiting import NeverSo, eventually
from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.kafka import KafkaCluster
from threadlog.deploy.settings import EMBEDDED_PARTITIONS, Settings

CONFIG = Path(__file__).parent / "app" / "langgraph.json"
IN_FLIGHT = 50
_BETWEEN = 10  # sessions that have to end between two faults
_SHOWN = 40


class Broken(AssertionError):
    """Something did not hold; the message says what, and how to see it again."""


@dataclass
class ChaosRun:
    """A server with its load. `run` breaks it; `settle` checks what is left."""

    target: Target
    load: Load
    marks: Path
    mode: str
    seed: int
    settings: Settings

    async def run(self, faults: Iterable[str], say: Callable[[str], None] = lambda line: None) -> None:
        """Apply these faults, one after another, while runs are in flight."""
        self.load.keep(IN_FLIGHT)
        await self.load.progress(1, busy=IN_FLIGHT)
        for fault in faults:
            began = time.monotonic()
            await ALL_FAULTS[self.mode][fault](self.target)
            say(f"{fault}: back after {time.monotonic() - began:.1f} s")
            await self.load.progress(_BETWEEN, busy=IN_FLIGHT)

    async def settle(self) -> Told:
        """End the load and check everything. Raises `Broken`."""
        await self.load.stop()
        await self._rest()
        await self._fresh_runs()
        account, problems = await self._account()
        if problems:
            raise Broken(self._complaint(problems, account))
        return account

    async def autopsy(self, error: Exception) -> Broken:
        """What there is to say after something else went wrong."""
        account, problems = await self._account()
        return Broken(self._complaint([f"{type(error).__name__}: {error}", *problems], account))

    async def _account(self) -> tuple[Told, list[str]]:
        async with existing_log(self.settings) as log:
            account = await told(log)
        attempts = stays(self.marks)
        problems = [*self.load.failed, *sorted(set(self.load.unclean))]
        problems += checks.ends(account, self.load)
        problems += checks.one_at_a_time(attempts, self.target.paused)
        problems += checks.streams(account, attempts, self.load)
        problems += checks.answers(account, self.load)
        problems += await checks.states(account, self.load)
        verified = await asyncio.to_thread(self.target.server.threadlog, "events", "--verify")
        if verified.returncode != 0:
            problems.append(f"events --verify: {verified.stdout}{verified.stderr}")
        return account, problems

    async def _rest(self) -> None:
        """Wait until nothing is queued, scheduled or busy: requests without an answer may have begun runs too."""
        connection = await asyncpg.connect(self.settings.database_uri)
        try:
            left: object = None
            deadline = time.monotonic() + PATIENCE_SECONDS
            while left != (0, 0, 0):
                if time.monotonic() > deadline:
                    raise Stuck(f"it does not come to rest: {left} are queued, timers, busy threads")
                left = tuple(
                    await connection.fetchrow(
                        "SELECT (SELECT count(*) FROM run_queue), (SELECT count(*) FROM timers), "
                        "(SELECT count(*) FROM threads WHERE status = 'busy')"
                    )
                )
                await asyncio.sleep(0.05)
        finally:
            await connection.close()

    async def _fresh_runs(self) -> None:
        """New runs of every kind work as if nothing had been."""
        before = self.load.ended
        self.load.keep(16)
        await eventually(lambda: self.load.ended >= before + 16, within=PATIENCE_SECONDS, says="16 fresh runs end")
        await self.load.stop()

    def _complaint(self, problems: list[str], account: Told) -> str:
        kept = Path(tempfile.mkdtemp(prefix="tl-chaos-"))
        (kept / "server.log").write_text(self.target.server.output)
        (kept / "problems.txt").write_text("\n".join(problems))
        with (kept / "events.jsonl").open("wb") as file:
            for happened in account.records:
                file.write(orjson.dumps([happened.partition, happened.offset, happened.timestamp_ms, happened.record]))
                file.write(b"\n")
        shutil.copytree(self.marks, kept / "marks")
        for log in self.target.server.data_dir.glob("*.log"):
            shutil.copy(log, kept)
        shown = "\n".join(f"- {problem[:500]}" for problem in problems[:_SHOWN])
        return f"{len(problems)} problems in {self.mode} mode with seed {self.seed}; all about it in {kept}\n{shown}"


@asynccontextmanager
async def chaos_run(mode: str, seed: int, broker: KafkaCluster | None = None) -> AsyncIterator[ChaosRun]:
    """A fresh server in this mode, its log in `broker` if that is given."""
    marks = Path(tempfile.mkdtemp(prefix="tl-marks-"))
    env = {FOLDER: str(marks), "BG_JOB_MAX_RETRIES": "100"}  # no run may fail, however often its executor is killed
    log: dict[str, str] = {}
    if broker is not None:
        log = {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap, "THREADLOG_PARTITIONS": str(EMBEDDED_PARTITIONS)}
    try:
        server = await asyncio.to_thread(servers.start, CONFIG, mode=mode, env={**log, **env}, fresh=True)
        try:
            settings = Settings.load(
                database_uri=server.database_uri,
                kafka_bootstrap_servers=log.get("KAFKA_BOOTSTRAP_SERVERS"),
                partitions=EMBEDDED_PARTITIONS,
            )
            load = Load(server.url, marks, seed=seed)
            try:
                one = ChaosRun(Target(server, broker), load, marks, mode, seed, settings)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # the client tells of each reconnection
                    yield one
            except (Stuck, NeverSo, servers.ServerFailed) as error:
                raise await one.autopsy(error) from error
            finally:
                await load.aclose()
        finally:
            await asyncio.to_thread(server.stop)
    finally:
        shutil.rmtree(marks, ignore_errors=True)


def shuffled(mode: str, seed: int) -> list[str]:
    """Every fault of the list once, in an order of the seed's."""
    names = list(FAULTS[mode])
    random.Random(seed).shuffle(names)
    return names
