"""The command `secondread`: what it can do, and how every failure ends.

Each command's module is light; what it works with is imported when it runs, so that
help, completion and lists answer at once.
"""

import os
import sys
from typing import Annotated

import typer

from cli import (
    catalogue,
    configuration,
    demo,
    doctor,
    jobs,
    licences,
    models,
    network,
    review,
    rules,
    service,
    show,
    studies,
    token,
)
from core.errors import IllegalTransition, InternalError, SecondreadError

__all__ = ["app", "main"]

_DEBUG_OPTION = "--debug"
_SERVICE, _LOOK, _NETWORK, _CARE = "Run", "Look and act", "Talk DICOM", "Check"

app = typer.Typer(
    name="secondread",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"secondread {version('secondread')}")
        raise typer.Exit


@app.callback()
def secondread(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_show_version,
            help="Print the version.",
        ),
    ] = False,
    _debug: Annotated[
        bool,
        typer.Option(_DEBUG_OPTION, help="Show where in the program an error arose."),
    ] = False,
) -> None:
    """Give every imaging study a second read: DICOM in, CNN inference, a report out.

    First steps: `secondread demo` shows the whole way of a study in a minute;
    `secondread up` runs it as a service.

    Exit status: 0 done, 1 failed, 2 wrong arguments or settings, 3 a broker, database
    or peer does not answer.
    """


app.command(rich_help_panel=_SERVICE)(demo.demo)
app.command(rich_help_panel=_SERVICE)(service.up)
app.command(rich_help_panel=_SERVICE)(service.node)
app.command(rich_help_panel=_SERVICE)(service.worker)
app.command(rich_help_panel=_LOOK)(studies.studies)
app.command(rich_help_panel=_LOOK)(show.show)
app.command(rich_help_panel=_LOOK)(jobs.jobs)
app.command(rich_help_panel=_LOOK)(jobs.retry)
app.command(rich_help_panel=_LOOK)(jobs.dismiss)
app.add_typer(review.app, name="review", rich_help_panel=_LOOK)
app.command(rich_help_panel=_LOOK)(studies.forget)
app.command(rich_help_panel=_NETWORK)(network.send)
app.command(rich_help_panel=_NETWORK)(network.echo)
app.command(rich_help_panel=_CARE)(doctor.doctor)
app.command(rich_help_panel=_CARE)(configuration.config)
app.add_typer(rules.app, name="rules", rich_help_panel=_CARE)
app.add_typer(models.app, name="models", rich_help_panel=_CARE)
app.add_typer(token.app, name="token", rich_help_panel=_CARE)
app.add_typer(catalogue.app, name="catalogue", rich_help_panel=_CARE)
app.command(rich_help_panel=_CARE)(licences.licences)


def main() -> int:
    """Run the command line of this process.

    Returns
    -------
    The exit status; every error of ours becomes one paragraph on standard error.
    """
    # Whatever is written holds studies or their names: for nobody else to read.
    os.umask(0o077)
    try:
        app(prog_name="secondread")
    except SystemExit as end:
        return _status(end)
    except SecondreadError as error:
        if _debugging():
            raise
        return _told(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, a user gets a sentence
        if _debugging():
            raise
        return _bug(error)
    return 0


def _debugging() -> bool:
    # Asked of the arguments themselves: the error may be in reading them.
    return _DEBUG_OPTION in sys.argv


def _status(end: SystemExit) -> int:
    if end.code is None:
        return 0
    return end.code if isinstance(end.code, int) else 1


def _told(error: SecondreadError) -> int:
    from cli.exit_codes import exit_code_of  # noqa: PLC0415

    sys.stderr.write(f"secondread: {error}\n")
    if isinstance(error, InternalError) and not isinstance(error, IllegalTransition):
        sys.stderr.write("This should not happen; run it again with --debug.\n")
    return exit_code_of(error)


def _bug(error: Exception) -> int:
    import traceback  # noqa: PLC0415

    # Its text may quote a data set, so only its class and place are told.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119
    sys.stderr.write(
        f"secondread: unexpected {type(error).__name__} at {place}; this is a bug. "
        "Run it again with --debug and report what it prints.\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
