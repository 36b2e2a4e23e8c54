"""`secondread token`: what lets machine clients in over HTTP."""

import dataclasses
from typing import Annotated

import typer

from cli.options import AsJson, DataDirectory, opened_settings

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Make and revoke tokens of DICOMweb clients."
)

_LONGEST_NAME = 16


@app.callback()
def _group() -> None:
    """Make and revoke tokens of DICOMweb clients."""


@app.command("create")
def create(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Who uses it, at most 16 characters; what it stores is filed under "
            "this name.",
        ),
    ],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="read|store",
            show_default="read",
            help="What it may do; may be given twice.",
        ),
    ] = None,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once: only its hash is kept.

    Example: `secondread token create viewer --scope read`
    """
    from cli import output  # noqa: PLC0415
    from cli.index import opened_index  # noqa: PLC0415
    from core.database.access_tokens import Scope, create_token  # noqa: PLC0415

    asked = scope or [Scope.READ.value]
    if not set(asked) <= set(Scope):
        raise typer.BadParameter(f"--scope is one of: {', '.join(Scope)}")
    name = name.strip()
    if not (0 < len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable()):
        raise typer.BadParameter("NAME has 1 to 16 printable ASCII characters")
    if "\\" in name:
        raise typer.BadParameter("NAME has no backslash")
    settings = opened_settings(data_dir)
    with opened_index(settings) as database, database.write() as connection:
        secret = create_token(connection, name, [Scope(one) for one in asked])
    if as_json:
        output.print_json({"name": name, "scopes": sorted(asked), "token": secret})
        return
    output.messages().print("It is not shown again. Send it as a bearer token:")
    output.standard_output().print(secret, markup=False, soft_wrap=True)


@app.command("list")
def list_all(data_dir: DataDirectory = None, as_json: AsJson = False) -> None:
    """List the tokens, without their secrets.

    Example: `secondread token list`
    """
    from cli import output  # noqa: PLC0415
    from cli.index import opened_index  # noqa: PLC0415
    from core.database.access_tokens import list_tokens  # noqa: PLC0415

    settings = opened_settings(data_dir)
    with opened_index(settings) as database, database.read() as connection:
        tokens = list_tokens(connection)
    if as_json:
        output.print_json(
            [
                {**dataclasses.asdict(token), "scopes": sorted(token.scopes)}
                for token in tokens
            ]
        )
        return
    if not tokens:
        output.messages().print("No token.")
        return
    shown = output.table("token", "scopes", "made", numbers=("made",))
    for token in tokens:
        shown.add_row(
            output.plain(token.name),
            ", ".join(sorted(token.scopes)),
            output.age(token.created_at),
        )
    output.print_table(shown)


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `token list` shows.")],
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token, from now on.

    Example: `secondread token revoke viewer`
    """
    from cli import output  # noqa: PLC0415
    from cli.index import opened_index  # noqa: PLC0415
    from core.database.access_tokens import revoke_token  # noqa: PLC0415
    from core.errors import OperatorError  # noqa: PLC0415

    settings = opened_settings(data_dir)
    with opened_index(settings) as database, database.write() as connection:
        found = revoke_token(connection, name)
    if not found:
        raise OperatorError(
            f"there is no token named {name!r}; `secondread token list` shows them"
        )
    if as_json:
        output.print_json({"revoked": name})
    else:
        output.messages().print(f"Token {name} is revoked.", markup=False)
