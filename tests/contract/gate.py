"""The test's side of `app/gate.py`: sees who entered and left a gated node, and opens the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.waiting import eventually


class Gate:
    """A gate of the test's own; `input` is what a gated graph is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input: dict[str, Any] = {"items": [], "gate": str(folder)}

    @property
    def is_open(self) -> bool:
        return (self.folder / "open").exists()

    def open(self, run_id: str | None = None) -> None:
        """Let every run pass, or only this one."""
        (self.folder / (f"open-{run_id}" if run_id else "open")).touch()

    def linger(self) -> None:
        """Cancelled runs take seconds to clean up."""
        (self.folder / "linger").touch()

    def journal(self, run_id: str | None = None) -> list[str]:
        """What happened, as `enter`, `cancelled`, `exit` in order: of one run, or of all as `word run_id`."""
        path = self.folder / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return lines if run_id is None else [line.split()[0] for line in lines if line.split()[1] == run_id]

    def reasons(self, run_id: str) -> list[str]:
        """What the run's nodes were cancelled with."""
        path = self.folder / f"reasons-{run_id}"
        return path.read_text().splitlines() if path.exists() else []

    async def reached(self, word: str, run_id: str) -> None:
        """Wait until the run has noted the word."""

        async def words() -> list[str]:
            return self.journal(run_id)

        await eventually(words, lambda seen: word in seen)

    async def entered(self, run_id: str) -> None:
        """Wait until the run stands at the gate."""
        await self.reached("enter", run_id)
