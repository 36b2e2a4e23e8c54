"""The node's TLS port: who gets in, what comes in, and what a bad handshake costs."""

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE, build_context

from core.errors import InvalidSettings
from core.settings import NodeSettings, Settings, StoreSettings, TlsSettings
from dicom_node.guards import GuardedServer
from tests.certificates import Authority, Identity, needs_openssl
from tests.data_sets import Sample
from tests.integration.receiving_node import (
    AE_TITLE,
    Node,
    RawPeer,
    associate_rq,
    node_on,
    pdu,
    pdv,
    store_bytes,
    store_command,
)
from tests.receiving import eventually

pytestmark = [pytest.mark.integration, needs_openssl]

VERIFICATION = "1.2.840.10008.1.1"


def sha256(sample: Sample) -> str:
    return hashlib.sha256(sample.data_set).hexdigest()


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def scanner(authority) -> Identity:
    return authority.identity("scanner")


@pytest.fixture
def files(authority, tmp_path) -> Identity:
    """The node's certificate, in files that a test may change."""
    made = authority.identity("node")
    mine = Identity(tmp_path / "node.pem", tmp_path / "node.key")
    replace(mine, made)
    return mine


def replace(files: Identity, by: Identity) -> None:
    files.certificate.write_bytes(by.certificate.read_bytes())
    files.key.write_bytes(by.key.read_bytes())
    files.key.chmod(0o600)


def settings_with(
    tmp_path: Path,
    files: Identity,
    authority: Authority,
    listeners: int = 0,
    **tls: object,
) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        node=NodeSettings(port=0, network_timeout_s=2, listeners=listeners),
        store=StoreSettings(low_water_bytes=0),
        tls=TlsSettings(
            **{
                "port": 0,
                "certificate_file": files.certificate,
                "key_file": files.key,
                "ca_file": authority.certificate,
                "handshake_timeout_s": 0.5,
                **tls,
            }
        ),
    )


@pytest.fixture
def settings(tmp_path, files, authority) -> Settings:
    return settings_with(tmp_path, files, authority)


@pytest.fixture
def node(settings) -> Iterator[Node]:
    with node_on(settings) as running:
        yield running


def client_context(
    authority: Authority, identity: Identity | None = None
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    return context


@contextmanager
def associated(node: Node, context: ssl.SSLContext, *samples: Sample) -> Iterator:
    entity = AE(ae_title="SCANNER")
    contexts = [build_context(VERIFICATION)]
    contexts += [
        build_context(s.sop_class_uid, s.transfer_syntax_uid) for s in samples[:1]
    ]
    association = entity.associate(
        "127.0.0.1",
        node.entity.tls_port,
        contexts=contexts,
        ae_title=AE_TITLE,
        tls_args=(context, "127.0.0.1"),
    )
    transport = association.dul.socket.socket if association.dul.socket else None
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        entity.shutdown()
        if transport is not None:
            transport.close()


class TlsPeer(RawPeer):
    """Raw PDUs over TLS."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(port)
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")


def refusals(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    text: list[str] = []

    def logged() -> str:
        captured = capsys.readouterr()
        text.append(captured.out + captured.err)
        return "".join(text)

    return logged


@pytest.mark.parametrize("listeners", [0, 2])
def test_what_comes_over_tls_is_kept_bit_for_bit(
    tmp_path, files, authority, scanner, listeners
):
    settings = settings_with(tmp_path, files, authority, listeners)
    samples = [
        Sample(sop_instance_uid=f"1.2.3.4.5.{number}", pixels=bytes(300_000))
        for number in range(3)
    ]
    expected = {s.sop_instance_uid: sha256(s) for s in samples}

    with node_on(settings) as node:
        with associated(node, client_context(authority, scanner), *samples) as peer:
            statuses = [store_bytes(peer, sample).Status for sample in samples]

        assert statuses == [0, 0, 0]
        assert eventually(lambda: node.rows() == expected)


def test_each_listener_takes_a_new_certificate(tmp_path, files, authority, scanner):
    settings = settings_with(tmp_path, files, authority, 2)

    with node_on(settings) as node:
        before = {shown_by(node, authority, scanner) for _ in range(8)}
        replace(files, authority.identity("renewed"))
        after = {shown_by(node, authority, scanner) for _ in range(8)}

    assert (len(before), len(after)) == (1, 1)
    assert before != after


def test_the_plain_port_stays_open_beside_it(node):
    with RawPeer(node.port) as peer:
        peer.associate()

    assert node.port != node.entity.tls_port


def test_the_plain_port_can_be_closed(tmp_path, files, authority, scanner):
    settings = settings_with(tmp_path, files, authority, only=True)

    with node_on(settings) as node:
        with associated(node, client_context(authority, scanner)) as peer:
            assert peer.send_c_echo().Status == 0
        assert node.port == node.entity.tls_port


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_the_profile_are_spoken(node, authority, scanner, version):
    context = client_context(authority, scanner)
    context.minimum_version = context.maximum_version = version

    with associated(node, context) as peer:
        assert peer.send_c_echo().Status == 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_an_old_version_is_refused_with_its_reason(node, authority, scanner, capsys):
    logged = refusals(capsys)
    context = client_context(authority, scanner)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")

    with pytest.raises(ssl.SSLError):
        TlsPeer(node.entity.tls_port, context)

    assert eventually(lambda: "no TLS newer than 1.1" in logged())


def test_a_suite_outside_the_profile_is_refused(node, authority, scanner, capsys):
    logged = refusals(capsys)
    context = client_context(authority, scanner)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AES+SHA256:ECDHE+AES+SHA1:!AESGCM")

    with pytest.raises(ssl.SSLError):
        TlsPeer(node.entity.tls_port, context)

    assert eventually(lambda: "no common cipher suite" in logged())


@pytest.mark.parametrize("shown", ["none", "stranger", "expired"])
def test_only_a_certificate_of_the_known_authority_lets_in(
    node, authority, tmp_path, capsys, shown
):
    logged = refusals(capsys)
    identity = {
        "none": lambda: None,
        "stranger": lambda: Authority(tmp_path, "other").identity("stranger"),
        "expired": lambda: authority.identity("late", days=-1),
    }[shown]()

    with associated(node, client_context(authority, identity)) as peer:
        assert not peer.is_established

    reason = {
        "none": "it has shown no certificate",
        "stranger": "its certificate is not accepted",
        "expired": "certificate has expired",
    }[shown]
    assert eventually(lambda: reason in logged())


def test_callers_without_a_certificate_can_be_let_in(tmp_path, files, authority):
    settings = settings_with(
        tmp_path, files, authority, ca_file=None, require_client_certificate=False
    )

    with node_on(settings) as node, associated(node, client_context(authority)) as peer:
        assert peer.send_c_echo().Status == 0


def test_a_certificate_that_is_not_asked_for_is_judged_if_it_is_shown(
    tmp_path, files, authority
):
    settings = settings_with(
        tmp_path, files, authority, require_client_certificate=False
    )
    stranger = Authority(tmp_path, "other").identity("stranger")

    with node_on(settings) as node:
        with associated(node, client_context(authority)) as peer:
            assert peer.is_established
        with associated(node, client_context(authority, stranger)) as peer:
            assert not peer.is_established


def test_who_speaks_no_tls_on_this_port_is_told_apart(node, capsys):
    logged = refusals(capsys)

    with RawPeer(node.entity.tls_port) as peer:
        peer.send(associate_rq())
        peer.receive()

    assert eventually(lambda: "it does not speak TLS" in logged())


def test_who_hangs_up_in_the_handshake_is_told_apart(node, capsys):
    logged = refusals(capsys)

    with RawPeer(node.entity.tls_port) as peer:
        peer.send(b"\x16\x03\x01")

    assert eventually(lambda: "it closed the connection" in logged())


def test_a_silent_peer_is_closed_and_keeps_nobody_waiting(node, authority, scanner):
    silent = [
        socket.create_connection(("127.0.0.1", node.entity.tls_port), timeout=5)
        for _ in range(20)
    ]
    began = time.monotonic()

    with associated(node, client_context(authority, scanner)) as peer:
        answered = peer.send_c_echo().Status
    answered_after = time.monotonic() - began
    ends = [connection.recv(1) for connection in silent]
    closed_after = time.monotonic() - began
    for connection in silent:
        connection.close()

    assert answered == 0
    assert answered_after < 0.5  # the time limit of a handshake
    assert ends == [b""] * 20
    assert closed_after < 3


def test_a_handshake_that_trickles_in_has_the_same_end(node, authority):
    began = time.monotonic()

    with socket.create_connection(("127.0.0.1", node.entity.tls_port)) as peer:
        hello = b"\x16\x03\x01\x02\x00" + bytes(512)
        with pytest.raises(OSError, match="reset|Broken"):
            for byte in hello:
                peer.sendall(bytes([byte]))
                time.sleep(0.05)

    assert time.monotonic() - began < 3


def test_handshakes_count_among_the_connections_of_an_address(
    node, monkeypatch, authority, scanner
):
    monkeypatch.setattr(GuardedServer, "maximum_connections_per_address", 3)
    port = node.entity.tls_port
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    time.sleep(0.1)

    with pytest.raises(OSError):  # noqa: PT011 - closed or reset
        TlsPeer(port, client_context(authority, scanner))
    assert eventually(lambda: silent[0].recv(1) == b"")
    with associated(node, client_context(authority, scanner)) as peer:
        assert peer.is_established

    for connection in silent:
        connection.close()


def test_a_new_certificate_is_used_from_the_next_connection_on(
    node, files, authority, scanner
):
    before = shown_by(node, authority, scanner)
    replace(files, authority.identity("renewed"))

    after = shown_by(node, authority, scanner)

    assert before != after
    assert after == shown_by(node, authority, scanner)


def test_a_bad_new_certificate_is_told_and_the_old_one_stays(
    node, files, authority, scanner, capsys
):
    logged = refusals(capsys)
    before = shown_by(node, authority, scanner)
    files.key.write_bytes(authority.identity("another").key.read_bytes())

    after = shown_by(node, authority, scanner)

    assert before == after
    assert "is not the key of" in logged()


def shown_by(node: Node, authority: Authority, identity: Identity) -> bytes:
    with TlsPeer(node.entity.tls_port, client_context(authority, identity)) as peer:
        shown = peer.socket.getpeercert(binary_form=True)
        peer.associate()
        peer.send(pdu(0x05, bytes(4)))
        peer.receive()
    return shown


def test_an_abort_reaches_the_peer_over_tls(node, authority, scanner):
    context = client_context(authority, scanner)
    with TlsPeer(node.entity.tls_port, context) as peer:
        peer.associate()
        peer.send(pdu(0x02, bytes(4)))

        assert peer.receive()[:1] == b"\x07"
        assert peer.receive() == b""


def test_a_stopping_node_aborts_over_tls_and_not_in_clear(node, authority, scanner):
    context = client_context(authority, scanner)
    with TlsPeer(node.entity.tls_port, context) as peer:
        peer.associate()
        stopper = threading.Thread(target=node.entity.stop, args=(0.1,))
        stopper.start()

        answer = peer.receive()
        stopper.join()

    assert answer[:1] == b"\x07"


def test_fragments_in_one_record_and_over_many_mean_the_same(node, authority, scanner):
    sample = Sample(sop_instance_uid="1.2.3.4.5.6")
    message = pdu(0x04, pdv(3, 3, store_command()))
    message += pdu(0x04, pdv(3, 2, sample.data_set))
    context = client_context(authority, scanner)
    answers = []
    for size in (len(message), 7):
        with TlsPeer(node.entity.tls_port, context) as peer:
            peer.associate()
            for at in range(0, len(message), size):
                peer.send(message[at : at + size])
            answers.append(peer.receive())

    assert answers[0] == answers[1]
    assert eventually(lambda: node.rows() == {"1.2.3.4.5.6": sha256(sample)})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda files, _a: files.key.chmod(0o640), "set its mode to 600"),
        (lambda files, _a: files.key.unlink(), "key_file.*cannot be read"),
        (lambda files, _a: files.certificate.unlink(), "certificate_file.*be read"),
        (lambda files, _a: files.certificate.write_text("x"), "no certificate"),
        (
            lambda files, a: files.key.write_bytes(a.identity("o").key.read_bytes()),
            "is not the key of",
        ),
        (
            lambda files, a: replace(files, a.identity("late", days=-1)),
            "expired; get a new one",
        ),
    ],
    ids=["mode", "no key", "no certificate", "no PEM", "other key", "expired"],
)
def test_what_is_wrong_with_the_files_is_said_at_the_start(
    settings, files, authority, spoil, words
):
    spoil(files, authority)

    with pytest.raises(InvalidSettings, match=words), node_on(settings):
        pass


def test_an_encrypted_key_is_refused_without_asking_at_the_terminal(settings, files):
    import subprocess

    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", files.key]
        + ["-out", files.key],
        check=True,
        capture_output=True,
    )
    files.key.chmod(0o600)

    with pytest.raises(InvalidSettings, match="is encrypted"), node_on(settings):
        pass


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"only": True}, "needs `tls.port`"),
        ({"port": 2762}, "certificate_file`, `tls.key_file`, `tls.ca_file"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        TlsSettings(**values)
