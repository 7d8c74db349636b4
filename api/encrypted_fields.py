"""Refusal of searches by encrypted fields (`LANGGRAPH_AES_JSON_KEYS`): no row would match, whatever its field is.

What the application's handler `encrypt.json` encrypts has no names that are known here.
"""

from __future__ import annotations

from typing import Any

from threadlog.api.context import Api
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown


def require_readable(api: Api, wanted: Any, where: str) -> None:
    """Raises `ApiError` 422 if the filter looks at a field that is stored encrypted. `where`: the filter's name."""
    if not api.encrypted_names or not wanted:
        return
    left = [(where, wanted)]
    while left:
        path, item = left.pop()
        if isinstance(item, list):
            left += [(path, inner) for inner in item]
        elif isinstance(item, dict):
            for name, inner in item.items():
                if name in api.encrypted_names:
                    raise ApiError(
                        422, f"{path}: {shown(name)} is an encrypted field, which can't be searched for: leave it out"
                    )
                left.append((f"{path}.{name}"[:100], inner))
