from collections import Counter

import numpy as np
import pytest

from core.errors import InvalidSettings, UnsupportedImage
from models.films import load_image, read_index
from models.training.augmentation import Augmentation, augment
from models.training.folds import grouped_folds

STILL = Augmentation(
    shift=0, rotation_degrees=0, zoom=0, aspect=0, gamma=0, contrast=0, brightness=0,
    flip=False,
)  # fmt: skip


def films(count=300, seed=0):
    random = np.random.default_rng(seed)
    groups = [f"patient-{number}" for number in random.integers(0, 90, count)]
    labels = ["normal" if group[-1] in "02" else "pneumonia" for group in groups]
    return labels, groups


def test_no_patient_is_in_two_folds():
    labels, groups = films()

    folds = grouped_folds(labels, groups, count=5, seed=1)

    assert len(
        {(group, fold) for group, fold in zip(groups, folds, strict=True)}
    ) == len(set(groups))


def test_every_fold_has_its_share_of_both_classes():
    labels, groups = films()

    folds = grouped_folds(labels, groups, count=5, seed=1)

    for label, total in Counter(labels).items():
        shares = [
            sum(one == label for one in np.array(labels)[folds == fold]) / total
            for fold in range(5)
        ]
        assert max(shares) - min(shares) < 0.06


def test_folds_follow_the_seed_and_nothing_else():
    labels, groups = films()

    first = grouped_folds(labels, groups, count=3, seed=1)

    np.testing.assert_array_equal(first, grouped_folds(labels, groups, count=3, seed=1))
    assert (first != grouped_folds(labels, groups, count=3, seed=2)).any()


def test_more_folds_than_patients_are_refused():
    with pytest.raises(InvalidSettings, match="2 patient groups"):
        grouped_folds(["a", "b"], ["1", "2"], count=3, seed=0)


def test_augmentation_of_no_amount_changes_nothing():
    image = np.random.default_rng(0).random((32, 32), "f4")

    changed = augment(image, STILL, np.random.default_rng(1))

    np.testing.assert_allclose(changed, image, atol=1e-5)


def test_augmentation_stays_within_black_and_white_and_leaves_its_argument():
    image = np.random.default_rng(0).random((32, 32), "f4")
    before = image.copy()

    changed = [
        augment(image, Augmentation(), np.random.default_rng(s)) for s in range(20)
    ]

    assert all(one.min() >= 0 and one.max() <= 1 for one in changed)
    np.testing.assert_array_equal(image, before)
    assert len({one.tobytes() for one in changed}) == 20


def write_index(folder, text):
    (folder / "index.csv").write_text(text)


def test_an_index_without_a_patient_column_is_refused(tmp_path):
    write_index(tmp_path, "file,label\na.png,normal\n")

    with pytest.raises(InvalidSettings, match="patient_id"):
        read_index(tmp_path)


def test_an_index_that_names_a_file_outside_is_refused(tmp_path):
    write_index(tmp_path, "file,label,group_id\n../a.png,normal,1\n")

    with pytest.raises(InvalidSettings, match="outside"):
        read_index(tmp_path)


def test_duplicates_are_left_out_unless_asked_for(tmp_path):
    write_index(
        tmp_path,
        "file,label,patient_id,duplicate_of\na.png,normal,1,\nb.png,normal,1,a.png\n",
    )

    assert [film.path.name for film in read_index(tmp_path)] == ["a.png"]
    assert len(read_index(tmp_path, drop_duplicates=False)) == 2


def test_sixteen_bit_pictures_keep_their_grey_levels(tmp_path):
    from PIL import Image

    levels = np.array([[0, 32768, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "grey.png")

    np.testing.assert_allclose(
        load_image(tmp_path / "grey.png"), [[0, 32768 / 65535, 1]], atol=1e-6
    )


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")

    with pytest.raises(UnsupportedImage, match=r"a\.png"):
        load_image(tmp_path / "a.png")
