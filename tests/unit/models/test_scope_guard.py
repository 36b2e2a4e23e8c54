"""The tiny bundle with a guard: features are the mean, and a picture of 2 x 2."""

import hashlib
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from core.domain import NotAnalysedReason
from core.errors import InvalidBundle
from models.bundle import read_bundle
from models.golden import GoldenCases
from models.pack import pack
from models.runtime import load
from models.scope.fit import fit_guard, pass_rate, set_limit
from models.scope.guard import ScopeGuard, image_note, image_refusal, vectors
from tests.tiny_bundle import save_tiny_network, tiny_answers

RANDOM = np.random.default_rng(0)
USUAL = (0.5 + 0.05 * RANDOM.standard_normal((200, 16, 16, 1))).astype(np.float32)


def tiny_vectors(images):
    return vectors(images.mean(axis=(1, 2)), images, 2)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    import keras

    folder = tmp_path_factory.mktemp("guarded")
    network = save_tiny_network(folder / "tiny.keras")
    layer = keras.saving.load_model(network).layers[1].name
    answers = tiny_answers() | {
        "scope": {
            "method": "mahalanobis",
            "layer": layer,
            "picture_side": 2,
            "limit": 3.0,
            "reason": "No such image was trained on.",
        }
    }
    guard = fit_guard(tiny_vectors(USUAL))
    return pack(network, answers, folder / "tiny", guard=guard)


@pytest.fixture
def guarded_copy(guarded, tmp_path):
    import shutil

    return shutil.copytree(guarded.path, tmp_path / "copy")


def write_and_rehash(folder, name, content):
    manifest = folder / "bundle.toml"
    text = manifest.read_text()
    old = tomllib.loads(text)["files"][name]
    (folder / name).write_bytes(content)
    manifest.write_text(text.replace(old, hashlib.sha256(content).hexdigest()))


def test_the_distance_is_that_calculated_by_hand():
    guard = ScopeGuard(
        np.array([1.0, 2.0], "f4"), np.array([[2.0, 1.0], [0.0, 3.0]], "f4")
    )

    # W (x - mean) = W (1, -1) = (1, -3); root of (1 + 9) / 2.
    found = guard.distances(np.array([[2.0, 1.0]], "f4"))

    np.testing.assert_allclose(found, [np.sqrt(5.0)])


def test_the_small_picture_averages_blocks_of_the_input():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)

    found = vectors(np.array([[7.0]], "f4"), image, 2)

    np.testing.assert_allclose(found, [[7.0, 2.5, 4.5, 10.5, 12.5]])


def test_a_fitted_guard_finds_its_own_films_at_a_distance_of_about_one():
    given = RANDOM.normal(5.0, 3.0, (4000, 6)).astype(np.float32)

    squares = np.square(fit_guard(given).distances(given))

    assert squares.mean() == pytest.approx(1.0, abs=0.02)


def test_the_limit_lets_ninety_nine_of_a_hundred_unseen_films_pass():
    given = RANDOM.normal(size=(4000, 6)).astype(np.float32)
    unseen = RANDOM.normal(size=(4000, 6)).astype(np.float32)

    limit = set_limit(given, [str(number) for number in range(4000)])

    passed = fit_guard(given).distances(unseen) <= limit
    assert passed.mean() == pytest.approx(0.99, abs=0.006)


def test_a_pass_rate_lies_within_its_interval():
    passed = np.array([True] * 95 + [False] * 5)

    rate = pass_rate(passed, np.array([str(n // 2) for n in range(100)]))

    assert (rate.images, rate.passed, rate.value) == (100, 95, 0.95)
    assert rate.low < 0.95 < rate.high <= 1


def test_an_image_like_the_training_images_passes_and_one_unlike_is_refused(guarded):
    usual = load(guarded).answer(USUAL[:1]).distances[0]
    far = load(guarded).answer(np.ones((1, 16, 16, 1), np.float32)).distances[0]

    assert image_refusal(guarded.scope, usual) is None
    reason, text = image_refusal(guarded.scope, far)
    assert reason is NotAnalysedReason.OUT_OF_SCOPE
    assert text.startswith("No such image was trained on.")
    assert f"{far:.2f}" in text
    assert "3.00" in text


def test_a_distance_does_not_depend_on_what_else_is_in_the_batch(guarded):
    model = load(guarded)

    together = model.answer(USUAL[:11])
    singly = [model.answer(image[np.newaxis]).distances[0] for image in USUAL[:11]]

    np.testing.assert_allclose(together.distances, singly, rtol=1e-4)
    assert together.logits.shape == (11, 1)


@pytest.mark.parametrize("distance", [np.nan, np.inf, 3.0001])
def test_a_distance_beyond_the_limit_or_no_number_is_refused(guarded, distance):
    assert image_refusal(guarded.scope, distance) is not None


def test_a_passed_check_is_told_with_distance_and_limit(guarded):
    note = image_note(guarded.scope, 1.234)

    assert "1.23" in note
    assert "3.00" in note
    assert "scope: largest distance=3" in guarded.algorithm.parameters


def test_a_bundle_without_guard_answers_without_distances(tiny_bundle):
    answer = load(tiny_bundle).answer(USUAL[:2])

    assert tiny_bundle.scope is None
    assert answer.distances is None
    assert answer.logits.shape == (2, 1)


def test_a_changed_guard_is_refused(guarded_copy):
    content = bytearray((guarded_copy / "scope.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (guarded_copy / "scope.npz").write_bytes(content)

    with pytest.raises(InvalidBundle, match="SHA-256"):
        read_bundle(guarded_copy)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m, w: (m, w * np.float32(np.nan)),
        lambda m, w: (m[:-1], w),
        lambda m, w: (m.astype("f8"), w),
        lambda m, w: (m, np.zeros_like(w)),
        lambda m, w: (m, w.T.copy()),
        lambda m, w: (m[:4], w[:4, :4]),
    ],
)
def test_a_guard_that_guards_nothing_is_refused(guarded_copy, spoil):
    guard = read_bundle(guarded_copy).scope_guard()
    content = ScopeGuard(*spoil(guard.mean, guard.whitener)).to_bytes()
    write_and_rehash(guarded_copy, "scope.npz", content)

    with pytest.raises(InvalidBundle, match="expected were float32 arrays"):
        read_bundle(guarded_copy)


def test_a_guard_without_its_table_is_refused(guarded_copy):
    manifest = guarded_copy / "bundle.toml"
    before, after = manifest.read_text().split("[scope]")
    manifest.write_text(before + after[after.index("\n[") + 1 :])

    with pytest.raises(InvalidBundle, match="only come together"):
        read_bundle(guarded_copy)


def test_a_distance_that_comes_out_otherwise_is_not_served(guarded_copy):
    kept = read_bundle(guarded_copy).golden_cases()
    cases = replace(kept, distances=kept.distances * 1.05)
    assert isinstance(cases, GoldenCases)
    write_and_rehash(guarded_copy, "golden/cases.npz", cases.to_bytes())

    with pytest.raises(InvalidBundle, match="distance differs"):
        load(read_bundle(guarded_copy))


def test_a_layer_that_the_network_lacks_is_refused(guarded_copy):
    manifest = guarded_copy / "bundle.toml"
    layer = read_bundle(guarded_copy).scope.layer
    manifest.write_text(manifest.read_text().replace(f'"{layer}"', '"another"'))

    with pytest.raises(InvalidBundle, match="no layer 'another'"):
        load(read_bundle(guarded_copy), "tensorflow")
