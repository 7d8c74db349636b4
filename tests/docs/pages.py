"""The pages of the documentation as a reader meets them: blocks of code, and comments that say how a test runs them.

Above a block, as HTML comments (which the site leaves out):

| comment | |
|---|---|
| `<!-- run: CODE -->` | Python that the test runs here: calls a function that the page defines, checks a result |
| `<!-- file: NAME -->` | the block below is this file, as one is whose first line is a comment with a name |
| `<!-- json: MODEL -->` | the JSON block below is one of this schema of /openapi.json |
| `<!-- not run: REASON -->` | the block below is not run; `REASONS` has the reasons there are |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
# What else can't be run is a page of its own making: write it so that it can.
REASONS = {
    "a Docker Engine": "tests/containers builds and starts images where there is one",
    "minutes": "`make` and installations; .ci and CONTRIBUTING.md say who runs them",
    "several machines": "tests/deploy/test_parts.py starts the parts one by one",
    "a picture": "what something looks like that no client sees alone: records, diffs, runs that went wrong",
    "another server": "LangGraph Platform, an account of a provider, a receiver of the reader's own",
}
# Pages, and kinds of blocks on them, that are notation: of the contract, of records, of changes to the code.
NOTATION = {
    "ARCHITECTURE.md ",
    "docs/reference/http-api.md ",
    "docs/reference/http-api.md json",
    "docs/reference/events.md ",
    "docs/contributing/worked-example.md diff",
}
_COMMENT = re.compile(r"<!--\s*(run|file|json|not run):\s*(.*?)\s*-->", re.DOTALL)
_FILE = re.compile(r"#\s*([\w/]+\.(?:py|toml|ini))\n")


class BadPage(AssertionError):
    """What is wrong with the page itself, with its place."""


@dataclass(frozen=True)
class Part:
    """A block, or a comment: `kind` is the block's language, or `run` for a comment with code.

    `not_run`: the reason, of a block that is not run; `model` and `named`: the schema of its JSON and the name of the
    file that it is, as a comment says.
    """

    page: Path
    line: int
    kind: str
    text: str
    not_run: str | None = None
    model: str | None = None
    named: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that the block is: of a comment above, or in its first line."""
        if self.named is not None:
            return self.named
        named = _FILE.match(self.text) if self.kind in ("python", "toml", "ini") else None
        return named and named[1]

    def wrong(self, what: str) -> BadPage:
        return BadPage(f"{self.place}: {what}")


def pages() -> list[Path]:
    """Every page with something to run: those of the site, and those beside it that users read first."""
    return sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md"])


def parts(page: Path) -> list[Part]:
    """What the page has to run, in its order. Raises `BadPage` for what a reader would not find to be code."""
    return list(_parts(page))


def _parts(page: Path) -> Iterator[Part]:
    above: dict[str, str] = {}
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "code_block":
            raise Part(page, line, "", token.content).wrong("code without a fence: write ```sh … ```")
        if token.type == "html_block":
            for what, text in _COMMENT.findall(token.content):
                if what == "run":
                    yield Part(page, line, "run", text)
                else:
                    above[what] = text
        elif token.type == "fence":
            language = token.info.split()[0] if token.info.strip() else ""
            part = Part(page, line, language, token.content, *map(above.get, ("not run", "json", "file")))
            if part.not_run is None and f"{part.place.rpartition(':')[0]} {language}" in NOTATION:
                part = replace(part, not_run="a picture")
            if part.not_run is not None and part.not_run not in REASONS:
                raise part.wrong(f"not run: {part.not_run!r} is none of the reasons {sorted(REASONS)}")
            above = {}
            yield part
        elif above and token.map:
            raise Part(page, line, "", "").wrong(f"the comment {above} has to stand right above a block of code")


def starts_servers(page: Path) -> bool:
    """Whether a reader of the page starts servers of their own with it."""
    return any(
        part.not_run is None
        and (
            (part.kind in ("sh", "bash", "console") and re.search(r"\bthreadlog up\b", part.text))
            or (part.kind == "run" and "serve(" in part.text)
        )
        for part in parts(page)
    )


def asks_a_server(page: Path) -> bool:
    """Whether what the page shows depends on a server, and so on where its log is."""
    return any(
        part.not_run is None and part.file is None and re.search(r"\bclient\b|\bhttp\b|:2024|\$THREAD|\$RUN", part.text)
        for part in parts(page)
    )
