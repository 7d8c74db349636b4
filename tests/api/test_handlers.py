"""Every handler's docstring says which request it serves."""

from __future__ import annotations

import re

import pytest

from threadlog.api.app import ROUTES
from threadlog.api.http.openapi import plain_path
from threadlog.api.http.routes import Route


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {plain_path(route.path)}")
def test_a_handler_names_the_method_and_path_of_its_route(route: Route) -> None:
    text = route.handler.__doc__ or ""
    both = (
        re.sub(r"\[[^\]]*\]", "", text) + " " + text.replace("[", "").replace("]", "")
    )  # an optional part in brackets
    named = [name.rstrip(".:") for name in re.findall(rf"\b{route.method} ([/…][^\s,;)]*)", both)]
    path = plain_path(route.path)
    assert any(path == name or (name.startswith("…/") and path.endswith(name[1:])) for name in named), text
