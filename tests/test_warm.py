"""What tests/warm.py forks is what a new interpreter would be, as far as tests can tell, and ends with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import warm
from tests.servers import clean_environment
from tests.waiting import eventually_blocking

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere servers are new interpreters"),
]

# It waits for its database, for a minute.
WAITING = {"DATABASE_URI": "postgresql://nobody@127.0.0.1:9/none", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}


def test_output_and_exit_code_are_the_command_s() -> None:
    done = warm.run(["--version"], clean_environment(), timeout=60)
    assert done.stdout.startswith("threadlog ") and done.stderr == "" and done.returncode == 0
    done = warm.run(["no-such-command"], clean_environment(), timeout=60)
    assert "No such command" in done.stderr and done.stdout == "" and done.returncode == 2
    process = warm.start(["up", "--no-such-option"], clean_environment())
    assert process.stdout is not None and "No such option" in process.stdout.read()
    assert process.wait(30) == process.poll() == 2


def test_environment_and_folder_are_the_ones_of_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "langgraph.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    process = warm.start(["up"], clean_environment() | {"THREADLOG_DATA_DIR": str(tmp_path / "data")})
    assert process.stdout is not None and "langgraph.json" in process.stdout.read()
    assert process.wait(30) != 0
    done = warm.run(["engine"], clean_environment() | WAITING | {"THREADLOG_PARTITIONS": "no number"}, timeout=60)
    assert "THREADLOG_PARTITIONS" in done.stdout + done.stderr and done.returncode != 0


def test_a_signal_s_number_is_the_exit_code() -> None:
    process = warm.start(["engine"], clean_environment() | WAITING)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    process.send_signal(signal.SIGINT)  # to nobody
    assert not psutil.pid_exists(process.pid)


def test_a_killed_test_process_leaves_none() -> None:
    code = (
        f"from tests import warm; print(warm.start(['engine'], {clean_environment() | WAITING!r}).pid, flush=True); "
        "import signal; signal.pause()"
    )
    tests = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    with tests.stdout:
        pid = int(tests.stdout.readline())
    assert psutil.pid_exists(pid)
    tests.kill()
    tests.wait()
    eventually_blocking(lambda: not psutil.pid_exists(pid), says="it has ended, too")


def test_it_is_the_leader_of_a_session() -> None:
    process = warm.start(["engine"], clean_environment() | WAITING)
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    process.kill()
    process.wait(30)
