"""`secondread catalogue rebuild`: what queries read, made again from the store."""

import typer

from cli.options import AsJson, DataDirectory, opened_settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Care for the catalogue of queries.")

_STUDIES_AT_ONCE = 100


@app.callback()
def _group() -> None:
    """Care for the catalogue of queries."""


@app.command("rebuild")
def rebuild(data_dir: DataDirectory = None, as_json: AsJson = False) -> None:
    """Empty the catalogue and read it again from the files of the store.

    The node may run meanwhile; queries find less until it is done.

    Example: `secondread catalogue rebuild`
    """
    from cli import output  # noqa: PLC0415
    from cli.index import opened_index  # noqa: PLC0415
    from core.database.catalogue import clear_catalogue  # noqa: PLC0415
    from dicom_node.guards.quiet import quiet_pynetdicom  # noqa: PLC0415
    from dicom_node.instance_store import InstanceStore  # noqa: PLC0415
    from dicom_node.query.cataloguer import Cataloguer  # noqa: PLC0415

    settings = opened_settings(data_dir)
    quiet_pynetdicom()
    store = InstanceStore(settings.data_dir, settings.store.durable_writes)
    with opened_index(settings) as database:
        with database.write() as connection:
            clear_catalogue(connection)
        cataloguer = Cataloguer(database, store)
        count = 0
        while found := cataloguer.compare(_STUDIES_AT_ONCE):
            count += found
    if as_json:
        output.print_json({"studies": count})
    else:
        output.messages().print(f"{count} studies are in the catalogue.")
