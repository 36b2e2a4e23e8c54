"""Reading the settings once, from environment and file, with errors that name them."""

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from core.errors import InvalidSettings
from core.settings.tree import DEFAULT_DATA_DIRECTORY, Settings

__all__ = [
    "DATA_DIRECTORY_VARIABLE",
    "SETTINGS_FILE_NAME",
    "load_settings",
    "setting_origins",
]

SETTINGS_FILE_NAME = "secondread.toml"
DATA_DIRECTORY_VARIABLE = "SECONDREAD_DATA_DIR"


def load_settings(data_dir: Path | None = None) -> Settings:
    """Read the settings once: environment before `secondread.toml` before defaults.

    Parameters
    ----------
    data_dir
        The data directory; None takes `SECONDREAD_DATA_DIR` or `./secondread-data`.

    Raises
    ------
    InvalidSettings
        Naming each setting that is unknown or out of range, and where it was read.
    """
    directory = _data_directory(data_dir)
    try:
        file_values = _read_file(directory / SETTINGS_FILE_NAME)
        environment = _environment_values()
        merged = _merge(file_values, environment)
        return Settings.model_validate({**merged, "data_dir": directory})
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        ]
        raise InvalidSettings(
            f"settings of {directory} cannot be used: {'; '.join(lines)}"
        ) from error


def setting_origins(data_dir: Path | None = None) -> dict[str, str]:
    """Tell for each setting that is not a default where it comes from.

    Returns
    -------
    Dotted name to `environment` or `file`.
    """
    directory = _data_directory(data_dir)
    origins = dict.fromkeys(_leaves(_read_file(directory / SETTINGS_FILE_NAME)), "file")
    origins |= dict.fromkeys(_leaves(_environment_values()), "environment")
    return origins


def _data_directory(data_dir: Path | None) -> Path:
    chosen = data_dir or Path(
        os.environ.get(DATA_DIRECTORY_VARIABLE) or DEFAULT_DATA_DIRECTORY
    )
    return chosen.expanduser().resolve()


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise InvalidSettings(f"{path} cannot be read: {error}") from error


def _environment_values() -> dict[str, Any]:
    known = set(Settings.model_fields)
    unknown = sorted(
        name
        for name in os.environ
        if name.upper().startswith("SECONDREAD_")
        and name.upper() != DATA_DIRECTORY_VARIABLE
        and name.upper().removeprefix("SECONDREAD_").split("__")[0].lower() not in known
    )
    if unknown:
        raise InvalidSettings(
            f"unknown settings in the environment: {', '.join(unknown)}; "
            "`secondread config` lists the names"
        )
    values = EnvSettingsSource(Settings)()
    values.pop("data_dir", None)
    return values


def _merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for name, value in upper.items():
        below = merged.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[name] = _merge(below, value)
        else:
            merged[name] = value
    return merged


def _leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            names += _leaves(value, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names
