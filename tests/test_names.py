"""One name, one meaning: no two public classes of the product have the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("engine", "projections", "api", "deploy", "src/threadlog/testing")

# Names that two classes have all the same. The list may only get shorter.
STILL_SHARED: frozenset[str] = frozenset()


def public_classes() -> dict[str, list[str]]:
    """The modules that define a public class, by its name."""
    found: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = path.relative_to(ROOT)
            if module.parts[:2] == ("deploy", "examples"):
                continue
            for node in ast.parse(path.read_bytes()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(str(module))
    return found


def test_no_two_public_classes_have_one_name() -> None:
    shared = {name: modules for name, modules in public_classes().items() if len(modules) > 1}
    new = {name: modules for name, modules in shared.items() if name not in STILL_SHARED}
    assert not new, f"each needs a name of its own: {new}"
    assert shared.keys() >= STILL_SHARED, "take out of STILL_SHARED what is no longer shared"
