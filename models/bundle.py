"""Read a model package: a folder of data, never code, that says what it is for.

Everything in the folder is checked before anything in it is believed: the manifest
against its schema, each file against its hash, the network against the allow-list.
TensorFlow is not imported here; `models.runtime` loads what this module has passed.
"""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.domain import AlgorithmIdentity, Code
from core.errors import InvalidBundle
from models.archive import check_keras_archive
from models.frozen.graph import FROZEN_NAME, FrozenGraph, read_frozen
from models.golden import GOLDEN_NAME, GoldenCases, read_golden_cases
from models.manifest import FORMAT, Manifest
from models.scope.guard import SCOPE_NAME, ScopeGuard, read_guard
from models.specification import (
    AppliesTo,
    InputSpecification,
    OutputSpecification,
    RuntimeHints,
    ScopeSpecification,
)

__all__ = [
    "CARD_NAME",
    "MANIFEST_NAME",
    "WEIGHTS_NAME",
    "Bundle",
    "parse_manifest",
    "read_bundle",
]

MANIFEST_NAME = "bundle.toml"
WEIGHTS_NAME = "model.keras"
CARD_NAME = "CARD.md"
_LARGEST_MANIFEST_BYTES = 1_000_000
_SUFFIXES = frozenset({".keras", ".npz", ".md", ".txt", ".png", ".csv", ".json"})


@dataclass(frozen=True)
class Bundle:
    """A model package that has passed its checks."""

    path: Path
    name: str
    version: str
    title: str
    manufacturer: str
    licence: str
    attribution: str
    intended_use: str
    not_for: str
    applies_to: AppliesTo
    input: InputSpecification
    outputs: tuple[OutputSpecification, ...]
    runtime: RuntimeHints
    golden_tolerance: float
    """Largest accepted difference of a golden case's logits."""
    weights_sha256: str
    bundle_sha256: str
    """Over the manifest, which holds the hash of every other file."""
    scope: ScopeSpecification | None = None
    """How far an image may lie from the training images; None: not looked at."""
    has_frozen_graph: bool = False
    """Whether a runtime other than TensorFlow can serve it."""

    @property
    def weights_path(self) -> Path:
        """Where the network lies."""
        return self.path / WEIGHTS_NAME

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return (self.path / CARD_NAME).read_text(encoding="utf-8")

    @property
    def algorithm(self) -> AlgorithmIdentity:
        """Who speaks in a report, with all that shapes the answer."""
        parameters = [f"preprocessing={self.input.describe()}"]
        for output in self.outputs:
            name = output.tracking_identifier
            parameters += [
                f"{name}: temperature={output.temperature:g}",
                f"{name}: bias={output.bias:g}",
            ]
            if output.uncertain_band:
                low, high = output.uncertain_band
                parameters.append(f"{name}: undetermined from {low:g} to {high:g}")
        if self.scope is not None:
            parameters.append(f"scope: largest distance={self.scope.limit:g}")
        return AlgorithmIdentity(
            name=self.name,
            version=self.version,
            manufacturer=self.manufacturer,
            weights_sha256=self.weights_sha256,
            bundle_sha256=self.bundle_sha256,
            parameters=tuple(parameters),
        )

    def golden_cases(self) -> GoldenCases:
        """Read the cases that the network must reproduce before it may serve."""
        shape = (self.input.rows, self.input.columns, self.input.channels)
        return read_golden_cases(
            self.path / GOLDEN_NAME,
            input_shape=shape,
            outputs=len(self.outputs),
            scoped=self.scope is not None,
        )

    def scope_guard(self) -> ScopeGuard | None:
        """Read where the training images lie; None if the bundle does not say."""
        if self.scope is None:
            return None
        return read_guard(self.path / SCOPE_NAME, self.scope.picture_side)

    def frozen_graph(self) -> FrozenGraph | None:
        """Read the network as a plain list of calculations; None if there is none."""
        if not self.has_frozen_graph:
            return None
        guard, scope = self.scope_guard(), self.scope
        features = None
        if guard is not None and scope is not None:
            features = len(guard.mean) - scope.picture_side**2
        return read_frozen(
            self.path / FROZEN_NAME,
            input_shape=(self.input.rows, self.input.columns, self.input.channels),
            outputs=len(self.outputs),
            features=features,
        )


def read_bundle(path: Path) -> Bundle:
    """Read and check a model package, without TensorFlow.

    Parameters
    ----------
    path
        The folder that holds `bundle.toml`.

    Raises
    ------
    InvalidBundle
        If anything is missing, unlisted, changed, unknown, out of range or not plain
        data; the message says what, what was expected and what to do.
    """
    text = _manifest_bytes(path)
    manifest = parse_manifest(path, text)
    _check_files(path, manifest)
    bundle = _bundle(path, manifest, hashlib.sha256(text).hexdigest())
    shape = (bundle.input.rows, bundle.input.columns, bundle.input.channels)
    check_keras_archive(bundle.weights_path, shape)
    bundle.scope_guard()
    bundle.frozen_graph()
    bundle.golden_cases()
    return bundle


def _manifest_bytes(path: Path) -> bytes:
    manifest = path / MANIFEST_NAME
    if path.is_symlink() or manifest.is_symlink():
        raise InvalidBundle(
            f"{manifest} is reached over a symbolic link. A bundle is one folder of "
            "plain files: copy it."
        )
    try:
        if manifest.stat().st_size > _LARGEST_MANIFEST_BYTES:
            raise InvalidBundle(
                f"{manifest} has more than {_LARGEST_MANIFEST_BYTES} bytes; a manifest "
                "has some thousand."
            )
        return manifest.read_bytes()
    except OSError as error:
        raise InvalidBundle(
            f"{manifest} cannot be read ({error.strerror}). A bundle is a folder with "
            f"a {MANIFEST_NAME} in it."
        ) from error


def parse_manifest(path: Path, text: bytes) -> Manifest:
    """Check the text of a manifest against the format.

    Parameters
    ----------
    path
        The bundle's folder; only named in messages.
    text
        Content of its `bundle.toml`.

    Raises
    ------
    InvalidBundle
        With each key that is missing, unknown, or out of range.
    """
    manifest = path / MANIFEST_NAME
    try:
        tree: dict[str, Any] = tomllib.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidBundle(f"{manifest} is not valid TOML: {error}.") from error
    if tree.get("format") != FORMAT:
        raise InvalidBundle(
            f"{manifest} is of format {tree.get('format')!r}; this secondread reads "
            f"format {FORMAT}. Pack the model again or update secondread."
        )
    try:
        return Manifest.model_validate(tree)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)[:5]
        )
        raise InvalidBundle(
            f"{manifest} does not follow the bundle format: {faults}. See "
            "docs/bundle-format.md for each key."
        ) from error


def _check_files(path: Path, manifest: Manifest) -> None:
    found = set()
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise InvalidBundle(
                f"{name} in {path} is no plain file (symbolic link or device). A "
                "bundle is one folder of plain files: copy what it points to."
            )
        if file.is_file() and name != MANIFEST_NAME:
            found.add(name)
    listed = set(manifest.files)
    if found != listed:
        raise InvalidBundle(
            f"The files in {path} are not those of its manifest: missing "
            f"{sorted(listed - found) or 'none'}, not listed "
            f"{sorted(found - listed)[:8] or 'none'}. Restore the bundle or pack it "
            "again."
        )
    for name, expected in manifest.files.items():
        _check_file(path / name, name, expected)


def _check_file(file: Path, name: str, expected: str) -> None:
    if file.suffix not in _SUFFIXES:
        raise InvalidBundle(
            f"{name} has a suffix that no bundle holds; accepted are "
            f"{', '.join(sorted(_SUFFIXES))}. A bundle is data, never code."
        )
    with file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != expected:
        raise InvalidBundle(
            f"{name} in {file.parent} has SHA-256 {actual}, the manifest says "
            f"{expected}. The file was changed or damaged: restore it or pack again."
        )


def _bundle(path: Path, manifest: Manifest, bundle_sha256: str) -> Bundle:
    given = manifest.input
    return Bundle(
        path=path,
        **manifest.identity.model_dump(),
        applies_to=_applies_to(manifest),
        input=InputSpecification(
            rows=given.rows,
            columns=given.columns,
            channels=given.channels,
            value_range=given.value_range,
            aspect=given.aspect,
            normalisation=given.normalisation,
            images=given.images,
        ),
        outputs=_outputs(manifest),
        runtime=RuntimeHints(**manifest.runtime.model_dump()),
        golden_tolerance=manifest.golden.tolerance,
        weights_sha256=manifest.files[WEIGHTS_NAME],
        bundle_sha256=bundle_sha256,
        scope=_scope(manifest),
        has_frozen_graph=FROZEN_NAME in manifest.files,
    )


def _scope(manifest: Manifest) -> ScopeSpecification | None:
    if manifest.scope is None:
        return None
    return ScopeSpecification(**manifest.scope.model_dump(exclude={"method"}))


def _outputs(manifest: Manifest) -> tuple[OutputSpecification, ...]:
    return tuple(
        OutputSpecification(
            tracking_identifier=output.tracking_identifier,
            finding=Code(**output.finding.model_dump()),
            site=Code(**output.site.model_dump()) if output.site else None,
            activation=output.activation,
            temperature=output.temperature,
            bias=output.bias,
            threshold=output.threshold,
            uncertain_band=output.uncertain_band,
        )
        for output in manifest.outputs
    )


def _applies_to(manifest: Manifest) -> AppliesTo:
    given = manifest.applies_to
    synonyms = {word for words in given.body_part_synonyms.values() for word in words}
    return AppliesTo(
        modalities=frozenset(given.modalities),
        sop_class_uids=frozenset(given.sop_class_uids),
        body_parts=frozenset(given.body_parts) | synonyms,
        views=frozenset(given.views),
        age_years=given.age_years,
        age_policy=given.age_policy,
    )
