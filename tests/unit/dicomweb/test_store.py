"""STOW-RS: the same checks, durability and statuses as C-STORE."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from core.database.access_tokens import Scope, create_token
from dicom_node.dicomweb.answers import Refused
from dicom_node.dicomweb.intake import Limits, MultipartIntake
from dicom_node.dicomweb.server import node_app
from dicom_node.file_meta import FileMeta
from dicom_node.statuses import SUCCESS, StorageAnswer, StorageOutcome
from tests.stored_studies import (
    Stored,
    encoded,
    make_instance,
    part10,
    stored_studies,
    uid,
)

BOUNDARY = "a-boundary"
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@contextmanager
def served(data_dir: Path, **dicomweb: Any) -> Iterator[tuple[TestClient, Stored]]:
    with stored_studies(data_dir, **dicomweb) as stored:
        parts = stored.parts
        app = node_app(parts.settings, parts.database, parts.store, parts.receiver)
        with TestClient(
            app, base_url="http://127.0.0.1/dicom-web/", raise_server_exceptions=False
        ) as client:
            yield client, stored


def body_of(*files: bytes, media_type: str = "application/dicom") -> bytes:
    parts = b"".join(
        f"--{BOUNDARY}\r\nContent-Type: {media_type}\r\n\r\n".encode() + file + b"\r\n"
        for file in files
    )
    return parts + f"--{BOUNDARY}--\r\n".encode()


def store(
    client: TestClient, body: bytes, path: str = "studies", **headers: str
) -> Any:
    return client.post(
        path, content=body, headers={"Content-Type": MULTIPART, **headers}
    )


def reasons(response: Any, sequence: str = "00081198") -> list[int]:
    items = response.json().get(sequence, {}).get("Value", [])
    return [item["00081197"]["Value"][0] for item in items]


def test_what_is_stored_is_kept_byte_for_byte_and_can_be_found(tmp_path: Path) -> None:
    datasets = [make_instance(1, 1, number) for number in (1, 2)]
    with served(tmp_path) as (client, stored):
        response = store(client, body_of(*map(part10, datasets)))
        stored.catch_up()
        found = client.get("studies?PatientID=ID1").json()
        kept = stored.parts.store
        contents = [
            kept.path_of(sha256).read_bytes() for sha256 in stored.parts.rows().values()
        ]

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    references = response.json()["00081199"]["Value"]
    assert [one["00081155"]["Value"] for one in references] == [
        [uid(1, 1, 1)],
        [uid(1, 1, 2)],
    ]
    assert found[0]["00201208"]["Value"] == [2]
    assert all(
        any(content.endswith(encoded(dataset)) for content in contents)
        for dataset in datasets
    )


def test_one_instance_may_be_the_whole_body(tmp_path: Path) -> None:
    with served(tmp_path) as (client, stored):
        response = client.post(
            "studies",
            content=part10(make_instance()),
            headers={"Content-Type": "application/dicom"},
        )
        stored.catch_up_index()

        assert response.status_code == 200
        assert set(stored.parts.rows()) == {uid(1, 1, 1)}


def test_the_same_instance_again_is_no_failure_and_nothing_new(tmp_path: Path) -> None:
    with served(tmp_path) as (client, stored):
        statuses = [
            store(client, body_of(part10(make_instance()))).status_code for _ in (1, 2)
        ]
        stored.catch_up_index()

        assert statuses == [200, 200]
        assert len(stored.parts.rows()) == 1


def test_other_content_under_a_known_uid_is_a_conflict(tmp_path: Path) -> None:
    with served(tmp_path) as (client, _):
        store(client, body_of(part10(make_instance())))
        response = store(client, body_of(part10(make_instance(PatientID="OTHER"))))

    assert response.status_code == 409
    assert reasons(response) == [0xC111]


def test_some_failures_are_told_beside_what_was_stored(tmp_path: Path) -> None:
    broken = part10(make_instance(1, 1, 2))[:-3]
    with served(tmp_path) as (client, stored):
        response = store(client, body_of(part10(make_instance()), broken))
        stored.catch_up_index()

        assert response.status_code == 202
        assert reasons(response) == [0xC000]
        assert response.headers["warning"].startswith("299 secondread")
        assert set(stored.parts.rows()) == {uid(1, 1, 1)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"SOPClassUID": "1.2.840.10008.1.1"}, 0x0122),
        ({"StudyInstanceUID": None}, 0xC000),
    ],
)
def test_what_c_store_refuses_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: int
) -> None:
    with served(tmp_path) as (client, _):
        response = store(client, body_of(part10(make_instance(**change))))

    assert response.status_code == 409
    assert reasons(response) == [reason]


def test_a_deflated_instance_is_refused(tmp_path: Path) -> None:
    file = part10(make_instance(), "1.2.840.10008.1.2.1.99")
    with served(tmp_path) as (client, _):
        response = store(client, body_of(file))

    assert reasons(response) == [0xC122]


def test_an_instance_of_another_study_than_the_path_names_is_refused(
    tmp_path: Path,
) -> None:
    with served(tmp_path) as (client, _):
        body = body_of(part10(make_instance(1)))
        other = store(client, body, f"studies/{uid(2)}")
        same = store(client, body, f"studies/{uid(1)}")

    assert (other.status_code, reasons(other)) == (409, [0xA900])
    assert same.status_code == 200
    assert same.json()["00081190"]["Value"][0].endswith(f"/studies/{uid(1)}")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ('multipart/related; type="application/dicom"', 400),
        (f'multipart/related; type="application/dicom"; boundary={"x" * 400}', 400),
        (f'multipart/related; type="application/dicom+json"; boundary={BOUNDARY}', 415),
        ("application/json", 415),
        ("", 415),
    ],
)
def test_a_body_of_another_kind_is_refused(
    tmp_path: Path, content_type: str, status: int
) -> None:
    with served(tmp_path) as (client, _):
        response = client.post(
            "studies",
            content=body_of(part10(make_instance())),
            headers={"Content-Type": content_type},
        )

    assert response.status_code == status


def test_a_part_of_another_kind_is_refused(tmp_path: Path) -> None:
    with served(tmp_path) as (client, _):
        response = store(client, body_of(b"{}", media_type="application/dicom+json"))

    assert response.status_code == 415


def test_a_compressed_body_is_refused(tmp_path: Path) -> None:
    with served(tmp_path) as (client, _):
        response = store(client, b"x", **{"Content-Encoding": "gzip"})

    assert response.status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary at all",
        f"--{BOUNDARY}--\r\n".encode(),
        body_of(part10(make_instance()))[:-8],
        f"--{BOUNDARY}\r\nbad header\r\n\r\n".encode(),
        f"--{BOUNDARY}\r\nX: {'y' * 9000}\r\n\r\n".encode(),
        f"--{BOUNDARY}\r\n".encode() + b"A: b\r\n" * 100 + b"\r\n",
    ],
)
def test_a_body_that_breaks_its_own_rules_is_refused(
    tmp_path: Path, body: bytes
) -> None:
    with served(tmp_path) as (client, stored):
        response = store(client, body)

        assert response.status_code == 400
        assert not list(stored.parts.inbox.path.glob("*.part"))


@pytest.mark.parametrize("file", [b"", b"x" * 500, bytes(128) + b"DICM" + b"y" * 50])
def test_a_part_that_is_no_file_is_a_failure_without_a_name(
    tmp_path: Path, file: bytes
) -> None:
    with served(tmp_path) as (client, _):
        response = store(client, body_of(file))

    assert response.status_code == 409
    assert reasons(response, "0008119A") == [0xC000]


def test_an_instance_that_is_too_large_ends_the_request(tmp_path: Path) -> None:
    with served(tmp_path) as (client, stored):
        node = stored.parts.settings.node.model_copy(
            update={"maximum_instance_bytes": 2000}
        )
        settings = stored.parts.settings.model_copy(update={"node": node})
        app = node_app(
            settings, stored.parts.database, stored.parts.store, stored.parts.receiver
        )
        with TestClient(app, base_url="http://127.0.0.1/dicom-web/") as other:
            large = make_instance(1, 1, 2, PixelData=bytes(5000))
            response = store(other, body_of(part10(make_instance()), part10(large)))
        stored.catch_up_index()

        assert response.status_code == 413
        assert set(stored.parts.rows()) == {uid(1, 1, 1)}


def test_below_the_low_water_mark_nothing_is_taken(tmp_path: Path) -> None:
    with served(tmp_path) as (client, stored):
        stored.parts.receiver.free_space.enough = lambda: False  # type: ignore[method-assign]

        response = store(client, body_of(part10(make_instance())))

    assert response.status_code == 503
    assert response.headers["retry-after"]


def test_storing_needs_its_own_scope(tmp_path: Path) -> None:
    with served(tmp_path, require_token=True) as (client, stored):
        with stored.parts.database.write() as connection:
            reader = create_token(connection, "viewer", [Scope.READ])
            writer = create_token(connection, "scanner", [Scope.STORE])

        def status(secret: str) -> int:
            return int(
                store(
                    client,
                    body_of(part10(make_instance())),
                    Authorization=f"Bearer {secret}",
                ).status_code
            )

        assert status(reader) == 403
        assert status(writer) == 200
        stored.catch_up_index()
        (sha256,) = stored.parts.rows().values()
        assert b"scanner " in stored.parts.store.path_of(sha256).read_bytes()[:600]


class _Sink:
    def __init__(self, kept: list[bytes]) -> None:
        self._kept = kept
        self._data = b""

    def write(self, fragment: bytes | memoryview) -> None:
        self._data += bytes(fragment)

    def commit(self) -> StorageAnswer:
        self._kept.append(self._data)
        return StorageAnswer(SUCCESS, "", StorageOutcome.STORED)

    def abandon(self) -> None:
        self._data = b""


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def intake_of(kept: list[bytes]) -> MultipartIntake:
    template = FileMeta("", "", "", "", "", "")
    return MultipartIntake(
        BOUNDARY,
        lambda _meta: _Sink(kept),  # type: ignore[arg-type, return-value]
        Limits(10**9, ()),
        template,
    )


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=12))
def test_however_a_body_is_cut_it_means_the_same(places: list[int]) -> None:
    datasets = [
        make_instance(1, 1, 1, PixelData=b"\r\n--a-boundar" * 4),
        make_instance(1, 1, 2),
    ]
    kept: list[bytes] = []
    intake = intake_of(kept)

    for piece in cut(body_of(*map(part10, datasets)), places):
        intake.feed(piece)
    intake.finish()

    assert kept == [encoded(dataset) for dataset in datasets]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.integers(0, 4000),
    st.binary(min_size=1, max_size=20),
    st.lists(st.integers(0, 5000), max_size=4),
)
def test_a_damaged_body_is_refused_or_taken_and_never_fails_otherwise(
    place: int, damage: bytes, places: list[int]
) -> None:
    whole = body_of(part10(make_instance()), part10(make_instance(1, 1, 2)))
    place %= len(whole)
    body = whole[:place] + damage + whole[place + len(damage) :]
    intake = intake_of([])

    # Anything but a refusal would be a fault of ours.
    with suppress(Refused):
        for piece in cut(body, places):
            intake.feed(piece)
        intake.finish()
