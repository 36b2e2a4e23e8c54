"""`secondread models`: which model packages are there, and whether they are sound."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exit_codes import FAILURE
from cli.options import AsJson, DataDirectory, opened_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.settings import Settings
    from models.bundle import Bundle
    from models.loaded import Considered

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look at the installed model packages.")

Name = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name, or the folder of a package.")
]


@app.callback()
def _group() -> None:
    """Look at the installed model packages."""


@app.command("list")
def list_(data_dir: DataDirectory = None, as_json: AsJson = False) -> None:
    """List the model packages: those that serve, and those that were refused and why.

    Example: `secondread models list`
    """
    from cli import output  # noqa: PLC0415
    from cli.installation import active_bundles, catalogue  # noqa: PLC0415

    found = catalogue(opened_settings(data_dir))
    serving = {bundle.bundle_sha256 for bundle in active_bundles(found)}
    if as_json:
        output.print_json(
            {
                "models": [
                    {**_facts(one), "serves": one.bundle_sha256 in serving}
                    for one in found.bundles.values()
                ],
                "refused": [
                    {"path": one.path, "reason": one.reason} for one in found.refused
                ],
            }
        )
    else:
        shown = output.table("model", "version", "serves", "what it is", "answers")
        for bundle in found.bundles.values():
            shown.add_row(
                bundle.name,
                bundle.version,
                "yes" if bundle.bundle_sha256 in serving else "no, a newer one does",
                bundle.title,
                ", ".join(one.tracking_identifier for one in bundle.outputs),
            )
        if found.bundles:
            output.print_table(shown)
        else:
            output.messages().print("No model package is installed.")
        for refused in found.refused:
            output.messages().print(
                f"refused: {refused.path}\n  {refused.reason}",
                markup=False,
                style="red",
            )
    if found.refused:
        raise typer.Exit(FAILURE)


@app.command()
def show(model: Name, data_dir: DataDirectory = None, as_json: AsJson = False) -> None:
    """Show a model's card: what it is for, what it is not for, how well it does.

    Example: `secondread models show chest-pneumonia`
    """
    from cli import output  # noqa: PLC0415
    from models.runtime import light_candidates  # noqa: PLC0415

    settings = opened_settings(data_dir)
    bundle = _bundle(settings, model)
    runtimes = light_candidates(bundle, settings.worker.runtime)
    if as_json:
        output.print_json(
            {**_facts(bundle), "runtimes": _runtimes(runtimes), "card": bundle.card}
        )
        return
    from rich.markdown import Markdown  # noqa: PLC0415

    console = output.standard_output()
    console.print(output.plain(f"{bundle.title} ({bundle.name} {bundle.version})"))
    console.print(output.plain(f"  for:     {bundle.intended_use}"))
    console.print(output.plain(f"  not for: {bundle.not_for}"))
    console.print(output.plain(f"  licence: {bundle.licence}; {bundle.attribution}"))
    console.print(output.plain(f"  package: {bundle.path}"))
    console.print(output.plain(f"  sha256:  {bundle.bundle_sha256}"))
    for words in _runtime_words(runtimes):
        console.print(output.plain(f"  runtime: {words}"))
    console.print()
    console.print(Markdown(bundle.card))


@app.command()
def verify(
    model: Name, data_dir: DataDirectory = None, as_json: AsJson = False
) -> None:
    """Load a model as the worker would and hold it against its golden cases.

    Example: `secondread models verify chest-pneumonia`
    """
    from cli import output  # noqa: PLC0415
    from models.runtime import load  # noqa: PLC0415

    settings = opened_settings(data_dir)
    bundle = _bundle(settings, model)
    console = output.messages()
    with console.status(f"loading {bundle.name} {bundle.version}"):
        loaded = load(bundle, settings.worker.runtime)
    if as_json:
        output.print_json(
            {
                **_facts(bundle),
                "load_s": round(loaded.seconds_to_load, 3),
                "memory_bytes": loaded.bytes,
                "runtimes": _runtimes(loaded.considered),
                "sound": True,
            }
        )
    else:
        console.print(
            f"{bundle.name} {bundle.version} is sound: hashes, network and golden "
            f"cases agree; loaded in {output.duration(loaded.seconds_to_load)}."
        )
        for words in _runtime_words(loaded.considered):
            console.print(f"  {words}", markup=False)


@app.command()
def evaluate(
    model: Name,
    data: Annotated[
        Path, typer.Argument(help="Folder of labelled images with an index.csv.")
    ],
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled images, through the preparation that studies take.

    `index.csv` has a row an image: file, label, and patient_id or group_id, by which
    the 95 % intervals are drawn.

    Example: `secondread models evaluate lung-pneumonia-paediatric ../chest-xray`
    """
    from cli import output  # noqa: PLC0415
    from models.evaluation import evaluate as measured  # noqa: PLC0415

    bundle = _bundle(opened_settings(data_dir), model)
    with output.messages().status(f"measuring {bundle.name} {bundle.version}"):
        figures = measured(bundle.path, data)
    if as_json:
        output.print_json(figures)
        return
    output.messages().print(
        f"{bundle.name} {bundle.version} on {figures['images']} images of "
        f"{figures['patients']} patients, {figures['positive_images']} positive, "
        f"threshold {figures['threshold']:g}"
    )
    shown = output.table("figure", "value", "95 % interval", numbers=("value",))
    for name, one in figures["metrics"].items():
        interval = f"{one['low']:.3f} to {one['high']:.3f}"
        shown.add_row(name.replace("_", " "), f"{one['value']:.3f}", interval)
    output.print_table(shown)
    counts = figures["confusion"]
    output.messages().print(
        ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in counts.items())
    )


def _bundle(settings: "Settings", model: str) -> "Bundle":
    from cli.installation import catalogue  # noqa: PLC0415
    from models.bundle import read_bundle  # noqa: PLC0415

    if "/" in model or Path(model).is_dir():
        return read_bundle(Path(model))
    return catalogue(settings).find(model)


def _runtimes(considered: "Sequence[Considered]") -> list[dict[str, Any]]:
    return [dataclasses.asdict(one) for one in considered]


def _runtime_words(considered: "Sequence[Considered]") -> list[str]:
    """Say of each runtime whether it serves the model here, and why (not)."""
    loaded = any(one.name == "tensorflow" for one in considered)
    able = "serves" if loaded else "can serve"
    lines = [
        f"{one.name} {able if one.serves else 'does not serve'}: {one.why}"
        + (f", {one.seconds * 1000:.1f} ms an image" if one.seconds else "")
        for one in considered
    ]
    if not loaded:
        lines.append("tensorflow serves where no other does")
    return lines


def _facts(bundle: "Bundle") -> dict[str, Any]:
    return {
        "name": bundle.name,
        "version": bundle.version,
        "title": bundle.title,
        "manufacturer": bundle.manufacturer,
        "licence": bundle.licence,
        "intended_use": bundle.intended_use,
        "not_for": bundle.not_for,
        "outputs": [one.tracking_identifier for one in bundle.outputs],
        "weights_sha256": bundle.weights_sha256,
        "bundle_sha256": bundle.bundle_sha256,
        "path": bundle.path,
    }
