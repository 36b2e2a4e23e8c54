"""Of all that a study brings, the model reads one image, or there is a reason."""

from itertools import permutations
from pathlib import Path

import pytest

from core.domain import NotAnalysedReason
from worker.phantom import PhantomIdentity, chest_radiograph, ct_series, to_dicom
from worker.pixels.select import NothingSuitable, SelectedImage, select_radiograph

FRONTAL = {"AP", "PA"}


def _frontal_only(facts):
    if facts.modality not in {"DX", "CR"}:
        return NotAnalysedReason.WRONG_MODALITY, "a radiograph was expected"
    if facts.view_position is not None and facts.view_position not in FRONTAL:
        return NotAnalysedReason.WRONG_VIEW, "a frontal view was expected"
    return None


@pytest.fixture
def save(tmp_path):
    film = chest_radiograph(rows=24, columns=24)

    def _save(name: str, *, number: int = 1, view: str = "AP", **changes) -> Path:
        identity = PhantomIdentity(instance_number=number, view_position=view)
        image = to_dicom(film, identity=identity)
        for keyword, value in changes.items():
            setattr(image, keyword, value)
        image.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return _save


def test_the_frontal_image_is_selected_beside_a_lateral_one(save):
    lateral, frontal = save("a", number=1, view="LL"), save("b", number=2)

    chosen = select_radiograph([lateral, frontal], _frontal_only)

    assert isinstance(chosen, SelectedImage)
    assert chosen.path == frontal
    assert chosen.notes == ()


def test_the_first_of_several_is_selected_in_any_order_and_told(save):
    paths = [save(name, number=n) for n, name in enumerate("abc", start=1)]

    for order in permutations(paths):
        chosen = select_radiograph(order, _frontal_only)

        assert isinstance(chosen, SelectedImage)
        assert chosen.path == paths[0]
        assert "2 further images" in chosen.notes[0]


def test_an_image_for_presentation_comes_before_one_for_processing(save):
    raw = save("a", number=1, PresentationIntentType="FOR PROCESSING")
    shown = save("b", number=2)

    chosen = select_radiograph([raw, shown], _frontal_only)

    assert isinstance(chosen, SelectedImage)
    assert chosen.path == shown


def test_a_known_view_comes_before_an_unknown_one(save):
    unknown = save("a", number=1, ViewPosition="", ViewCodeSequence=[])
    known = save("b", number=2)

    chosen = select_radiograph([unknown, known], _frontal_only)

    assert isinstance(chosen, SelectedImage)
    assert chosen.path == known


def test_the_reason_that_came_nearest_is_given(save, tmp_path):
    (slice_,) = ct_series(shape=(1, 8, 8))
    slice_.save_as(tmp_path / "ct", enforce_file_format=True)
    lateral = save("a", view="LL")

    answer = select_radiograph([tmp_path / "ct", lateral], _frontal_only)

    assert isinstance(answer, NothingSuitable)
    assert answer.reason is NotAnalysedReason.WRONG_VIEW
    assert len(answer.images) == 2


def test_a_study_without_images_says_so():
    answer = select_radiograph([], _frontal_only)

    assert isinstance(answer, NothingSuitable)
    assert answer.reason is NotAnalysedReason.NO_IMAGE


def test_an_unreadable_file_does_not_hide_a_readable_one(save, tmp_path):
    missing = tmp_path / "gone"
    frontal = save("a")

    chosen = select_radiograph([missing, frontal], _frontal_only)
    alone = select_radiograph([missing], _frontal_only)

    assert isinstance(chosen, SelectedImage)
    assert isinstance(alone, NothingSuitable)
    assert alone.reason is NotAnalysedReason.PIXELS_UNREADABLE
