"""Download of Apache Kafka's jars: once, from Maven Central, into a cache folder of the user."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

_POM = Path(__file__).with_name("pom.xml")
_JAVA_NEEDED = 17  # of the brokers of Kafka 4
_DOWNLOAD_SECONDS = 600


class KafkaUnavailable(Exception):
    """Apache Kafka can't be run here; the message says what is missing and what to do."""


def version() -> str:
    """The version of Apache Kafka that is used."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", _POM.read_text())
    assert found is not None
    return found[1]


def folder() -> Path:
    """Where the jars are kept: `THREADLOG_KAFKA_DIR`, or `threadlog/kafka-<version>` in the user's cache folder."""
    chosen = os.environ.get("THREADLOG_KAFKA_DIR")
    if chosen:
        return Path(chosen).absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "threadlog" / f"kafka-{version()}"


@functools.cache
def java() -> str:
    """Path of a Java that can run a broker (`JAVA_HOME` first, then the search path). Raises `KafkaUnavailable`."""
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    path = path or shutil.which("java")
    if path is None:
        raise KafkaUnavailable(
            f"there is no `java`: install a Java {_JAVA_NEEDED} runtime (or newer), or set JAVA_HOME"
        )
    done = subprocess.run([path, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    if done.returncode != 0 or found is None:
        raise KafkaUnavailable(f"`{path} -version` failed: {(done.stderr or done.stdout).strip()}")
    if int(found[1]) < _JAVA_NEEDED:
        raise KafkaUnavailable(f"{path} is Java {found[1]}, Apache Kafka {version()} needs {_JAVA_NEEDED} or newer")
    return path


def jars(say: Callable[[str], None] = lambda line: None) -> Path:
    """The folder with a broker's jars, fetched if need be, after a call of `say`. Raises `KafkaUnavailable`."""
    target = folder()
    if _complete(target):
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailable(
            f"Apache Kafka {version()} is not in {target} and there is no `mvn` to fetch it: install Maven, or set "
            "THREADLOG_KAFKA_DIR to a folder with its jars"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f".{target.name}.lock")):
        if not _complete(target):
            say(f"fetching Apache Kafka {version()} from Maven Central into {target}")
            _fetch(maven, target)
    return target


def _complete(place: Path) -> bool:
    return (place / f"kafka_2.13-{version()}.jar").exists()


def _fetch(maven: str, target: Path) -> None:
    # Fetched beside and moved into place, so that an interrupted download leaves nothing that looks complete.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        fresh = Path(scratch) / "jars"
        try:
            done = subprocess.run(
                [maven, "--batch-mode", "--quiet", "--file", str(_POM), "dependency:copy-dependencies",
                 f"-DoutputDirectory={fresh}", "-DincludeScope=runtime"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_SECONDS,
                cwd=scratch,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise KafkaUnavailable(
                f"Maven did not fetch Apache Kafka within {_DOWNLOAD_SECONDS} s: is Maven Central reachable?"
            ) from None
        if done.returncode != 0 or not _complete(fresh):
            said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
            raise KafkaUnavailable(
                "Maven could not fetch Apache Kafka: " + (said[0] if said else (done.stdout + done.stderr).strip())
            )
        if target.exists():
            for jar in fresh.iterdir():  # the folder is the user's: add to it
                os.replace(jar, target / jar.name)
        else:
            fresh.rename(target)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def available(say: Callable[[str], None] = lambda line: None) -> tuple[bool, str]:
    """Whether Apache Kafka can be started here (its jars are fetched to find out), and if not, why."""
    try:
        java()
        jars(say)
    except KafkaUnavailable as why:
        return False, str(why)
    return True, ""
