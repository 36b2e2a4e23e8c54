"""Promises of the node to its peers, over real associations."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE, build_context

from tests.data_sets import BIG_ENDIAN, CT, EXPLICIT, IMPLICIT, JPEG, Sample
from tests.integration.receiving_node import (
    Node,
    associated,
    node_on,
    send_all,
    store_bytes,
)
from tests.receiving import eventually, settings_for

pytestmark = pytest.mark.integration

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
TEXT_SR_TRIAL = "1.2.840.10008.5.1.4.1.1.88.1"
PRIVATE = "1.3.12.2.1107.5.99.3.10"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with node_on(
        settings_for(tmp_path, private_storage_sop_classes=(PRIVATE,))
    ) as running:
        yield running


def test_the_node_answers_a_verification(node: Node) -> None:
    with associated(node.port) as association:
        assert association.send_c_echo().Status == 0


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG])
def test_a_data_set_is_kept_bit_for_bit_in_its_transfer_syntax(
    node: Node, syntax: str
) -> None:
    sample = Sample(transfer_syntax_uid=syntax, pixels=bytes(range(200)))

    assert send_all(node.port, sample) == [0]

    sha256 = hashlib.sha256(sample.data_set).hexdigest()
    assert eventually(lambda: node.store.verify(sha256))
    assert eventually(lambda: node.rows() == {sample.sop_instance_uid: sha256})


@pytest.mark.parametrize("sop_class", [PARAMETRIC_MAP, TEXT_SR_TRIAL, PRIVATE])
def test_rare_retired_and_private_classes_are_stored(
    node: Node, sop_class: str
) -> None:
    assert send_all(node.port, Sample(sop_class_uid=sop_class)) == [0]


def test_an_unknown_class_is_refused_in_its_context(node: Node) -> None:
    entity = AE(ae_title="SCANNER")
    association = entity.associate(
        "127.0.0.1",
        node.port,
        contexts=[build_context("1.2.840.10008.1.1"), build_context("1.2.3.99")],
        ae_title="SECONDREAD",
    )

    (refused,) = association.rejected_contexts
    association.release()

    assert refused.result == 3


def test_the_deflated_syntax_is_not_accepted(node: Node) -> None:
    entity = AE(ae_title="SCANNER")
    deflated = build_context(CT, "1.2.840.10008.1.2.1.99")

    association = entity.associate(
        "127.0.0.1", node.port, contexts=[deflated], ae_title="SECONDREAD"
    )
    accepted = association.accepted_contexts
    association.abort()

    assert accepted == []


def test_explicit_vr_is_preferred_whatever_the_peer_s_order(node: Node) -> None:
    entity = AE(ae_title="SCANNER")
    context = build_context(CT, [IMPLICIT, BIG_ENDIAN, EXPLICIT])

    association = entity.associate(
        "127.0.0.1", node.port, contexts=[context], ae_title="SECONDREAD"
    )
    (accepted,) = association.accepted_contexts
    association.release()

    assert accepted.transfer_syntax == [EXPLICIT]


@pytest.mark.parametrize(
    ("sample", "data", "status"),
    [
        (Sample(), Sample(sop_instance_uid="1.2.9").data_set, 0xA900),
        (Sample(), Sample().data_set[:-1], 0xC000),
        (Sample(study_instance_uid=""), None, 0xC000),
    ],
)
def test_a_refusal_says_why_on_the_wire(
    node: Node, sample: Sample, data: bytes | None, status: int
) -> None:
    with associated(node.port, sample) as association:
        answer = store_bytes(association, sample, data)
        still_answers = association.send_c_echo().Status

    assert answer.Status == status
    assert answer.ErrorComment
    assert still_answers == 0


def test_duplicates_and_conflicts_are_answered_over_the_wire(node: Node) -> None:
    sample, other = Sample(), Sample(pixels=b"\1\2")

    assert send_all(node.port, sample, sample, other) == [0, 0, 0xC111]

    assert eventually(lambda: len(node.rows()) == 1)
    assert node.entity.status().counts.instances_duplicate == 1


def test_a_wrong_called_title_is_rejected(node: Node) -> None:
    with associated(node.port, called="OTHER") as association:
        assert association.is_rejected
        assert association.acceptor.primitive.result == 1
        assert association.acceptor.primitive.diagnostic == 7


def test_a_caller_that_is_not_listed_is_rejected(tmp_path: Path) -> None:
    settings = settings_for(
        tmp_path, allowed_callers=("CT1@127.0.0.0/8",), bind_address="127.0.0.1"
    )
    with node_on(settings) as node:
        with associated(node.port, calling="CT2") as stranger:
            rejected = stranger.acceptor.primitive.diagnostic
        with associated(node.port, calling="CT1") as known:
            accepted = known.is_established

    assert (rejected, accepted) == (3, True)


def test_more_associations_than_allowed_are_rejected(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, maximum_associations_per_address=1)
    with (
        node_on(settings) as node,
        associated(node.port) as first,
        associated(node.port) as second,
    ):
        assert first.is_established
        assert second.is_rejected
        assert second.acceptor.primitive.result == 2
        assert second.acceptor.primitive.diagnostic == 2


def test_a_place_is_free_again_after_a_release(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, maximum_associations_per_address=1)
    with node_on(settings) as node:
        for _ in range(3):
            assert eventually(lambda: node.entity.status().open_associations == 0)
            with associated(node.port) as association:
                assert association.is_established


def test_a_full_disk_refuses_associations_before_it_is_full(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    full = settings.model_copy(
        update={"store": settings.store.model_copy(update={"low_water_bytes": 1 << 62})}
    )
    with node_on(full) as node, associated(node.port) as association:
        assert association.is_rejected
        assert association.acceptor.primitive.result == 2
        assert association.acceptor.primitive.diagnostic == 1


def test_a_stopped_node_has_written_its_index(tmp_path: Path) -> None:
    with node_on(settings_for(tmp_path)) as node:
        send_all(node.port, *(Sample(sop_instance_uid=f"1.2.{i}") for i in range(20)))
    assert len(node.rows()) == 20
    assert list((tmp_path / "inbox").iterdir()) == []


def test_the_log_of_associations_names_no_patient(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    send_all(node.port, Sample(patient_id="MARKER"), Sample(sop_instance_uid="1.2.03"))
    assert eventually(lambda: node.entity.log.recent()[0].outcome == "released")

    record = node.entity.log.recent()[0]
    output = "".join(capsys.readouterr())

    assert (record.calling_ae_title, record.instances, record.refused) == (
        "SCANNER",
        1,
        1,
    )
    assert "MARKER" not in output + str(record)


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    from core.errors import StoreUnavailable

    settings = settings_for(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        busy = settings.model_copy(
            update={"node": settings.node.model_copy(update={"port": port})}
        )

        with pytest.raises(StoreUnavailable, match="cannot be bound"), node_on(busy):
            pass
