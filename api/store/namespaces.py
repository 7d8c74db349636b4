"""The one place where a request's namespace is checked, after whoever may rewrite it has done so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from threadlog.api.http.errors import ApiError
from threadlog.engine.domain.store_limits import NamespaceError, check_labels, check_namespace

_STATUS = {"empty": 400, "reserved": 400, "label": 422, "size": 422}


def of_item(namespace: Sequence[Any]) -> tuple[str, ...]:
    """The namespace of an item. Raises ApiError: 400 for an empty or a reserved one, 422 for a label."""
    try:
        check_namespace(namespace)
    except NamespaceError as error:
        raise _refused(error) from None
    return tuple(namespace)


def of_prefix(labels: Sequence[Any] | None) -> tuple[str, ...]:
    """The labels of a prefix or a suffix, which may be empty. Raises ApiError 422."""
    try:
        check_labels(labels or ())
    except NamespaceError as error:
        raise _refused(error) from None
    return tuple(labels or ())


def _refused(error: NamespaceError) -> ApiError:
    return ApiError(_STATUS[error.kind], str(error), code="limit_exceeded" if error.kind == "size" else None)
