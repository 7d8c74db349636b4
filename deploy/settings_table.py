"""Reference table of the settings, for docs/settings.md: `python -m threadlog.deploy.settings_table` prints it."""

from __future__ import annotations

from pydantic import AliasChoices

from threadlog.deploy.settings import Settings, text


def table() -> str:
    """The settings as the Markdown table of docs/settings.md."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        names = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
        default = field.get_default()
        shown = "" if default is None or field.default_factory else f"`{_shown(default)}`"
        lines.append(f"| {', '.join(f'`{n}`' for n in names)} | {shown} | {field.description} |")
    return "\n".join(lines)


def _shown(default: object) -> str:
    match default:
        case list():
            return ",".join(default)
        case float() if default == int(default):
            return str(int(default))
        case _:
            return text(default)


if __name__ == "__main__":
    print(table())
