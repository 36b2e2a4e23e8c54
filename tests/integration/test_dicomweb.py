"""DICOMweb over a socket: memory that does not grow, clients that do not move."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from tests.integration.dicomweb_node import DicomwebProcess
from tests.receiving import eventually
from tests.stored_studies import make_instance, part10, uid

pytestmark = pytest.mark.integration

BOUNDARY = "a-boundary"
HEADERS = {
    "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
}
MIB = 2**20


def multipart(files: Iterator[bytes]) -> Iterator[bytes]:
    for file in files:
        yield f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        yield file
        yield b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()


def large_instance(size: int) -> Iterator[bytes]:
    """One Part 10 file of about this size, in pieces."""
    rows = 4096
    frame = rows * rows * 2
    frames = size // frame
    file = part10(
        make_instance(Rows=rows, Columns=rows, NumberOfFrames=frames, PixelData=b"\0\0")
    )
    head, tail = file[:-6], b""
    yield f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    yield head + (frames * frame).to_bytes(4, "little")
    for number in range(frames):
        yield bytes([number % 256]) * frame
    yield tail + f"\r\n--{BOUNDARY}--\r\n".encode()


def wait_for_study(url: str, study: str, instances: int) -> None:
    def there() -> bool:
        found = httpx.get(f"{url}/studies?StudyInstanceUID={study}").json()
        return bool(found) and found[0]["00201208"]["Value"] == [instances]

    assert eventually(there, 30)


def test_storing_and_retrieving_300_mib_needs_no_memory(tmp_path: Path) -> None:
    with DicomwebProcess(tmp_path) as node:
        httpx.get(f"{node.url}/studies")
        before = node.peak_bytes

        response = httpx.post(
            f"{node.url}/studies",
            content=large_instance(300 * MIB),
            headers=HEADERS,
            timeout=60,
        )
        assert response.status_code == 200
        wait_for_study(node.url, uid(1), 1)
        stored = node.peak_bytes - before
        place = f"studies/{uid(1)}/series/{uid(1, 1)}/instances/{uid(1, 1, 1)}"
        size = 0
        with httpx.stream("GET", f"{node.url}/{place}", timeout=60) as stream:
            for piece in stream.iter_bytes():
                size += len(piece)
        frame = httpx.get(f"{node.url}/{place}/frames/9", timeout=60)
        retrieved = node.peak_bytes - before

    assert size > 280 * MIB
    assert frame.content.count(b"\x08") > 32 * MIB - 1024
    assert stored < 24 * MIB
    assert retrieved < 64 * MIB


def test_retrieving_2000_instances_needs_no_memory(tmp_path: Path) -> None:
    def files() -> Iterator[bytes]:
        for number in range(2000):
            yield part10(make_instance(1, 1, number + 1, PixelData=bytes(40_000)))

    with DicomwebProcess(tmp_path) as node:
        response = httpx.post(
            f"{node.url}/studies", content=multipart(files()), headers=HEADERS,
            timeout=90,
        )  # fmt: skip
        assert response.status_code == 200
        wait_for_study(node.url, uid(1), 2000)
        httpx.get(f"{node.url}/studies/{uid(1)}/instances?limit=1")
        before = node.peak_bytes
        size = 0
        for suffix in ("", "/metadata"):
            url = f"{node.url}/studies/{uid(1)}{suffix}"
            with httpx.stream("GET", url, timeout=60) as stream:
                for piece in stream.iter_bytes():
                    size += len(piece)
        grown = node.peak_bytes - before

    assert size > 2000 * 40_000
    assert grown < 24 * MIB


def test_an_independent_client_searches_retrieves_and_stores(tmp_path: Path) -> None:
    sent = [make_instance(1, 1, 1), make_instance(1, 1, 2), make_instance(1, 2, 1)]
    for dataset in sent:
        file = part10(dataset)
        (tmp_path / f"{dataset.SOPInstanceUID}.dcm").write_bytes(file)
    with DicomwebProcess(tmp_path / "data") as node:
        client = DICOMwebClient(node.url)
        client.store_instances(datasets=[_file(tmp_path, one) for one in sent])
        wait_for_study(node.url, uid(1), 3)

        studies = client.search_for_studies(search_filters={"PatientName": "test*"})
        series = client.search_for_series(uid(1), fields=["SeriesDescription"])
        instances = client.search_for_instances(uid(1), uid(1, 1), limit=1, offset=1)
        study = client.retrieve_study(uid(1))
        one = client.retrieve_instance(uid(1), uid(1, 1), uid(1, 1, 2))
        metadata = client.retrieve_series_metadata(uid(1), uid(1, 1))
        frames = client.retrieve_instance_frames(
            uid(1), uid(1, 1), uid(1, 1, 1), frame_numbers=[1]
        )
        bulk = client.retrieve_bulkdata(metadata[0]["7FE00010"]["BulkDataURI"])

    assert [one["0020000D"]["Value"] for one in studies] == [[uid(1)]]
    assert {one["0008103E"]["Value"][0] for one in series} == {"axial 1", "axial 2"}
    assert [one["00080018"]["Value"] for one in instances] == [[uid(1, 1, 2)]]
    assert {one.SOPInstanceUID for one in study} == {one.SOPInstanceUID for one in sent}
    assert one.PixelData == sent[1].PixelData
    assert [len(metadata), metadata[0]["00100010"]["Value"]] == [
        2,
        [{"Alphabetic": "Test^Patient1"}],
    ]
    assert frames == [sent[0].PixelData]
    assert bulk == [sent[0].PixelData]


def _file(folder: Path, dataset: Dataset) -> Dataset:
    from pydicom import dcmread

    return dcmread(folder / f"{dataset.SOPInstanceUID}.dcm")


def connected(node: DicomwebProcess) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", node.port), timeout=10)
    peer.settimeout(10)
    return peer


def closed_after(peer: socket.socket) -> float:
    began = time.monotonic()
    try:
        while peer.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Length: 999\r\nContent-Type: application/dicom\r\n\r\nhalf",
    ],
)
def test_a_client_that_stops_in_the_middle_is_closed(
    tmp_path: Path, said: bytes
) -> None:
    with DicomwebProcess(tmp_path, timeout_s=1) as node, connected(node) as peer:
        peer.sendall(said)

        assert closed_after(peer) < 5
        assert not list((tmp_path / "inbox").glob("*.part"))


def test_a_client_that_does_not_take_its_answer_is_closed(tmp_path: Path) -> None:
    with DicomwebProcess(tmp_path, timeout_s=1) as node:
        httpx.post(
            f"{node.url}/studies", content=large_instance(64 * MIB), headers=HEADERS,
            timeout=60,
        )  # fmt: skip
        wait_for_study(node.url, uid(1), 1)
        with connected(node) as peer:
            request = (
                f"GET /dicom-web/studies/{uid(1)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            )
            peer.sendall(request.encode())
            time.sleep(3)
            taken = 0
            try:
                while piece := peer.recv(65536):
                    taken += len(piece)
            except ConnectionResetError:
                pass

        assert taken < 60 * MIB
        assert httpx.get(f"{node.url}/studies").status_code == 200


def test_silent_clients_do_not_take_the_place_of_others_for_long(
    tmp_path: Path,
) -> None:
    with DicomwebProcess(tmp_path, timeout_s=1, maximum_requests=4) as node:
        peers = [connected(node) for _ in range(12)]
        try:
            time.sleep(2.5)

            assert httpx.get(f"{node.url}/studies").status_code == 200
        finally:
            for peer in peers:
                peer.close()
