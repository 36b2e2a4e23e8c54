"""Inputs as a stream: what `display_image` and `prepare` give, ahead of the caller."""

from contextlib import closing

import numpy as np
import pytest

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from models.preparation import prepare
from models.specification import InputSpecification
from worker.inputs import iter_inputs, read_input
from worker.phantom import PhantomIdentity, chest_radiograph, to_dicom
from worker.pixels.display import display_image
from worker.pixels.limits import PixelLimits

SPECIFICATION = InputSpecification(rows=16, columns=16)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    paths = []
    for number in range(1, 6):
        image = to_dicom(
            chest_radiograph(rows=64, columns=56, seed=number),
            identity=PhantomIdentity(study_seed="inputs", instance_number=number),
        )
        paths.append(folder / f"{number}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


@pytest.mark.parametrize("threads", [1, 2, None])
def test_the_stream_gives_what_reading_one_by_one_gives(films, threads):
    inputs = list(iter_inputs(films, SPECIFICATION, threads=threads))

    assert len(inputs) == len(films)
    for one, path in zip(inputs, films, strict=True):
        image = display_image(path)
        assert np.array_equal(one.values, prepare(image.pixels, SPECIFICATION))
        assert one.reference == image.reference
        assert one.pixel_spacing_mm == image.pixel_spacing_mm
        assert one.notes == image.notes
        assert one.decode_s > 0
        assert one.prepare_s > 0


def test_every_frame_of_an_image_is_an_input(films):
    image = to_dicom(chest_radiograph(rows=32, columns=32), bits_stored=8)
    first = image.PixelData
    image.NumberOfFrames = 2
    image.PixelData = first + first[::-1]

    one, two = iter_inputs([image], SPECIFICATION)

    assert (one.reference.frame_number, two.reference.frame_number) == (1, 2)
    assert np.allclose(two.values, one.values[::-1, ::-1], atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_inputs_before_a_broken_image_come_and_then_its_reason(films, threads):
    broken = to_dicom(chest_radiograph(rows=32, columns=32))
    broken.PixelData = broken.PixelData[:-2]
    sources = [*films[:3], broken, *films[3:]]

    inputs = iter_inputs(sources, SPECIFICATION, threads=threads)

    assert len([next(inputs) for _ in range(3)]) == 3
    with pytest.raises(UnsupportedImage) as refusal:
        next(inputs)
    assert refusal.value.reason == NotAnalysedReason.PIXELS_UNREADABLE


def test_a_limit_holds_for_each_image(films):
    with pytest.raises(UnsupportedImage) as refusal:
        next(iter_inputs(films, SPECIFICATION, PixelLimits(maximum_bytes=100)))

    assert refusal.value.reason == NotAnalysedReason.PIXELS_TOO_LARGE


def test_a_stream_left_early_closes(films):
    with closing(iter_inputs(films, SPECIFICATION, threads=2)) as inputs:
        assert next(inputs).values.shape == (16, 16, 1)


def test_an_image_with_one_value_only_is_refused_by_itself():
    flat = to_dicom(np.zeros((8, 8), np.float32))

    with pytest.raises(UnsupportedImage) as refusal:
        read_input(flat, SPECIFICATION)

    assert refusal.value.reason == NotAnalysedReason.PIXELS_EMPTY
