"""Options that many commands share, so that they read the same everywhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from core.settings import Settings

__all__ = ["AsJson", "DataDirectory", "opened_settings"]

DataDirectory = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder of this installation; `SECONDREAD_DATA_DIR` says the same. "
        "Default: ./secondread-data.",
        show_default=False,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output, for programs.")
]


def opened_settings(data_dir: Path | None) -> "Settings":
    """Read the settings of the installation that a command was pointed at.

    Raises
    ------
    InvalidSettings
        As `core.settings.load_settings`.
    """
    # Settings cost a third of a second to import, which `--help` need not wait for.
    from core.settings import load_settings  # noqa: PLC0415

    return load_settings(data_dir)
