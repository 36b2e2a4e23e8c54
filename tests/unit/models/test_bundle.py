import hashlib
import json
import subprocess
import sys
import tomllib

import pytest

from core.errors import InvalidBundle
from models.bundle import read_bundle


def edit_manifest(folder, old, new):
    manifest = folder / "bundle.toml"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new, 1))


def rehash(folder, name):
    manifest = folder / "bundle.toml"
    old = tomllib.loads(manifest.read_text())["files"][name]
    new = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    edit_manifest(folder, old, new)


def test_a_packed_bundle_reads_back_with_identity_and_hashes(tiny_bundle):
    bundle = read_bundle(tiny_bundle.path)

    manifest = (bundle.path / "bundle.toml").read_bytes()
    assert bundle.name == "tiny-brightness"
    assert bundle.bundle_sha256 == hashlib.sha256(manifest).hexdigest()
    weights = (bundle.path / "model.keras").read_bytes()
    assert bundle.weights_sha256 == hashlib.sha256(weights).hexdigest()


def test_the_algorithm_identity_names_all_that_shapes_the_answer(tiny_bundle):
    algorithm = tiny_bundle.algorithm

    assert algorithm.bundle_sha256 == tiny_bundle.bundle_sha256
    assert "pneumonia: temperature=1" in algorithm.parameters
    assert any(text.startswith("preprocessing=") for text in algorithm.parameters)


def test_reading_a_bundle_does_not_import_tensorflow(tiny_bundle):
    code = (
        "import sys; from pathlib import Path; from models.bundle import read_bundle; "
        "read_bundle(Path(sys.argv[1])); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code, str(tiny_bundle.path)])

    assert done.returncode == 0


def test_synonyms_of_body_parts_are_allowed_too(bundle_copy):
    edit_manifest(
        bundle_copy,
        'body_parts = ["CHEST"]',
        'body_parts = ["CHEST"]\nbody_part_synonyms = { CHEST = ["THORAX"] }',
    )

    assert read_bundle(bundle_copy).applies_to.body_parts == {"CHEST", "THORAX"}


@pytest.mark.parametrize("name", ["model.keras", "CARD.md", "golden/cases.npz"])
def test_a_missing_file_is_named(bundle_copy, name):
    (bundle_copy / name).unlink()

    with pytest.raises(InvalidBundle, match=f"missing \\['{name}'\\]"):
        read_bundle(bundle_copy)


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(InvalidBundle, match=r"bundle\.toml cannot be read"):
        read_bundle(tmp_path)


def test_a_file_that_the_manifest_does_not_list_is_refused(bundle_copy):
    (bundle_copy / "hook.py").write_text("raise SystemExit")

    with pytest.raises(InvalidBundle, match=r"not listed \['hook\.py'\]"):
        read_bundle(bundle_copy)


def test_a_listed_file_of_code_is_refused(bundle_copy):
    (bundle_copy / "hook.py").write_text("raise SystemExit")
    edit_manifest(bundle_copy, "[files]", f'[files]\n"hook.py" = "{"0" * 64}"')

    with pytest.raises(InvalidBundle, match="suffix"):
        read_bundle(bundle_copy)


@pytest.mark.parametrize("name", ["model.keras", "CARD.md", "golden/cases.npz"])
def test_one_changed_byte_is_refused(bundle_copy, name):
    file = bundle_copy / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

    with pytest.raises(InvalidBundle, match="SHA-256"):
        read_bundle(bundle_copy)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[runtime]", "[runtime]\nspeed = 3", r"runtime\.speed"),
        ("format = 1", "format = 2", "format 2"),
        ('"sigmoid"', '"softplus"', r"outputs\.0\.activation"),
        ("threshold = 0.5", "threshold = 1.5", r"outputs\.0\.threshold"),
        ("threshold = 0.5", "threshold = nan", r"outputs\.0\.threshold"),
        ("threshold = 0.5", 'threshold = "high"', r"outputs\.0\.threshold"),
        (
            "threshold = 0.5",
            "threshold = 0.5\nuncertain_band = [0.6, 0.8]",
            "uncertain_band",
        ),
        ("rows = 16", "rows = 16000000", r"input\.rows"),
        ("rows = 16", "rows = 16.0", r"input\.rows"),
        ("channels = 1", "channels = 2", r"input\.channels"),
        ("[golden]\ntolerance = 0.01", "[golden]\ntolerance = 9.0", "golden.tolerance"),
        ('name = "tiny-brightness"', 'name = "../tiny"', r"identity\.name"),
        ('version = "1.0.0"', 'version = "new"', r"identity\.version"),
        ('modalities = ["CR", "DX"]', "modalities = []", r"applies_to\.modalities"),
        ('modalities = ["CR", "DX"]', 'modalities = "CR"', r"applies_to\.modalities"),
        ("sop_class_uids = []", 'sop_class_uids = ["1.02"]', "no UID"),
        ('"CARD.md"', '"../CARD.md"', "files"),
        ('"CARD.md"', '"/etc/passwd"', "files"),
        ('"CARD.md"', '"golden/../CARD.md"', "files"),
        ("[identity]", "[identity", "not valid TOML"),
    ],
)
def test_a_manifest_that_breaks_the_format_is_refused_by_key(
    bundle_copy, old, new, message
):
    edit_manifest(bundle_copy, old, new)

    with pytest.raises(InvalidBundle, match=message):
        read_bundle(bundle_copy)


def test_a_symbolic_link_in_place_of_a_file_is_refused(bundle_copy, tmp_path):
    outside = tmp_path / "outside.md"
    (bundle_copy / "CARD.md").rename(outside)
    (bundle_copy / "CARD.md").symlink_to(outside)

    with pytest.raises(InvalidBundle, match="symbolic link"):
        read_bundle(bundle_copy)


def test_a_manifest_for_another_input_than_the_networks_is_refused(bundle_copy):
    edit_manifest(bundle_copy, "columns = 16", "columns = 32")

    with pytest.raises(InvalidBundle, match=r"16, 16, 1"):
        read_bundle(bundle_copy)


def test_golden_cases_of_pickled_objects_are_refused_unread(bundle_copy):
    import numpy as np

    objects = np.array([json], dtype=object).astype(str).astype(object)
    np.savez(
        bundle_copy / "golden/cases.npz", images=objects, inputs=objects, logits=objects
    )
    rehash(bundle_copy, "golden/cases.npz")

    with pytest.raises(InvalidBundle, match="golden cases"):
        read_bundle(bundle_copy)
