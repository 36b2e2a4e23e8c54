"""Pictures with VOI, thumbnails, decoded frames: from a process that may die."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian
from starlette.testclient import TestClient

from core.errors import UnsupportedImage
from dicom_node.dicomweb.renderer import Renderer
from dicom_node.dicomweb.server import node_app
from tests.stored_studies import Stored, make_instance, stored_studies, uid

JPEG_LS = "1.2.840.10008.1.2.4.80"
COMMAND = (sys.executable, "-m", "worker.rendering_main")
PLACE = f"studies/{uid(1)}/series/{uid(1, 1)}/instances/{uid(1, 1, 1)}"
RAMP = np.arange(24, dtype="<u2").reshape(4, 6) * 10


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    """One process for all tests of this module: its imports take a second."""
    made = Renderer(COMMAND)
    yield made
    made.close()


@contextmanager
def served(
    data_dir: Path, renderer: Renderer | None, *datasets: Dataset
) -> Iterator[tuple[TestClient, Stored]]:
    with stored_studies(data_dir, *datasets) as stored:
        parts = stored.parts
        app = node_app(parts.settings, parts.database, parts.store, None, renderer)
        with TestClient(
            app, base_url="http://127.0.0.1/dicom-web/", raise_server_exceptions=False
        ) as client:
            yield client, stored


def shown(response: Any) -> np.ndarray[Any, Any]:
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(BytesIO(response.content)))


def png(client: TestClient, path: str) -> np.ndarray[Any, Any]:
    return shown(client.get(path, headers={"Accept": "image/png"}))


def test_the_images_own_window_is_applied(tmp_path: Path, renderer: Renderer) -> None:
    # LINEAR, PS3.3 C.11.2.1.2.1: 100 is the middle of 0 to 200.
    dataset = make_instance(
        PixelData=RAMP.tobytes(), WindowCenter="100.5", WindowWidth="201"
    )
    with served(tmp_path, renderer, dataset) as (client, _):
        pixels = png(client, f"{PLACE}/rendered")

    assert pixels.shape == (4, 6)
    assert pixels[0, 0] == 0
    assert pixels[-1, -1] == 255
    assert abs(int(pixels[1, 4]) - 128) <= 1


def test_a_window_of_the_client_comes_first(tmp_path: Path, renderer: Renderer) -> None:
    dataset = make_instance(PixelData=RAMP.tobytes(), WindowCenter=100, WindowWidth=200)
    with served(tmp_path, renderer, dataset) as (client, _):
        pixels = png(client, f"{PLACE}/rendered?window=15,1,linear-exact")

    assert set(np.unique(pixels)) == {0, 255}
    assert (pixels == 255).sum() == 22


def test_low_values_of_monochrome1_are_white(
    tmp_path: Path, renderer: Renderer
) -> None:
    dataset = make_instance(
        PixelData=RAMP.tobytes(), PhotometricInterpretation="MONOCHROME1"
    )
    with served(tmp_path, renderer, dataset) as (client, _):
        pixels = png(client, f"{PLACE}/rendered")

    assert (pixels[0, 0], pixels[-1, -1]) == (255, 0)


def test_colour_stays_colour(tmp_path: Path, renderer: Renderer) -> None:
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[..., 0] = 200
    dataset = make_instance(
        SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
        BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=colours.tobytes(),
    )  # fmt: skip
    with served(tmp_path, renderer, dataset) as (client, _):
        pixels = png(client, f"{PLACE}/rendered")

    assert pixels[0, 0].tolist() == [200, 0, 0]


def multi_frame() -> Dataset:
    frames = np.stack([RAMP, RAMP + 1000, RAMP + 2000]).astype("<u2")
    return make_instance(NumberOfFrames=3, PixelData=frames.tobytes())


def test_each_frame_has_its_picture_and_the_middle_one_stands_for_all(
    tmp_path: Path, renderer: Renderer
) -> None:
    with served(tmp_path, renderer, multi_frame()) as (client, _):
        window = "?window=1100,100,linear-exact"
        levels = [
            png(client, f"{PLACE}/frames/{number}/rendered{window}").mean()
            for number in (1, 2, 3)
        ]
        middle = png(client, f"{PLACE}/rendered{window}").mean()
        missing = client.get(f"{PLACE}/frames/4/rendered")

    assert levels[0] == 0
    assert 100 < levels[1] < 255
    assert levels[2] == 255
    assert middle == levels[1]
    assert missing.status_code == 404


@pytest.mark.parametrize(
    "place", [f"studies/{uid(1)}", f"studies/{uid(1)}/series/{uid(1, 1)}", PLACE]
)
def test_everything_has_a_thumbnail_of_its_own_shape(
    tmp_path: Path, renderer: Renderer, place: str
) -> None:
    with served(tmp_path, renderer, make_instance()) as (client, _):
        response = client.get(f"{place}/thumbnail")

    assert response.headers["content-type"] == "image/jpeg"
    assert shown(response).shape == (133, 200)


def test_a_picture_fits_into_the_viewport(tmp_path: Path, renderer: Renderer) -> None:
    with served(tmp_path, renderer, make_instance()) as (client, _):
        assert png(client, f"{PLACE}/rendered?viewport=60,60").shape == (40, 60)


@pytest.mark.parametrize(
    "query",
    [
        "window=1", "window=a,b", "window=1,0", "window=nan,5", "window=1,5,cubic",
        "viewport=0,10", "viewport=99999,1", "viewport=1", "quality=0", "quality=x",
    ],
)  # fmt: skip
def test_a_look_that_cannot_be_had_is_refused(
    tmp_path: Path, renderer: Renderer, query: str
) -> None:
    with served(tmp_path, renderer, make_instance()) as (client, _):
        assert client.get(f"{PLACE}/rendered?{query}").status_code == 400


def test_what_has_no_pixels_has_no_picture(tmp_path: Path, renderer: Renderer) -> None:
    document = make_instance(PixelData=None, Rows=None, Columns=None, Modality="SR")
    with served(tmp_path, renderer, document) as (client, _):
        assert client.get(f"{PLACE}/rendered").status_code == 406
        assert client.get(f"studies/{uid(1)}/thumbnail").status_code == 404


def compressed() -> Dataset:
    frames = np.stack([RAMP, RAMP + 5]).astype("<u2")
    dataset = make_instance(NumberOfFrames=2, PixelData=frames.tobytes())
    dataset["PixelData"].VR = "OW"
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.compress(JPEG_LS, generate_instance_uid=False)
    del dataset.file_meta
    return dataset


def test_compressed_frames_are_decoded_when_asked(
    tmp_path: Path, renderer: Renderer
) -> None:
    with served(tmp_path, renderer) as (client, stored):
        stored.add(compressed(), syntax=JPEG_LS)
        response = client.get(
            f"{PLACE}/frames/2", headers={"Accept": "application/octet-stream"}
        )

    assert response.content == (RAMP + 5).astype("<u2").tobytes()


def test_a_whole_instance_is_decoded_when_asked(
    tmp_path: Path, renderer: Renderer
) -> None:
    accept = "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    with served(tmp_path, renderer) as (client, stored):
        stored.add(compressed(), syntax=JPEG_LS)
        response = client.get(PLACE, headers={"Accept": accept})
        other = client.get(
            PLACE,
            headers={
                "Accept": "application/dicom; transfer-syntax=1.2.840.10008.1.2.5"
            },
        )

    dataset = dcmread(BytesIO(response.content))
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert np.array_equal(dataset.pixel_array, np.stack([RAMP, RAMP + 5]))
    assert other.status_code == 406


def test_an_implicit_instance_is_written_explicitly_when_asked(
    tmp_path: Path, renderer: Renderer
) -> None:
    accept = "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    with served(tmp_path, renderer) as (client, stored):
        stored.add(multi_frame(), syntax="1.2.840.10008.1.2")
        response = client.get(PLACE, headers={"Accept": accept})

    dataset = dcmread(BytesIO(response.content))
    assert dataset.PixelData == multi_frame().PixelData
    assert dataset.PatientName == "Test^Patient1"


def test_pixels_that_cannot_be_decoded_are_refused_and_the_next_are_not(
    tmp_path: Path, renderer: Renderer
) -> None:
    broken = make_instance(2, PixelData=encapsulate([b"no JPEG-LS at all"]))
    broken["PixelData"].VR = "OB"
    broken["PixelData"].is_undefined_length = True
    with served(tmp_path, renderer, make_instance()) as (client, stored):
        stored.add(broken, syntax=JPEG_LS)
        place = PLACE.replace(uid(1), uid(2))
        refused = client.get(f"{place}/rendered")
        after = client.get(f"{PLACE}/rendered")

    assert refused.status_code == 406
    assert after.status_code == 200


@pytest.mark.parametrize(
    "script", ["import os; os._exit(1)", "import time; time.sleep(60)", "print('x')"]
)
def test_a_process_that_dies_or_hangs_costs_its_own_picture_only(
    tmp_path: Path, script: str
) -> None:
    made = Renderer((sys.executable, "-c", script), time_limit_s=1)
    try:
        for _ in (1, 2):
            with pytest.raises(UnsupportedImage, match="ended"):
                made.picture(
                    tmp_path, 1, media_type="image/png", window=None, size=None,
                    quality=90,
                )  # fmt: skip
    finally:
        made.close()


def test_without_a_renderer_pictures_are_not_offered(tmp_path: Path) -> None:
    with served(tmp_path, None, make_instance()) as (client, _):
        assert client.get(f"{PLACE}/rendered").status_code == 501
