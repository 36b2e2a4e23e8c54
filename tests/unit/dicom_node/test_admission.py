"""Promises about who may associate, and of what is offered."""

from collections.abc import Callable

import pytest

from core.errors import InvalidSettings
from core.settings import NodeSettings
from dicom_node.contexts import (
    QUERY_RETRIEVE_CLASSES,
    storage_sop_classes,
    supported_contexts,
    transfer_syntaxes,
)
from dicom_node.guards.admission import Admission, AssociationRequest
from dicom_node.shared_state import Places, SharedLock


class Place:
    """An association that lives until it is told otherwise."""

    def __init__(self) -> None:
        self.alive = True

    def is_alive(self) -> bool:
        return self.alive


def request(
    *, calling: str = "CT1", called: str = "SECONDREAD", address: str = "127.0.0.1"
) -> AssociationRequest:
    return AssociationRequest(
        application_context="1.2.840.10008.3.1.1.1",
        calling_ae_title=calling,
        called_ae_title=called,
        peer_address=address,
        context_ids=(1, 3),
    )


def admission(
    *, enough: Callable[[], bool] = lambda: True, **settings: object
) -> Admission:
    node = NodeSettings(**settings)  # type: ignore[arg-type]
    return Admission(
        node, enough, lock=SharedLock(), places=Places(node.maximum_associations)
    )


@pytest.mark.parametrize(
    ("allowed", "calling", "address", "admitted"),
    [
        ((), "ANY", "127.0.0.1", True),
        ((), "ANY", "::1", True),
        ((), "ANY", "::ffff:127.0.0.1", True),
        ((), "ANY", "10.0.0.1", False),
        (("CT1@10.0.0.1",), "CT1", "10.0.0.1", True),
        (("CT1@10.0.0.1",), "CT2", "10.0.0.1", False),
        (("CT1@10.0.0.1",), "CT1", "10.0.0.2", False),
        (("CT1@10.0.0.1",), "CT1", "127.0.0.1", False),
        (("*@10.0.0.0/24",), "X", "10.0.0.77", True),
        (("*@10.0.0.0/24",), "X", "10.0.1.77", False),
        (("CT*@*",), "CT7", "192.0.2.1", True),
        (("CT*@*",), "MR7", "192.0.2.1", False),
        (("*@*",), "X", "nonsense", False),
    ],
)
def test_title_and_address_must_both_be_allowed(
    allowed: tuple[str, ...], calling: str, address: str, admitted: bool
) -> None:
    refusal = admission(allowed_callers=allowed).decide(
        request(calling=calling, address=address), Place()
    )

    assert (refusal is None) is admitted
    assert refusal is None or (refusal.result, refusal.diagnostic) == (1, 3)


@pytest.mark.parametrize("entry", ["CT1", "CT1@", "@10.0.0.1", "CT1@host.example"])
def test_an_entry_that_cannot_be_understood_is_an_error(entry: str) -> None:
    with pytest.raises(InvalidSettings, match="allowed_callers"):
        admission(allowed_callers=(entry,))


def test_any_called_title_may_be_accepted_by_a_setting() -> None:
    assert (
        admission(accept_any_called_ae_title=True).decide(
            request(called="OTHER"), Place()
        )
        is None
    )


def test_a_place_is_given_back_when_its_association_ends() -> None:
    gate, first = admission(maximum_associations=1), Place()
    gate.decide(request(), first)
    refused = gate.decide(request(), Place())
    first.alive = False

    accepted = gate.decide(request(), Place())

    assert refused is not None
    assert (refused.result, refused.source, refused.diagnostic) == (2, 3, 2)
    assert accepted is None


def test_one_address_cannot_take_all_places() -> None:
    gate = admission(maximum_associations_per_address=1, allowed_callers=("*@*",))
    gate.decide(request(address="10.0.0.1"), Place())

    assert gate.decide(request(address="10.0.0.1"), Place()) is not None
    assert gate.decide(request(address="10.0.0.2"), Place()) is None


def test_low_disk_and_stopping_are_temporary_reasons() -> None:
    stopping = admission()
    stopping.stopping = True

    for gate in (stopping, admission(enough=lambda: False)):
        refusal = gate.decide(request(), Place())
        assert refusal is not None
        assert (refusal.result, refusal.source, refusal.diagnostic) == (2, 3, 1)


def test_every_class_of_the_storage_service_is_offered_once() -> None:
    offered = [context.abstract_syntax for context in supported_contexts(("1.2.3",))]

    assert len(offered) == len(set(offered))
    others = {"1.2.840.10008.1.1", *QUERY_RETRIEVE_CLASSES}
    assert {*storage_sop_classes(), "1.2.3", *others} == set(offered)
    assert len(storage_sop_classes()) > 170


def test_no_deflated_syntax_is_offered_and_explicit_vr_is_first() -> None:
    assert transfer_syntaxes()[0] == "1.2.840.10008.1.2.1"
    assert "1.2.840.10008.1.2.1.99" not in transfer_syntaxes()
    assert "1.2.840.10008.1.2.4.205" not in transfer_syntaxes()
    assert len(set(transfer_syntaxes())) == len(transfer_syntaxes()) > 40
