"""`secondread config`: every setting with value, unit, source and reason."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import typer

from cli.options import AsJson, DataDirectory, opened_settings
from cli.output import without_password

__all__ = ["Setting", "config", "described_settings", "settings_page"]


@dataclass(frozen=True)
class Setting:
    """One setting as it is documented."""

    name: str
    """Dotted; `[]` stands for an entry of a list."""
    default: str
    unit: str
    description: str
    section: str
    numeric: bool

    @property
    def variable(self) -> str:
        """Name in the environment; empty for one within a list of tables."""
        if "[]" in self.name:
            return ""
        return "SECONDREAD_" + self.name.replace(".", "__").upper()


def config(
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print the page docs/settings.md instead."),
    ] = False,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only settings that are not the default.")
    ] = False,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Print the effective settings: value, unit, and where each comes from.

    Example: `secondread config --changed`
    """
    import sys  # noqa: PLC0415

    from cli import output  # noqa: PLC0415
    from core.settings import setting_origins  # noqa: PLC0415

    if markdown:
        sys.stdout.write(settings_page())
        return
    settings = opened_settings(data_dir)
    origins = setting_origins(data_dir)
    rows = _effective(settings.model_dump(mode="json"), origins)
    if changed:
        rows = [row for row in rows if row["source"] != "default"]
    if as_json:
        output.print_json(rows)
        return
    shown = output.table("setting", "value", "unit", "source")
    for row in rows:
        shown.add_row(
            row["name"], output.plain(_toml(row["value"])), row["unit"], row["source"]
        )
    output.print_table(shown)
    output.messages().print(
        f"\nFile: {settings.data_dir / 'secondread.toml'}; in the environment "
        "SECONDREAD_ and the name in capitals with __ for the dot.",
        markup=False,
    )


def described_settings() -> list[Setting]:
    """Describe every setting that there is, in the order of the settings tree."""
    from core.settings import Settings  # noqa: PLC0415

    return list(_describe(Settings, "", "General"))


def settings_page() -> str:
    """Write docs/settings.md."""
    sections: dict[str, list[Setting]] = {}
    for setting in described_settings():
        sections.setdefault(setting.section, []).append(setting)
    lines = [
        "# Settings",
        "",
        "<!-- Written by `secondread config --markdown`; a test fails when it is old. "
        "-->",
        "",
        "Settings stand in `secondread.toml` in the data directory, or in the "
        "environment, which comes first:",
        "`SECONDREAD_` and the name in capitals with `__` for each dot, e.g. "
        "`SECONDREAD_NODE__PORT=11113`. Lists of tables",
        "(`[[destinations]]`, `[[rules]]`, `[[sources]]`) are JSON there. Names that "
        "do not exist are refused.",
        "`secondread config` prints what is in force and where each value comes from.",
        "",
    ]
    for section, settings in sections.items():
        lines += [f"## {section}", ""]
        lines += [
            "| Setting | Default | Unit | Meaning and reason |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| `{one.name}` | {_cell(one.default)} | {one.unit or '–'} | "
            f"{_escaped(one.description)} |"
            for one in settings
        ]
        lines.append("")
    return "\n".join(lines)


def _cell(default: str) -> str:
    return f"`{_escaped(default)}`" if default else "none"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _describe(model: Any, prefix: str, section: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        inner, repeated = _section_class(field.annotation)
        if inner is not None:
            title = f"`[[{prefix}{name}]]`" if repeated else f"`[{prefix}{name}]`"
            summary = (inner.__doc__ or "").strip().rstrip(".")
            below = f"{prefix}{name}[]." if repeated else f"{prefix}{name}."
            yield from _describe(inner, below, f"{title}: {summary}")
            continue
        extra = field.json_schema_extra or {}
        yield Setting(
            name=f"{prefix}{name}",
            default=_default_of(field),
            unit=str(extra.get("unit", "")) if isinstance(extra, Mapping) else "",
            description=field.description or "",
            section=section,
            numeric=_is_number(field.annotation),
        )


def _section_class(annotation: Any) -> tuple[Any, bool]:
    """Return the model class behind a section or a list of sections."""
    if hasattr(annotation, "model_fields"):
        return annotation, False
    for part in get_args(annotation):
        if hasattr(part, "model_fields"):
            return part, True
    return None, False


def _is_number(annotation: Any) -> bool:
    kinds = (annotation, *get_args(annotation))
    numbers = any(kind in (int, float) for kind in kinds)
    return numbers and bool not in kinds


def _default_of(field: Any) -> str:
    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True)
    return "" if value is None else _toml(value)


def _toml(value: Any) -> str:
    """Write a value much as TOML has it; None is nothing."""
    if value is None:
        return "unset"
    if isinstance(value, bool | int | float | dict | list | tuple):
        return json.dumps(value, default=str)
    return str(value)


def _effective(
    values: Mapping[str, Any], origins: Mapping[str, str], prefix: str = ""
) -> list[dict[str, Any]]:
    units = {one.name: one.unit for one in described_settings()}
    rows: list[dict[str, Any]] = []
    for name, value in values.items():
        full = f"{prefix}{name}"
        # A rule's `when` is a table of its own; only sections are looked into.
        if isinstance(value, dict):
            rows += _effective(value, origins, f"{full}.")
            continue
        if isinstance(value, str):
            value = without_password(value)
        source = origins.get(full, "default")
        if full == "data_dir":
            source = "command line or environment"
        rows.append(
            {
                "name": full,
                "value": value,
                "unit": units.get(full, ""),
                "source": source,
            }
        )
    return rows
