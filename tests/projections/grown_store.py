"""A store of any size, made with SQL (no log behind it), and what is searched in it: 100 items per namespace."""

from __future__ import annotations

from typing import Any

FILL = """
INSERT INTO store_items (namespace, key, p, value, created_at, updated_at)
SELECT 'users.' || n / 100 || '.memories', 'k' || n % 100, 0,
    jsonb_build_object('text', md5(n::text), 'n', n, 'kind', (ARRAY['fact', 'preference'])[1 + n % 2]),
    now() - n * interval '1 second', now() - n * interval '1 second'
FROM generate_series(0, $1::int - 1) n
"""
SEARCHES: dict[str, dict[str, Any]] = {
    "newest of one namespace": {"namespace_prefix": ("users", "142", "memories")},
    "newest under a user": {"namespace_prefix": ("users", "142")},
    "newest of all": {"namespace_prefix": ("users",)},
    "of all, by a field": {"namespace_prefix": ("users",), "filter": {"n": 14_207}},
    "of one namespace, by an operator": {
        "namespace_prefix": ("users", "142", "memories"), "filter": {"n": {"$gt": 14_250}},
    },
}  # fmt: skip
