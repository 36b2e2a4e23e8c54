"""A model of single slices: every image of the series is asked, in any batches."""

from pathlib import Path

import numpy as np
import pytest

from core.domain import Analysed, NotAnalysed, NotAnalysedReason
from models.preparation import prepare
from models.resident import ResidentModels
from models.runtime import load
from tests.tiny_bundle import KERAS_AND_NUMPY, make_tiny_bundle
from worker.orders import SourceInstance
from worker.phantom import PhantomIdentity, chest_radiograph, to_dicom
from worker.pipeline import StageClock, read_study
from worker.pixels.display import display_image
from worker.pixels.limits import PixelLimits

pytestmark = pytest.mark.filterwarnings(KERAS_AND_NUMPY)
COUNT = 11


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    return make_tiny_bundle(folder / "tiny", images="every")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    instances = []
    for number in range(1, COUNT + 1):
        # Number 7 is the brightest.
        picture = chest_radiograph(rows=40, columns=40, seed=number)
        picture = picture * np.float32(0.5 if number != 7 else 1.0)
        dataset = to_dicom(
            picture,
            identity=PhantomIdentity(study_seed="series", instance_number=number),
        )
        path = folder / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        instances.append(
            SourceInstance(
                path=str(path),
                sop_class_uid=str(dataset.SOPClassUID),
                sop_instance_uid=str(dataset.SOPInstanceUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
            )
        )
    return tuple(instances)


def read(instances, bundle, runtime="tensorflow"):
    models = ResidentModels(loader=lambda one: load(one, runtime))
    clock = StageClock()
    return read_study(instances, bundle, models, PixelLimits(), clock), clock


@pytest.mark.parametrize("runtime", ["tensorflow", "automatic"])
def test_every_image_is_read_and_the_finding_names_the_one_that_decides(
    bundle, series, runtime
):
    reading, clock = read(series, bundle, runtime)

    assert isinstance(reading, Analysed)
    assert len(reading.images) == COUNT
    (finding,) = reading.findings
    assert [one.sop_instance_uid for one in finding.images] == [
        series[6].sop_instance_uid
    ]
    assert {"select", "decode", "prepare", "infer"} <= set(clock.seconds)


def test_the_answer_is_that_of_the_images_one_by_one(bundle, series):
    reading, _ = read(series, bundle)

    model = load(bundle, "tensorflow")
    logits = [
        model.logits(prepare(display_image(Path(one.path)).pixels, bundle.input)[None])
        for one in series
    ]
    expected = 1 / (1 + np.exp(-np.max(logits)))
    assert reading.findings[0].probability == pytest.approx(expected, abs=1e-6)


def test_the_order_in_which_files_come_does_not_matter(bundle, series):
    forward, _ = read(series, bundle)
    backward, _ = read(series[::-1], bundle)

    assert forward == backward


def test_a_series_with_an_image_that_cannot_be_read_is_not_half_analysed(
    bundle, series, tmp_path
):
    whole = Path(series[4].path).read_bytes()
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(whole[:-200])
    broken = SourceInstance(
        path=str(damaged),
        sop_class_uid=series[4].sop_class_uid,
        sop_instance_uid=series[4].sop_instance_uid,
        series_instance_uid=series[4].series_instance_uid,
    )

    reading, _ = read((*series[:4], broken, *series[5:]), bundle)

    assert isinstance(reading, NotAnalysed)
    assert reading.reason is NotAnalysedReason.PIXELS_UNREADABLE
