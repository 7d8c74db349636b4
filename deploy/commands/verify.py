"""Verification and repair, `threadlog verify` and `rebuild`: the read models against the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click
import orjson

from threadlog.deploy.commands.events import short
from threadlog.deploy.commands.terminal import RebuildProgress, write
from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.settings import Settings
from threadlog.engine.log.unreadable import UNREADABLE


async def verify(settings: Settings, *, as_json: bool, tables: Sequence[str] = ()) -> int:
    """Rebuild the read models beside the live ones and print every difference, and every event that the read models
    could not take; 0 when there is none. `tables`: only these."""
    from threadlog.projections.rebuild.verify import TABLES, skipped
    from threadlog.projections.rebuild.verify import verify as differences_of

    assert settings.database_uri is not None
    async with existing_log(settings) as log:
        with RebuildProgress() as progress:
            found = await differences_of(settings.database_uri, log, tables=tables or tuple(TABLES), progress=progress)
        skips = await skipped(settings.database_uri)
    for skip in skips:
        if as_json:
            click.echo(orjson.dumps({"not_projected": skip}))
        else:
            where = f"{skip['p']}@{skip['ev_off']}"
            click.echo(f"{where}: {skip['type']} of {skip['key']} is not in the read models: {skip['error']}")
    for (partition, offset), why in sorted(UNREADABLE.places.items()):
        if as_json:
            click.echo(orjson.dumps({"unreadable": {"p": partition, "ev_off": offset, "error": why}}))
        else:
            click.echo(f"{partition}@{offset}: not an event record, it counts for no reader: {why}")
    for difference in found:
        if as_json:
            click.echo(orjson.dumps(difference, default=str))
            continue
        where = f"{difference.table} {', '.join(f'{name}={value}' for name, value in difference.key.items())}"
        if difference.live is None or difference.rebuilt is None:
            missing = "the read models lack it" if difference.live is None else "the log does not know it"
            click.echo(f"{where}: {missing}")
        else:
            for name, value in difference.live.items():
                click.echo(f"{where}: {name} is {short('', value)}, the log says {short('', difference.rebuilt[name])}")
    if not found and not as_json:
        click.echo(f"No difference: {len(tables or TABLES)} tables are what the log says.")
    return 1 if found or skips else 0


async def swap(settings: Settings, *, as_json: bool, tables: Sequence[str] = ()) -> int:
    """Make these read models, or all, what the log says, and print what was changed."""
    from threadlog.projections.rebuild.swap import SWAPPED
    from threadlog.projections.rebuild.swap import swap as replace

    assert settings.database_uri is not None
    async with existing_log(settings) as log:
        with RebuildProgress() as progress:
            changed = await replace(settings.database_uri, log, tables or SWAPPED, progress=progress)
    if as_json:
        write(orjson.dumps(asdict(each)).decode() for each in changed)
    else:
        write(f"{each.table}: {each.written} rows written, {each.removed} removed" for each in changed)
        write([f"{len(tables or SWAPPED)} tables are what the log says."])
    return 0
