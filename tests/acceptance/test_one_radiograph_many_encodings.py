"""One radiograph, however it is written down: the shipped model says the same of it."""

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import uid

from core.domain import Analysed
from models.bundle import Bundle
from models.catalogue import SHIPPED_BUNDLES, find_bundles
from models.resident import ResidentModels
from tests.data import instance_of, needs_pictures, picture_paths
from worker.orders import SourceInstance
from worker.phantom import chest_radiograph, to_dicom
from worker.phantom.picture import read_picture
from worker.pipeline import StageClock, read_study
from worker.pixels.limits import PixelLimits

MODEL = "lung-pneumonia-paediatric"
# In logits: 0.01 where the probability is one half, and less everywhere else. Held on
# the probability itself the tests would say nothing of an image that the model is sure
# of.
TOLERANCE = 0.04
SYNTAXES = {
    "native": uid.ExplicitVRLittleEndian,
    "RLE": uid.RLELossless,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG 2000": uid.JPEG2000Lossless,
}
POLARITIES = ("MONOCHROME1", "MONOCHROME2")
BITS = (8, 10, 12, 16)
# Each value of each property at least once with a picture of full size.
FULL_SIZE = list(zip(POLARITIES * 2, BITS, SYNTAXES, strict=True)) + list(
    zip(POLARITIES * 2, BITS[::-1], list(SYNTAXES)[1:] + ["native"], strict=True)
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        not (SHIPPED_BUNDLES / MODEL).is_dir(), reason=f"{MODEL} is not there"
    ),
]


@dataclass
class Reader:
    """The shipped model, loaded once."""

    bundle: Bundle
    models: ResidentModels
    folder: Path

    def logit(self, image: npt.NDArray[np.float32], **options: Any) -> float:
        """Write a display image as an object, read it as the worker does."""
        instance = instance_of(to_dicom(image, **options), self.folder)
        source = SourceInstance(
            path=str(self.folder / f"{instance.sop_instance_uid}.dcm"),
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            series_instance_uid="2.25.1",
        )
        reading = read_study(
            (source,), self.bundle, self.models, PixelLimits(), StageClock()
        )
        assert isinstance(reading, Analysed), reading
        probability = reading.findings[0].probability
        return math.log(probability / (1 - probability))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    bundle = find_bundles(SHIPPED_BUNDLES).find(MODEL)
    return Reader(bundle, ResidentModels(), tmp_path_factory.mktemp("encodings"))


@pytest.fixture(scope="module")
def phantom() -> npt.NDArray[np.float32]:
    return chest_radiograph(rows=400, columns=360, opacity=True)


@pytest.fixture(scope="module")
def of_the_phantom(reader: Reader, phantom: npt.NDArray[np.float32]) -> float:
    return reader.logit(phantom, bits_stored=16)


@pytest.fixture(scope="module")
def film() -> npt.NDArray[np.float32]:
    return read_picture(picture_paths("NORMAL")[0])


@pytest.fixture(scope="module")
def of_the_film(reader: Reader, film: npt.NDArray[np.float32]) -> float:
    return reader.logit(film, bits_stored=16)


@pytest.mark.parametrize(
    ("polarity", "bits", "syntax"), list(product(POLARITIES, BITS, SYNTAXES))
)
def test_a_phantom_gets_the_same_probability_in_every_encoding(
    reader, phantom, of_the_phantom, polarity, bits, syntax
):
    logit = reader.logit(
        phantom,
        bits_stored=bits,
        photometric_interpretation=polarity,
        transfer_syntax_uid=SYNTAXES[syntax],
    )

    assert logit == pytest.approx(of_the_phantom, abs=TOLERANCE)


@needs_pictures
@pytest.mark.parametrize(("polarity", "bits", "syntax"), FULL_SIZE)
def test_a_film_of_full_size_gets_the_same_probability_in_every_encoding(
    reader, film, of_the_film, polarity, bits, syntax
):
    logit = reader.logit(
        film,
        bits_stored=bits,
        photometric_interpretation=polarity,
        transfer_syntax_uid=SYNTAXES[syntax],
    )

    assert logit == pytest.approx(of_the_film, abs=TOLERANCE)


def test_the_probability_is_not_the_same_for_another_image(reader, of_the_phantom):
    # Or the tests above would say nothing.
    other = chest_radiograph(rows=400, columns=360, opacity=False, seed=5)

    assert abs(reader.logit(other) - of_the_phantom) > TOLERANCE
