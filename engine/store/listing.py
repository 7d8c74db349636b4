"""Which namespaces there are: a loose scan of the primary key, a step per namespace however many items it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from threadlog.engine.domain.store_namespace import namespace_text
from threadlog.engine.store.reading import ALIVE, ItemReader

ANY_LABEL = "*"
_END = "\U0010ffff"  # after every namespace


@dataclass(frozen=True, slots=True)
class NamespaceMatch:
    """A condition on a namespace: its first or its last labels are these, `*` being any one label."""

    kind: Literal["prefix", "suffix"]
    path: Sequence[str]


async def namespaces(
    db: ItemReader,
    matches: Sequence[NamespaceMatch],
    *,
    max_depth: int | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[list[str]]:
    """Namespaces that have items and fulfil all conditions, in the order of their text; with `max_depth` their first
    labels, each once."""
    if limit <= 0:
        return []
    query, arguments = listing_query(matches, max_depth, limit, offset)
    return [row["namespace"].split(".") for row in await db.fetch(query, *arguments)]


def listing_query(
    matches: Sequence[NamespaceMatch], max_depth: int | None, limit: int, offset: int
) -> tuple[str, list[Any]]:
    """The statement of `namespaces`. Without `max_depth` it ends when it has the page that is asked for."""
    arguments: list[Any] = [limit, offset]
    tests = [test for match in matches if match.path for test in _tests(match, arguments)]
    low, high = _range(matches)
    arguments += (low, high)
    first, last = f"${len(arguments) - 1}::text", f"${len(arguments)}::text"
    next_from, shown, distinct = "f.namespace || E'\\x01'", "f.namespace", ""
    if max_depth is not None:
        arguments.append(max_depth)
        depth = f"${len(arguments)}::int"
        shown = f"array_to_string((string_to_array(f.namespace, '.'))[1:{depth}], '.')"
        distinct = "DISTINCT "
        if all(match.kind == "prefix" and ANY_LABEL not in match.path for match in matches):
            # All that share their first labels are alike: on to the next that does not.
            next_from = (
                f"CASE WHEN cardinality(string_to_array(f.namespace, '.')) > {depth} THEN {shown} || '/' "
                f"ELSE {next_from} END"
            )
    step = "SELECT i.namespace FROM store_items i WHERE i.namespace >= {low} AND i.namespace < {high} AND {alive} "
    step += "ORDER BY i.namespace LIMIT 1"
    found = (
        f"WITH RECURSIVE f AS (({step.format(low=first, high=last, alive=ALIVE)}) UNION ALL "
        f"SELECT n.namespace FROM f, LATERAL ({step.format(low=next_from, high=last, alive=ALIVE)}) n) "
    )
    where = f"WHERE {' AND '.join(tests)} " if tests else ""
    if not distinct:
        return f"{found}SELECT f.namespace FROM f {where}LIMIT $1 OFFSET $2", arguments
    query = f'{found}SELECT {distinct}{shown} COLLATE "C" AS namespace FROM f {where}ORDER BY 1 LIMIT $1 OFFSET $2'
    return query, arguments


def _range(matches: Sequence[NamespaceMatch]) -> tuple[str, str]:
    """Where the namespaces begin and end that a prefix without `*` allows, if there is one."""
    low, high = "", _END
    for match in matches:
        if match.kind == "prefix":
            labels = list(match.path)
            literal = labels[: labels.index(ANY_LABEL)] if ANY_LABEL in labels else labels
            if literal:
                text = namespace_text(literal)
                low, high = max(low, text), min(high, f"{text}/")
    return low, high


def _tests(match: NamespaceMatch, arguments: list[Any]) -> list[str]:
    labels = "string_to_array(f.namespace, '.')"
    count = len(match.path)
    tests = [f"cardinality({labels}) >= {count}"]
    for n, label in enumerate(match.path):
        if label == ANY_LABEL:
            continue
        arguments.append(label)
        place = f"{n + 1}" if match.kind == "prefix" else f"cardinality({labels}) - {count - n - 1}"
        tests.append(f"({labels})[{place}] = ${len(arguments)}::text")
    return tests
