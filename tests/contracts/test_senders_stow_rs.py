"""What STOW-RS alone must do: statuses, the token, redirects."""

import json

import pytest
from sender_peers import EXPLICIT, SR_3D, StowPeer, failed_with

from dicom_node.senders.sender import Answer, Outcome, OutgoingReport
from dicom_node.senders.stow_rs import StowSender
from dicom_node.tls import ClientTls

pytestmark = pytest.mark.integration


@pytest.fixture
def peer():
    made = StowPeer()
    yield made
    made.close()


@pytest.fixture
def report(tmp_path) -> OutgoingReport:
    meta = b"\x02\x00\x00\x00UL\x04\x00\x00\x00\x00\x00"
    path = tmp_path / "report.dcm"
    path.write_bytes(bytes(128) + b"DICM" + meta + b"data set")
    return OutgoingReport(path, SR_3D, "1.2.3", EXPLICIT)


def answer_of(peer: StowPeer, report: OutgoingReport, token=None) -> Answer:
    (answer,) = peer.sender(token).send([report])
    return answer


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.ACCEPTED),
        (202, Outcome.ACCEPTED),
        (400, Outcome.REFUSED),
        (401, Outcome.UNAVAILABLE),
        (403, Outcome.UNAVAILABLE),
        (404, Outcome.REFUSED),
        (409, Outcome.REFUSED),
        (413, Outcome.REFUSED),
        (415, Outcome.REFUSED),
        (418, Outcome.REFUSED),
        (429, Outcome.UNAVAILABLE),
        (500, Outcome.UNAVAILABLE),
        (503, Outcome.UNAVAILABLE),
    ],
)
def test_each_http_status_has_its_meaning(peer, report, status, outcome):
    peer.status, peer.body = status, b""

    answer = answer_of(peer, report)

    assert answer.outcome is outcome
    assert str(status) in answer.words


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        (202, 0x0122, Outcome.REFUSED),
        (202, 0xA700, Outcome.UNAVAILABLE),
        (200, 0xC000, Outcome.REFUSED),
        (409, 0xA700, Outcome.UNAVAILABLE),
        (409, 0x0111, Outcome.ACCEPTED),
        (409, 0xB00E, Outcome.ACCEPTED),
        (409, 0xB000, Outcome.REFUSED),
    ],
)
def test_what_is_said_of_the_instance_counts_before_the_status(
    peer, report, status, reason, outcome
):
    peer.status, peer.body = status, failed_with(reason)

    assert answer_of(peer, report).outcome is outcome


def test_a_failed_item_without_a_reason_is_no_success(peer, report):
    peer.body = json.dumps({"00081198": {"vr": "SQ", "Value": [{}]}}).encode()

    assert answer_of(peer, report).outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize("body", [b"[]", b"no json", b"\xff", b"[" * 5000, b'{"a":1}'])
def test_a_body_that_is_no_store_response_changes_nothing(peer, report, body):
    peer.body = body

    assert answer_of(peer, report).outcome is Outcome.ACCEPTED


def test_a_redirect_is_not_followed(peer, report):
    peer.status = 307

    answer = answer_of(peer, report)

    assert answer.outcome is Outcome.REFUSED
    assert len(peer.received) == 1


def test_the_token_is_sent_and_read_anew_each_round(peer, report, tmp_path):
    token = tmp_path / "token"
    token.touch(mode=0o600)
    sender = peer.sender(token)
    for text in ("first\n", "second"):
        token.write_text(text)
        list(sender.send([report]))

    sent = [headers["Authorization"] for headers in peer.headers]

    assert sent == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_token_that_others_may_read_is_not_used(peer, report, tmp_path, mode):
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(mode)

    answer = answer_of(peer, report, token)

    assert answer.outcome is Outcome.UNAVAILABLE
    assert "600" in answer.words
    assert "secret" not in answer.words
    assert peer.received == []


@pytest.mark.parametrize("text", ["", "two words", "line\nbreak"])
def test_what_is_no_token_is_not_sent(peer, report, tmp_path, text):
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(text)

    assert answer_of(peer, report, token).outcome is Outcome.UNAVAILABLE
    assert peer.received == []


def test_the_request_is_one_that_the_standard_describes(peer, report):
    answer_of(peer, report)

    (headers,) = peer.headers
    assert headers["path"] == "/dicom-web/studies"
    assert headers["Accept"] == "application/dicom+json"
    assert 'multipart/related; type="application/dicom"' in headers["Content-Type"]


def test_proxies_of_the_environment_are_not_used(peer, report, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert answer_of(peer, report).outcome is Outcome.ACCEPTED


def test_one_connection_serves_the_rounds_of_a_courier(peer, report):
    sender = peer.sender(keep_open_s=60)

    for _ in range(3):
        list(sender.send([report]))
        sender.rest()
    sender.close()

    assert (len(peer.received), peer.connections) == (3, 1)


def test_a_kept_connection_that_died_costs_no_attempt(peer, report):
    sender = peer.sender(keep_open_s=60)
    list(sender.send([report]))
    peer.how = "abort once"

    (answer,) = sender.send([report])
    sender.close()

    assert answer.outcome is Outcome.ACCEPTED
    assert (len(peer.received), peer.connections) == (3, 2)


def test_a_connection_that_dies_twice_is_no_longer_tried(peer, report):
    sender = peer.sender(keep_open_s=60)
    list(sender.send([report]))
    peer.how = "abort"

    (answer,) = sender.send([report])
    sender.close()

    assert answer.outcome is Outcome.UNAVAILABLE
    assert len(peer.received) == 3


def test_certificates_that_cannot_be_used_are_an_answer(peer, report, tmp_path):
    tls = ClientTls(ca_file=tmp_path / "absent.pem")
    sender = StowSender(f"https://127.0.0.1:{peer.port}", tls=tls)

    (answer,) = sender.send([report])

    assert answer.outcome is Outcome.UNAVAILABLE
    assert "absent.pem cannot be read" in answer.words
