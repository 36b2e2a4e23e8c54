"""Make a bundle of a trained network and a few answers.

`python -m models.pack KERAS_FILE ANSWERS.toml OUT [--card CARD.md]
[--out-of-fold CSV]`, or a new version of one that is there, with the same network:
`python -m models.pack --again BUNDLE VERSION OUT [--card CARD.md]`. The answers are the
tables of `bundle.toml` that only a person can write; hashes, golden cases and the rest
are made here, and what comes out has been read back and served once before it gets its
name.
"""

import argparse
import hashlib
import json
import math
import shutil
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InvalidBundle
from core.log import get_log
from models.archive import check_keras_archive
from models.bundle import (
    CARD_NAME,
    MANIFEST_NAME,
    WEIGHTS_NAME,
    Bundle,
    parse_manifest,
    read_bundle,
)
from models.calibration import Calibration
from models.card import pass_rate_table, performance_table
from models.evaluation import evaluate_out_of_fold
from models.frozen.freeze import freeze
from models.frozen.graph import FROZEN_NAME
from models.golden import GOLDEN_NAME, GoldenCases, golden_images
from models.manifest import FORMAT
from models.preparation import prepare
from models.runtime import load
from models.runtimes.tensorflow import read_network, with_features
from models.scope.guard import SCOPE_NAME, ScopeGuard, read_guard, vectors
from models.specification import InputSpecification, ScopeSpecification

__all__ = ["pack", "pack_again"]

# Float32 sums in another order differ by some 1e-5; a wrong network by whole units.
_GOLDEN_TOLERANCE = 0.01
_PLACEHOLDER_SHA256 = "0" * 64

_FIGURES = "<!-- figures of the held-out folds -->"
_SCOPE_FIGURES = "<!-- pass rates of the held-out folds -->"
_CARD = """# {title}

{name} {version}, by {manufacturer}. {licence}

**For:** {intended_use}

**Not for:** {not_for}

**Data:** {attribution}

## Performance

Not measured yet. Measure with `python -m models.evaluation BUNDLE DATA` on patients
that the network was not trained on, and write the figures here with their intervals.
"""


def pack(
    keras_file: Path,
    answers: Mapping[str, Any],
    out: Path,
    *,
    card: str | None = None,
    calibration: Calibration | None = None,
    guard: ScopeGuard | None = None,
) -> Bundle:
    """Make a bundle; nothing is left behind if it would not pass its own checks.

    Parameters
    ----------
    keras_file
        The trained network; its last layer must return logits. An optimizer in it is
        left out.
    answers
        The tables `identity`, `applies_to`, `input`, `outputs` and `runtime` of
        `bundle.toml`, and `scope` if there is a guard. Not changed.
    out
        The folder to make; it must not exist.
    card
        Text of `CARD.md`; a skeleton if None.
    calibration
        Calibration and threshold of the first output, in place of the answers'.
    guard
        Where the training images lie; needs the answers' table `scope`.

    Raises
    ------
    InvalidBundle
        If the network or an answer is not acceptable.
    """
    if out.exists():
        raise InvalidBundle(f"{out} exists already; give the name of a new folder.")
    tree = _tree(answers, calibration, scoped=guard is not None)
    parsed = parse_manifest(out, _to_toml(tree).encode())
    given = parsed.input
    shape = (given.rows, given.columns, given.channels)
    check_keras_archive(keras_file, shape, with_optimizer=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that the last step is one rename.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".packing-") as temporary:
        folder = Path(temporary) / out.name
        (folder / GOLDEN_NAME).parent.mkdir(parents=True)
        network = _copy_network(keras_file, folder / WEIGHTS_NAME)
        specification = InputSpecification(
            **given.model_dump(exclude={"resize"}),
        )
        scope = None
        if parsed.scope is not None and guard is not None:
            (folder / SCOPE_NAME).write_bytes(guard.to_bytes())
            found = parsed.scope.model_dump(exclude={"method"})
            scope = ScopeSpecification(**found)
        cases = _golden_cases(network, specification, scope, guard)
        (folder / GOLDEN_NAME).write_bytes(cases.to_bytes())
        _write_frozen(network, specification, scope, guard, tree, folder)
        text = card or _CARD.format(**parsed.identity.model_dump())
        (folder / CARD_NAME).write_text(text, encoding="utf-8")
        _seal(tree, folder)
        shutil.move(folder, out)
    return read_bundle(out)


def pack_again(
    bundle: Bundle, version: str, out: Path, *, card: str | None = None
) -> Bundle:
    """Make a new version of a bundle: the same network and golden cases, frozen anew.

    Parameters
    ----------
    bundle
        The old one; not changed.
    version
        Of the new one.
    out
        The folder to make; it must not exist.
    card
        Text of the new `CARD.md`; the old one's if None.

    Raises
    ------
    InvalidBundle
        If the new one would not pass its own checks.
    """
    if out.exists():
        raise InvalidBundle(f"{out} exists already; give the name of a new folder.")
    tree = tomllib.loads((bundle.path / MANIFEST_NAME).read_text(encoding="utf-8"))
    tree["identity"]["version"] = version
    tree["files"].pop(FROZEN_NAME, None)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".packing-") as temporary:
        folder = Path(temporary) / out.name
        shutil.copytree(bundle.path, folder)
        (folder / FROZEN_NAME).unlink(missing_ok=True)
        if card is not None:
            (folder / CARD_NAME).write_text(card, encoding="utf-8")
        _write_frozen(
            read_network(bundle), bundle.input, bundle.scope, bundle.scope_guard(),
            tree, folder,
        )  # fmt: skip
        _seal(tree, folder)
        shutil.move(folder, out)
    return read_bundle(out)


def _seal(tree: dict[str, Any], folder: Path) -> None:
    """Write the manifest with every file's hash, and serve the bundle once."""
    tree["files"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in tree["files"]
    }
    (folder / MANIFEST_NAME).write_text(_to_toml(tree), encoding="utf-8")
    bundle = read_bundle(folder)
    load(bundle, "tensorflow")
    load(bundle)


def _tree(
    answers: Mapping[str, Any], calibration: Calibration | None, *, scoped: bool
) -> dict[str, Any]:
    tree: dict[str, Any] = {"format": FORMAT, **json.loads(json.dumps(answers))}
    if calibration is not None:
        tree["outputs"][0].update(asdict(calibration))
    tree["golden"] = {"tolerance": _GOLDEN_TOLERANCE}
    names = [WEIGHTS_NAME, GOLDEN_NAME, CARD_NAME, *([SCOPE_NAME] if scoped else [])]
    tree["files"] = dict.fromkeys(names, _PLACEHOLDER_SHA256)
    return tree


def _copy_network(keras_file: Path, target: Path) -> Any:
    # Only packing and serving need Keras, not the reading of this module.
    from keras.saving import load_model  # noqa: PLC0415

    # The archive was checked against the allow-list just before.
    network = load_model(keras_file, compile=False, safe_mode=True)
    with zipfile.ZipFile(keras_file) as archive:
        trained = json.loads(archive.read("config.json")).get("compile_config")
    if trained:
        network.save(target)  # without the optimizer
    else:
        # As it is, so that packing again does not change the hash of the weights.
        shutil.copyfile(keras_file, target)
    return network


def _golden_cases(
    network: Any,
    specification: InputSpecification,
    scope: ScopeSpecification | None,
    guard: ScopeGuard | None,
) -> GoldenCases:
    images = golden_images()
    display = images.astype(np.float32) / np.float32(255)
    inputs = np.stack([prepare(image, specification) for image in display])
    logits = np.asarray(network(inputs, training=False), np.float32)
    if scope is None or guard is None:
        return GoldenCases(images, inputs, logits)
    _, features = with_features(network, scope.layer)(inputs, training=False)
    given = vectors(np.asarray(features, np.float32), inputs, scope.picture_side)
    if given.shape[1] != len(guard.mean):
        raise InvalidBundle(
            f"Layer {scope.layer} and a picture of {scope.picture_side} pixels a side "
            f"give {given.shape[1]} numbers; the guard of scope was fitted to "
            f"{len(guard.mean)}. Fit it to this network."
        )
    return GoldenCases(images, inputs, logits, guard.distances(given))


def _write_frozen(
    network: Any,
    specification: InputSpecification,
    scope: ScopeSpecification | None,
    guard: ScopeGuard | None,
    tree: dict[str, Any],
    folder: Path,
) -> None:
    """Add the frozen graph, unless the network calculates what none can hold."""
    lengths: tuple[int, ...] = (len(tree["outputs"]),)
    if scope is not None and guard is not None:
        network = with_features(network, scope.layer)
        lengths = (*lengths, len(guard.mean) - scope.picture_side**2)
    given = specification
    try:
        graph = freeze(
            network,
            input_shape=(given.rows, given.columns, given.channels),
            output_lengths=lengths,
        )
    except InvalidBundle as error:
        get_log().warning("no_frozen_graph", reason=str(error))
        return
    (folder / FROZEN_NAME).write_bytes(graph.to_bytes())
    tree["files"][FROZEN_NAME] = _PLACEHOLDER_SHA256


def _to_toml(tree: Mapping[str, Any]) -> str:
    """Write tables, arrays of tables and plain values: all that a manifest has."""
    lines = [f"{key} = {_value(value)}" for key, value in tree.items() if _plain(value)]
    for key, value in tree.items():
        if isinstance(value, Mapping):
            lines += _table(f"[{key}]", value)
        elif not _plain(value):
            for one in value:
                lines += _table(f"[[{key}]]", one)
    return "\n".join(lines) + "\n"


def _table(head: str, table: Mapping[str, Any]) -> list[str]:
    return ["", head, *(f"{_key(key)} = {_value(v)}" for key, v in table.items())]


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return not any(isinstance(one, Mapping) for one in value)
    return not isinstance(value, Mapping)


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(v)}" for key, v in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(_value(one) for one in value)}]"
    # JSON's strings, numbers and truth values are TOML's.
    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Make a bundle from the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.pack")
    parser.add_argument("source", type=Path, help="KERAS_FILE; with --again a bundle")
    parser.add_argument("answers", help="TOML file; with --again the new version")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--again",
        action="store_true",
        help="make a new version of a bundle, with the same network",
    )
    parser.add_argument("--card", type=Path, help="Markdown; a skeleton otherwise")
    parser.add_argument(
        "--out-of-fold",
        type=Path,
        metavar="CSV",
        help="calibrates the first output and fills the card's line of figures",
    )
    parser.add_argument(
        "--scope",
        type=Path,
        metavar="WORK",
        help="takes scope.npz and scope.json, and fills the card's line of pass rates",
    )
    given = parser.parse_args()
    card = given.card.read_text(encoding="utf-8") if given.card else None
    if given.again:
        old = read_bundle(given.source)
        _tell(pack_again(old, given.answers, given.out, card=card))
        return
    answers = tomllib.loads(Path(given.answers).read_text(encoding="utf-8"))
    guard = None
    calibration = None
    if given.out_of_fold:
        figures = evaluate_out_of_fold(given.out_of_fold)
        calibration = Calibration(**figures["shipped"])
        if card is not None:
            card = card.replace(_FIGURES, performance_table(figures))
    if given.scope:
        fitted = json.loads((given.scope / "scope.json").read_text(encoding="utf-8"))
        fixed = {key: fitted[key] for key in ("layer", "picture_side", "limit")}
        # Rounded up, so that the report tells the very limit that counts.
        fixed["limit"] = math.ceil(fixed["limit"] * 1000) / 1000
        answers["scope"] = {"method": "mahalanobis", **fixed, **answers["scope"]}
        guard = read_guard(given.scope / SCOPE_NAME, fixed["picture_side"])
        if card is not None:
            card = card.replace(_SCOPE_FIGURES, pass_rate_table(fitted))
    bundle = pack(
        given.source,
        answers,
        given.out,
        card=card,
        calibration=calibration,
        guard=guard,
    )
    _tell(bundle)


def _tell(bundle: Bundle) -> None:
    sys.stdout.write(f"{bundle.path} {bundle.bundle_sha256}\n")


if __name__ == "__main__":
    main()
