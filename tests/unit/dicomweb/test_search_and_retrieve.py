"""QIDO-RS and WADO-RS: the requests a viewer makes, and what others expect."""

import email
import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from starlette.testclient import TestClient

from core.database.access_tokens import Scope, create_token
from dicom_node.dicomweb.server import node_app
from tests.stored_studies import (
    Stored,
    encoded,
    make_instance,
    stored_studies,
    uid,
)

IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
OHIF_FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"


@contextmanager
def served(
    data_dir: Path, *datasets: Dataset, host: str = "127.0.0.1", **dicomweb: Any
) -> Iterator[tuple[TestClient, Stored]]:
    with stored_studies(data_dir, *datasets, **dicomweb) as stored:
        parts = stored.parts
        app = node_app(parts.settings, parts.database, parts.store, parts.receiver)
        with TestClient(
            app,
            base_url=f"http://{host}:8080/dicom-web/",
            raise_server_exceptions=False,
        ) as client:
            yield client, stored


def parts_of(response: Any) -> list[tuple[str, bytes]]:
    """Content type and content of each part."""
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content)
    assert message.is_multipart()
    return [
        (part["Content-Type"], part.get_payload(decode=True))  # type: ignore[misc]
        for part in message.get_payload()  # type: ignore[union-attr]
    ]


def instance_path(study: int = 1, series: int = 1, number: int = 1) -> str:
    return (
        f"studies/{uid(study)}/series/{uid(study, series)}"
        f"/instances/{uid(study, series, number)}"
    )


# -- search ----------------------------------------------------------------------------


def test_the_study_list_of_ohif_has_what_it_shows(tmp_path: Path) -> None:
    with served(tmp_path, make_instance(1), make_instance(1, 2)) as (client, _):
        response = client.get(
            "studies?limit=101&offset=0&fuzzymatching=false"
            "&includefield=00081030%2C00080060"
        )

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    (study,) = response.json()
    assert study["00100010"]["Value"] == [{"Alphabetic": "Test^Patient1"}]
    assert study["00081030"]["Value"] == ["Chest"]
    assert study["00080061"]["Value"] == ["CT"]
    assert study["00201206"]["Value"] == [2]
    assert study["00201208"]["Value"] == [2]
    assert study["00081190"]["Value"] == [
        f"http://127.0.0.1:8080/dicom-web/studies/{uid(1)}"
    ]
    assert "00104000" not in study


def test_priors_are_found_by_patient_id(tmp_path: Path) -> None:
    with served(
        tmp_path, make_instance(1), make_instance(2), make_instance(3, PatientID="ID1")
    ) as (client, _):
        found = client.get("studies?00100020=ID1&limit=101").json()

    assert {one["0020000D"]["Value"][0] for one in found} == {uid(1), uid(3)}


def test_series_of_a_study_have_what_ohif_asks_for(tmp_path: Path) -> None:
    with served(tmp_path, make_instance(1), make_instance(1, 2)) as (client, _):
        found = client.get(
            f"studies/{uid(1)}/series?includefield=00080021,00080031,0008103E,00200011"
        ).json()

    assert [one["0008103E"]["Value"] for one in found] == [["axial 1"], ["axial 2"]]
    assert [one["00201209"]["Value"] for one in found] == [[1], [1]]


@pytest.mark.parametrize("key", ["", "&StudyDescription=Ch*", "&StudyID="])
def test_limit_and_offset_page_through_everything(tmp_path: Path, key: str) -> None:
    with served(tmp_path, *(make_instance(n) for n in range(1, 6))) as (client, _):
        pages = [
            client.get(f"studies?limit=2&offset={offset}{key}").json()
            for offset in (0, 2, 4, 6)
        ]

    found = [one["0020000D"]["Value"][0] for page in pages for one in page]
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    assert sorted(found) == sorted(uid(n) for n in range(1, 6))


def test_more_results_than_are_sent_at_once_are_announced(tmp_path: Path) -> None:
    with served(
        tmp_path, *(make_instance(n) for n in range(1, 4)), maximum_results=2
    ) as (client, _):
        response = client.get("studies?limit=5000")

    assert len(response.json()) == 2
    assert response.headers["warning"].startswith("299 ")


def test_everything_is_included_when_all_is_asked_for(tmp_path: Path) -> None:
    with served(tmp_path, make_instance(1, PatientComments="tall")) as (client, _):
        (study,) = client.get("studies?includefield=all").json()
        (instance,) = client.get(f"studies/{uid(1)}/instances?includefield=all").json()

    assert study["00104000"]["Value"] == ["tall"]
    assert instance["00280011"]["Value"] == [6]
    assert "7FE00010" not in instance


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("offset=1e3", "offset"),
        ("fuzzymatching=maybe", "fuzzymatching"),
        ("Nonsense=SECRET", "neither"),
        ("StudyDate=SECRET", "00080020"),
        ("includefield=SECRET", "neither"),
        ("&".join(f"PatientID=SECRET{n}" for n in range(300)), "200"),
    ],
)
def test_a_query_that_cannot_be_read_is_refused_in_words(
    tmp_path: Path, query: str, word: str
) -> None:
    with served(tmp_path) as (client, _):
        response = client.get(f"studies?{query}")

    assert response.status_code == 400
    assert word in response.json()["error"]
    assert "SECRET" not in response.text


def test_xml_is_not_offered(tmp_path: Path) -> None:
    with served(tmp_path, make_instance()) as (client, _):
        response = client.get(
            "studies",
            headers={"Accept": 'multipart/related; type="application/dicom+xml"'},
        )

    assert response.status_code == 406


# -- whole instances -------------------------------------------------------------------


def test_a_study_comes_back_byte_for_byte(tmp_path: Path) -> None:
    sent = [make_instance(1, series, number) for series in (1, 2) for number in (1, 2)]
    with served(tmp_path, *sent) as (client, _):
        response = client.get(f"studies/{uid(1)}")

    received = parts_of(response)
    assert {kind for kind, _ in received} == {
        "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    }
    assert sorted(_data_set(content) for _, content in received) == sorted(
        encoded(dataset) for dataset in sent
    )


def _data_set(part10: bytes) -> bytes:
    length = int.from_bytes(part10[140:144], "little")
    return part10[144 + length :]


def test_one_instance_may_come_without_multipart(tmp_path: Path) -> None:
    with served(tmp_path, make_instance()) as (client, _):
        response = client.get(instance_path(), headers={"Accept": "application/dicom"})

    assert response.headers["content-type"] == "application/dicom"
    assert dcmread(BytesIO(response.content)).SOPInstanceUID == uid(1, 1, 1)


@pytest.mark.parametrize("suffix", ["", "/metadata"])
def test_what_is_not_here_is_not_found(tmp_path: Path, suffix: str) -> None:
    with served(tmp_path, make_instance()) as (client, _):
        for place in (f"studies/{uid(9)}", instance_path(1, 1, 9), instance_path(1, 9)):
            assert client.get(place + suffix).status_code == 404


@pytest.mark.parametrize(
    "path", ["..", "..%2F..%2Fetc", "1.02", "%00", "a" * 70, "1%0a"]
)
def test_what_is_no_uid_is_refused(tmp_path: Path, path: str) -> None:
    with served(tmp_path) as (client, _):
        response = client.get(f"/dicom-web/studies/{path}/metadata")

    assert response.status_code in (400, 404)


# -- metadata --------------------------------------------------------------------------


def test_metadata_have_everything_but_pixels_and_name_their_place(
    tmp_path: Path,
) -> None:
    with served(tmp_path, make_instance(), make_instance(1, 1, 2)) as (client, _):
        models = client.get(f"studies/{uid(1)}/metadata").json()
        value = client.get(models[0]["7FE00010"]["BulkDataURI"])

    assert len(models) == 2
    assert models[0]["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]
    assert models[0]["00080005"]["Value"] == ["ISO_IR 192"]
    assert value.content == make_instance().PixelData


def test_long_binary_values_are_named_also_within_sequences(tmp_path: Path) -> None:
    item = Dataset()
    item.add_new(0x00091001, "OB", bytes(range(256)) * 8)
    dataset = make_instance()
    dataset.add_new(0x00081140, "SQ", [Dataset(), item])
    dataset.add_new(0x60003000, "OW", b"\x01\x02" * 2000)
    dataset.add_new(0x00091002, "OB", b"\x01\x02")
    with served(tmp_path, dataset) as (client, _):
        (model,) = client.get(f"{instance_path()}/metadata").json()
        inner = client.get(
            model["00081140"]["Value"][1]["00091001"]["BulkDataURI"],
            headers={"Accept": "*/*"},
        )
        overlay = client.get(model["60003000"]["BulkDataURI"])
        missing = client.get(f"{instance_path()}/bulk/00081140/7/00091001")

    assert inner.content == bytes(range(256)) * 8
    assert overlay.content == b"\x01\x02" * 2000
    assert model["00091002"]["InlineBinary"] == "AQI="
    assert missing.status_code == 404


def test_a_broken_value_does_not_hide_the_others(tmp_path: Path) -> None:
    dataset = make_instance()
    data = encoded(dataset).replace(b"IS\x02\x001 ", b"IS\x02\x00x!")
    with served(tmp_path) as (client, stored):
        stored.add_bytes(data, dataset)
        stored.catch_up()

        (model,) = client.get(f"{instance_path()}/metadata").json()

    assert model["00100020"]["Value"] == ["ID1"]
    assert "00200013" not in model


def test_numbers_that_json_cannot_say_are_null(tmp_path: Path) -> None:
    dataset = make_instance()
    dataset.add_new(0x00189089, "FD", [1.5, float("nan"), float("inf")])
    with served(tmp_path, dataset) as (client, _):
        text = client.get(f"{instance_path()}/metadata").text

    (model,) = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert model["00189089"]["Value"] == [1.5, None, None]


# -- frames ----------------------------------------------------------------------------


def test_frames_of_native_pixel_data_are_little_endian(tmp_path: Path) -> None:
    pixels = np.arange(2 * 24, dtype="<u2")
    dataset = make_instance(NumberOfFrames=2, PixelData=pixels.tobytes())
    big = make_instance(2, NumberOfFrames=2, PixelData=pixels.astype(">u2").tobytes())
    with served(tmp_path) as (client, stored):
        stored.add(dataset, syntax=IMPLICIT)
        stored.add_bytes(encoded(big, BIG_ENDIAN), big, BIG_ENDIAN)
        stored.catch_up()
        for study in (1, 2):
            response = client.get(
                f"{instance_path(study)}/frames/2,1", headers={"Accept": OHIF_FRAMES}
            )

            assert parts_of(response) == [
                (
                    "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1",
                    frame.tobytes(),
                )
                for frame in (pixels[24:], pixels[:24])
            ]


def test_frames_of_one_bit_a_pixel_begin_where_they_begin(tmp_path: Path) -> None:
    # Three frames of 3 x 3 pixels: 27 bits in 4 bytes.
    bits = np.array([1, 0, 0, 0, 0, 0, 0, 0, 1] + [0, 1] * 4 + [1] + [1] * 9)
    packed = np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()
    dataset = make_instance(
        Rows=3, Columns=3, BitsAllocated=1, BitsStored=1, HighBit=0,
        NumberOfFrames=3, PixelData=packed,
    )  # fmt: skip
    with served(tmp_path, dataset) as (client, _):
        ((_, frame),) = parts_of(client.get(f"{instance_path()}/frames/2"))

    assert np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")[
        :9
    ].tolist() == [0, 1] * 4 + [1]


def compressed(*frames: bytes) -> Dataset:
    return make_instance(
        NumberOfFrames=len(frames), PixelData=encapsulate(list(frames))
    )


def test_frames_that_are_stored_compressed_are_sent_as_they_are(tmp_path: Path) -> None:
    dataset = compressed(b"first!", b"second")
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    with served(tmp_path) as (client, stored):
        stored.add(dataset, syntax=JPEG_2000)

        response = client.get(
            f"{instance_path()}/frames/2", headers={"Accept": OHIF_FRAMES}
        )
        wanted = client.get(
            f"{instance_path()}/frames/1",
            headers={"Accept": "multipart/related; type=image/jp2"},
        )
        other = client.get(
            f"{instance_path()}/frames/1",
            headers={"Accept": "multipart/related; type=image/jls"},
        )

    assert parts_of(response) == [
        ("image/jp2; transfer-syntax=1.2.840.10008.1.2.4.90", b"second")
    ]
    assert parts_of(wanted)[0][1] == b"first!"
    assert other.status_code == 406


@pytest.mark.parametrize(
    ("frames", "status"),
    [("2", 404), ("0", 404), ("1,x", 400), ("-1", 400), ("1,", 400)],
)
def test_frames_that_are_not_there_are_refused(
    tmp_path: Path, frames: str, status: int
) -> None:
    with served(tmp_path, make_instance()) as (client, _):
        assert client.get(f"{instance_path()}/frames/{frames}").status_code == status


def test_pixel_data_shorter_than_the_header_says_are_no_frame(tmp_path: Path) -> None:
    with served(tmp_path, make_instance(Rows=4000)) as (client, _):
        response = client.get(f"{instance_path()}/frames/1")

    assert response.status_code == 406
    assert "beyond the end" in response.json()["error"]


# -- access ----------------------------------------------------------------------------


def test_beyond_this_machine_every_request_needs_a_token(tmp_path: Path) -> None:
    with served(tmp_path, make_instance(), bind_address="0.0.0.0") as (client, stored):
        with stored.parts.database.write() as connection:
            reader = create_token(connection, "viewer", [Scope.READ])
            writer = create_token(connection, "scanner", [Scope.STORE])

        def status(secret: str | None) -> int:
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            return client.get("studies", headers=headers).status_code

        assert status(None) == 401
        assert status("secondread_guess") == 401
        assert status(writer) == 403
        assert status(reader) == 200


def test_a_token_is_kept_as_a_hash_only(tmp_path: Path) -> None:
    with (
        stored_studies(tmp_path) as stored,
        stored.parts.database.write() as connection,
    ):
        secret = create_token(connection, "viewer", [Scope.READ])

    assert secret.encode() not in (tmp_path / "index.sqlite").read_bytes()


def test_on_this_machine_a_page_of_another_name_reads_nothing(tmp_path: Path) -> None:
    with served(tmp_path, make_instance(), host="attacker.example") as (client, _):
        assert client.get("studies").status_code == 403


def test_a_public_address_stands_in_every_link(tmp_path: Path) -> None:
    with served(
        tmp_path, make_instance(), public_url="https://pacs.example/dicom-web/"
    ) as (client, _):
        (study,) = client.get("studies").json()
        (model,) = client.get(f"studies/{uid(1)}/metadata").json()

    root = "https://pacs.example/dicom-web/studies/"
    assert study["00081190"]["Value"][0].startswith(root)
    assert model["7FE00010"]["BulkDataURI"].startswith(root)


def test_no_value_of_a_query_reaches_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path, make_instance(PatientName="PLANTED^NAME")) as (client, _):
        client.get("studies?PatientName=PLANTED*&StudyDate=PLANTED")
        client.get("studies?PLANTED=1")
        client.get("studies/PLANTED/metadata")
        client.get(f"studies/{uid(1)}/metadata")

    output = capsys.readouterr()
    assert "web_request" in output.out + output.err
    assert "PLANTED" not in output.out + output.err
