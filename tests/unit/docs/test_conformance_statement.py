"""docs/conformance.md says what the code does: no more, no less."""

import re
from itertools import chain

import pytest
from pydicom._uid_dict import UID_dictionary
from pynetdicom.sop_class import _STORAGE_CLASSES

from core import errors
from core.report_classes import REPORT_CLASS_UIDS
from core.settings import DestinationSettings, Settings
from core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.contexts import (
    VERIFICATION,
    storage_sop_classes,
    supported_contexts,
    transfer_syntaxes,
)
from dicom_node.data_transfer.session import OUTSTANDING
from dicom_node.delivery.courier import ROUND
from dicom_node.guards import admission, requests
from dicom_node.guards.server import GuardedServer
from dicom_node.senders import sender, stow_rs
from dicom_node.statuses import SUCCESS, answer_for
from tests.unit.docs.markdown_pages import DOCS, Table, tables

PAGE = DOCS / "conformance.md"
TEXT = PAGE.read_text()
TABLES = tables(PAGE)


def table(*columns: str, heading: str = "") -> Table:
    found = [
        one
        for one in TABLES
        if one.columns[: len(columns)] == columns and heading in one.heading
    ]
    assert len(found) == 1, f"{len(found)} tables with the columns {columns}"
    return found[0]


def column(of: Table, name: str) -> list[str]:
    return [row[of.columns.index(name)] for row in of.rows]


def named(uid: str) -> str:
    if uid not in UID_dictionary:  # newer than pydicom; pynetdicom has the keyword
        keyword = next(key for key, one in _STORAGE_CLASSES.items() if one == uid)
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", keyword)
    name, _, _, retired, _ = UID_dictionary[uid]
    return f"{name} (Retired)" if retired else name


def written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_transfer_syntax_that_is_accepted_is_listed_in_order_of_preference() -> (
    None
):
    rows = table("#", "Transfer syntax", "UID").rows

    assert list(rows) == [
        (str(number), named(uid), uid)
        for number, uid in enumerate(transfer_syntaxes(), start=1)
    ]


def test_every_storage_class_that_is_accepted_is_listed_and_nothing_else() -> None:
    rows = table("SOP class", "UID").rows

    assert list(rows) == [(named(uid), uid) for uid in storage_sop_classes()]


def test_verification_is_offered_in_as_many_syntaxes_as_the_page_says() -> None:
    contexts = {str(cx.abstract_syntax): cx for cx in supported_contexts(())}

    assert f"| Verification, {VERIFICATION} | the first three of" in TEXT
    assert len(contexts[VERIFICATION].transfer_syntax) == 3


def test_the_report_classes_of_the_page_are_those_that_can_be_configured() -> None:
    rows = table("Network service", "SOP class").rows
    listed = {row[1].rsplit(" ", 1)[1] for row in rows if row[0] == "Transfer: reports"}

    assert listed == set(REPORT_CLASS_UIDS.values())


def test_the_implementation_is_named_as_in_the_code() -> None:
    rows = {row[0]: row[1] for row in table("", "", heading="General").rows}

    assert rows["Implementation class UID"] == IMPLEMENTATION_CLASS_UID
    assert rows["Implementation version name"] == IMPLEMENTATION_VERSION_NAME


def test_the_association_policies_are_those_of_the_code() -> None:
    node = Settings().node
    policies = {
        row[0]: row[1] for row in table("Association policy", "as acceptor").rows
    }

    assert policies["Simultaneous associations"].startswith(
        f"{node.maximum_associations} in all, "
        f"{node.maximum_associations_per_address} from one address"
    )
    assert policies["Maximum PDU length offered"] == f"{node.maximum_pdu_length} bytes"
    assert OUTSTANDING == 4
    assert "more than four requests without waiting" in TEXT
    assert f"at most {GuardedServer.maximum_connections} TCP connections" in TEXT
    assert f"({GuardedServer.maximum_connections_per_address} from one" in TEXT
    assert re.search(rf"association carries up to {ROUND} reports", TEXT)


def test_the_answers_to_c_store_are_those_of_the_one_table() -> None:
    listed = column(table("Service status", "Status code"), "Status code")
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.SecondreadError)
    ]
    of_errors = {answer_for(_made(kind)).status for kind in kinds}
    before_receiving = {
        requests._SOP_CLASS_NOT_SUPPORTED,
        requests._INVALID_INSTANCE,
        requests._CANNOT_UNDERSTAND,
    }

    assert sorted(listed) == sorted(
        f"{status:04X}" for status in {SUCCESS} | of_errors | before_receiving
    )


def _made(kind: type[errors.SecondreadError]) -> errors.SecondreadError:
    if kind is errors.UnsupportedImage:
        return errors.UnsupportedImage("reason", "message")
    return kind("message")


def test_what_a_peers_status_leads_to_is_that_of_the_senders_table() -> None:
    told = {row[0]: row[2] for row in table("Status", "Meaning", "Behaviour").rows}
    numbers = {span: outcome for span, outcome in told.items() if span[0] in "0ABCF"}
    default = told["any other"]

    for status in range(0x10000):
        expected = sender.answer_for_status(status).outcome.value
        assert _looked_up(numbers, status, default) == expected, f"{status:04X}"


def _looked_up(spans: dict[str, str], status: int, default: str) -> str:
    for span, outcome in spans.items():
        low, _, high = span.partition("-")
        if int(low, 16) <= status <= int(high or low, 16):
            return outcome
    return default


@pytest.mark.parametrize(
    "status", [200, 201, 202, 204, 302, 418, 500, *range(400, 430)]
)
def test_what_an_http_status_leads_to_is_that_of_stow(status: int) -> None:
    told = {row[0]: row[2] for row in table("HTTP status", "Meaning").rows}
    others = {3: "any other 3xx", 4: "any other 4xx"}
    row = told.get(str(status)) or told[others.get(status // 100, "any other")]

    assert row == stow_rs._answer_for_response(status, b"").outcome.value


def test_every_http_status_with_words_of_its_own_is_listed() -> None:
    listed = set(column(table("HTTP status", "Meaning"), "HTTP status"))

    assert {str(status) for status in stow_rs._HTTP_WORDS} <= listed


def test_the_rejections_are_those_of_the_node() -> None:
    listed = column(table("Result/source/diagnostic"), "Result/source/diagnostic")
    known = {
        f"{one.result}/{one.source}/{one.diagnostic}"
        for one in vars(admission).values()
        if isinstance(one, admission.Refusal)
    }

    assert set(chain.from_iterable(cell.split(", ") for cell in listed)) == known


def test_each_default_is_the_setting_s() -> None:
    values = Settings().model_dump()
    rows = table("Setting", "Default", "Unit").rows
    assert len(rows) > 20

    for name, told, *_ in rows:
        section, _, key = name.strip("`").partition(".")
        default = values[section][key]
        words = "unset" if default is None else "empty" if default == () else None
        assert told.split(":")[0] == (words or written(default)), name


def test_every_setting_of_the_node_is_listed() -> None:
    listed = {name.strip("`") for name, *_ in table("Setting", "Default", "Unit").rows}

    assert {f"node.{name}" for name in type(Settings().node).model_fields} <= listed


def test_the_defaults_of_a_destination_are_the_settings() -> None:
    made = DestinationSettings(name="pacs")
    (destination,) = (one for one in TABLES if one.columns == ("Setting", "Default"))

    for name, told in destination.rows:
        value = getattr(made, name.strip("`"))
        assert told.split(":")[0] == ("unset" if value is None else written(value))


def test_the_delays_in_the_text_are_the_settings() -> None:
    delivery = Settings().delivery

    assert (
        f"tried again after {delivery.first_delay_s:g} s, doubled each time up to "
        f"{delivery.maximum_delay_s:g} s"
    ) in TEXT.replace("\n  ", " ")
    assert f"until {delivery.horizon_s / 3600:g} h after" in TEXT
    assert delivery.refusals_before_failed == 3
    assert "`failed` at the third refusal" in TEXT
