"""The sender with encoded instances is a DICOM sender: a peer keeps what it sent."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt

from benchmarks.harness.instances import KINDS, Studies, write_studies
from benchmarks.receiving.senders import SENDERS
from benchmarks.receiving.wire import Association, data_set_of

pytestmark = pytest.mark.integration


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return write_studies(tmp_path / "in", KINDS["MR"], count=4, associations=2)


class Peer:
    """A storage SCP in this process."""

    def __init__(self, *syntaxes: str, status: int = 0x0000) -> None:
        self.kept: dict[str, bytes] = {}
        self._status = status
        self._entity = AE()
        # Smaller than an instance, so that each is cut into fragments.
        self._entity.maximum_pdu_size = 16384
        self._entity.add_supported_context(MRImageStorage, list(syntaxes))

    def __enter__(self) -> "Peer":
        self._server = self._entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._keep)],
        )
        self.port = self._server.server_address[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _keep(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.kept[uid] = event.request.DataSet.getvalue()
        return self._status


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(ExplicitVRLittleEndian) as peer:
        yield peer


def test_each_data_set_arrives_byte_by_byte(
    peer: Peer, studies: Studies, tmp_path: Path
) -> None:
    sent = SENDERS["replay"](studies, peer.port, tmp_path)

    assert len(sent.waits_ms) == 4
    assert peer.kept == {
        uid: data_set_of(path.read_bytes()) for uid, path in studies.sources.items()
    }


def test_an_answer_other_than_success_is_an_error(
    studies: Studies, tmp_path: Path
) -> None:
    with (
        Peer(ExplicitVRLittleEndian, status=0xA700) as peer,
        pytest.raises(RuntimeError, match="not every instance was answered Success"),
    ):
        SENDERS["replay"](studies, peer.port, tmp_path)


def test_another_transfer_syntax_is_not_measured() -> None:
    with (
        Peer(ImplicitVRLittleEndian) as peer,
        pytest.raises(RuntimeError, match="did not accept Explicit VR"),
    ):
        Association(peer.port, "ANY-SCP", MRImageStorage)
