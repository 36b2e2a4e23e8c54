import shutil

import pytest

from core.errors import InvalidBundle
from models.catalogue import SHIPPED_BUNDLES, find_bundles


def with_version(folder, version):
    manifest = folder / "bundle.toml"
    manifest.write_text(manifest.read_text().replace('"1.0.0"', f'"{version}"'))


def test_a_broken_bundle_does_not_hide_the_others(tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle.path, tmp_path / "sound")
    shutil.copytree(tiny_bundle.path, tmp_path / "broken")
    (tmp_path / "broken/CARD.md").write_text("changed")

    catalogue = find_bundles(tmp_path)

    assert list(catalogue.bundles) == [("tiny-brightness", "1.0.0")]
    assert [one.path.name for one in catalogue.refused] == ["broken"]
    assert "SHA-256" in catalogue.refused[0].reason


def test_folders_that_are_no_bundles_and_missing_directories_are_passed_over(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.txt").write_text("x")

    catalogue = find_bundles(tmp_path, tmp_path / "missing")

    assert not catalogue.bundles
    assert not catalogue.refused


def test_the_highest_version_is_found_unless_one_is_asked_for(tiny_bundle, tmp_path):
    for version in ("1.9.0", "1.10.0"):
        folder = shutil.copytree(tiny_bundle.path, tmp_path / version)
        with_version(folder, version)
    catalogue = find_bundles(tmp_path)

    highest = catalogue.find("tiny-brightness")
    asked = catalogue.find("tiny-brightness", "1.9.0")

    assert (highest.version, asked.version) == ("1.10.0", "1.9.0")


def test_a_second_bundle_of_the_same_name_and_version_is_refused(tiny_bundle, tmp_path):
    for directory in ("one", "two"):
        shutil.copytree(tiny_bundle.path, tmp_path / directory / "tiny")
    manifest = tmp_path / "two/tiny/bundle.toml"
    manifest.write_text(
        manifest.read_text().replace("threshold = 0.5", "threshold = 0.6")
    )

    catalogue = find_bundles(tmp_path / "one", tmp_path / "two")

    assert catalogue.find("tiny-brightness").outputs[0].threshold == 0.5
    assert "new version" in catalogue.refused[0].reason


def test_an_unknown_name_is_answered_with_the_known_ones(tiny_bundle):
    catalogue = find_bundles(tiny_bundle.path.parent)

    with pytest.raises(InvalidBundle, match=r"Known: tiny-brightness 1\.0\.0"):
        catalogue.find("brightness")


def test_every_shipped_bundle_is_sound():
    catalogue = find_bundles(SHIPPED_BUNDLES)

    assert catalogue.refused == ()
    assert "lung-pneumonia-paediatric" in {name for name, _ in catalogue.bundles}
