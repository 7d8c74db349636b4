"""Hook of MkDocs: the pages that stand beside the folder `docs` are part of the site, and links to them lead there."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
BESIDE = {"ARCHITECTURE.md": "architecture.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"\[([^\]\n]*)\]\((\.\./[^)\s#]+|[^)\s#:]+\.md)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    for name, page in BESIDE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    here = page.file.src_uri
    at = {page: name for name, page in BESIDE.items()}.get(here) or f"docs/{here}"

    def lead(found: re.Match[str]) -> str:
        text, link, anchor = found.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(at), link))
        inside = BESIDE.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if inside is not None:
            return f"[{text}]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{anchor or ''})"
        if (ROOT / target).exists():  # a file of the repository: named, where it can't be shown
            return text if target in text else f"{text} (`{target}`)"
        return found[0]

    return _LINK.sub(lead, markdown)
