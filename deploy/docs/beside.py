"""Hooks of MkDocs: pages beside the folder `docs` are part of the site, and diagrams are drawn by a script of its own.

The theme would load the script of the diagrams from another host. Here it is a package of npm (`npm ci` in this folder,
which `make docs` does); where that is missing, the site shows the diagrams' text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[2]
BESIDE = {"ARCHITECTURE.md": "architecture.md", "CHANGELOG.md": "changelog.md"}
MERMAID = Path(__file__).parent / "node_modules" / "@mermaid-js" / "tiny" / "dist" / "mermaid.tiny.js"
SCRIPT = "assets/javascripts/mermaid.js"
_FOR_TESTS = re.compile(r"^ *<!--\s*(?:run|file|json|not run):.*?-->\n?", re.M | re.S)  # tests/docs/pages.py reads them
_LINK = re.compile(r"\[([^\]\n]*)\]\((\.\./[^)\s#]+|[^)\s#:]+\.md)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    for name, page in BESIDE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    if MERMAID.exists():
        files.append(File.generated(config, SCRIPT, abs_src_path=str(MERMAID)))
    return files


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    if '<pre class="mermaid">' not in output:
        return output
    script = f'<script src="{get_relative_url(SCRIPT, page.url)}"></script>'  # before the theme's, which looks for it
    return output.replace("</head>", f"{script}</head>", 1)


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

    markdown = _LINK.sub(lead, _FOR_TESTS.sub("", markdown))
    return markdown if MERMAID.exists() else markdown.replace("```mermaid", "```text")
