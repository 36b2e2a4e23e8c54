"""What every instance store promises; today there is one on the file system."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import StoreFull, StoreUnavailable
from dicom_node.inbox import Inbox
from dicom_node.instance_store import InstanceStore
from tests.data_sets import Sample

ABSENT = "0" * 64


@pytest.fixture(params=["file system"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> InstanceStore:
    assert request.param == "file system"
    return InstanceStore(tmp_path, durable=True)


@pytest.fixture
def received(tmp_path: Path) -> tuple[str, Path]:
    part = Inbox(tmp_path).open(Sample().meta)
    part.write(Sample().data_set)
    return part.sha256, part.keep()


def test_an_adopted_instance_is_found_by_its_hash(
    store: InstanceStore, received: tuple[str, Path]
) -> None:
    sha256, path = received

    store.adopt({sha256: path})

    assert store.path_of(sha256).read_bytes() == path.read_bytes()
    assert store.verify(sha256)
    assert list(store.objects()) == [sha256]


def test_adopting_twice_changes_nothing(
    store: InstanceStore, received: tuple[str, Path]
) -> None:
    sha256, path = received
    store.adopt({sha256: path})

    store.adopt({sha256: path})

    assert list(store.objects()) == [sha256]


def test_an_instance_outlives_its_inbox_file(
    store: InstanceStore, received: tuple[str, Path]
) -> None:
    sha256, path = received
    store.adopt({sha256: path})
    path.unlink()

    store.adopt({sha256: path})

    assert store.verify(sha256)


def test_a_file_that_is_nowhere_cannot_be_adopted(store: InstanceStore) -> None:
    with pytest.raises(StoreUnavailable):
        store.adopt({ABSENT: store.root / "gone"})


def test_a_changed_or_missing_instance_does_not_verify(
    store: InstanceStore, received: tuple[str, Path]
) -> None:
    sha256, path = received
    store.adopt({sha256: path})
    with store.path_of(sha256).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")

    assert not store.verify(sha256)
    assert not store.verify(ABSENT)


def test_a_removed_instance_is_gone_and_may_be_removed_again(
    store: InstanceStore, received: tuple[str, Path]
) -> None:
    sha256, path = received
    store.adopt({sha256: path})

    store.remove([sha256])
    store.remove([sha256])

    assert not store.path_of(sha256).exists()


def test_a_report_is_kept_under_the_hash_of_its_bytes(store: InstanceStore) -> None:
    sha256 = store.put_report(b"report")

    assert sha256 == hashlib.sha256(b"report").hexdigest()
    assert store.report_path(sha256).read_bytes() == b"report"
    assert store.read_report(sha256) == b"report"


def test_the_same_report_twice_is_one_file(store: InstanceStore) -> None:
    store.put_report(b"report")
    sha256 = store.put_report(b"report")

    assert [p.name for p in store.report_path(sha256).parent.iterdir()] == [
        f"{sha256}.dcm"
    ]


def test_a_changed_report_is_never_returned(store: InstanceStore) -> None:
    sha256 = store.put_report(b"report")
    store.report_path(sha256).write_bytes(b"forged")

    with pytest.raises(StoreUnavailable, match="has changed"):
        store.read_report(sha256)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EFBIG, StoreFull),
        (errno.EIO, StoreUnavailable),
    ],
)
def test_a_report_that_cannot_be_made_durable_is_not_there(
    store: InstanceStore,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Exception],
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", fail)

    with pytest.raises(error):
        store.put_report(b"report")

    assert not list((store.root / "reports").rglob("*.*"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "0" * 63])
def test_no_other_text_ever_becomes_a_path(store: InstanceStore, name: str) -> None:
    with pytest.raises(StoreUnavailable):
        store.path_of(name)
    with pytest.raises(StoreUnavailable):
        store.report_path(name)


def test_the_store_needs_no_network_library() -> None:
    code = (
        "import sys, dicom_node.instance_store;"
        "sys.exit('pynetdicom' in sys.modules or 'pydicom' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
