"""DCMTK's storescp gets what we send bit by bit, in clear and over TLS."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.file_meta import encode_file_meta
from dicom_node.senders.c_echo import echo
from dicom_node.senders.c_store import FileResult, send_files
from dicom_node.tls import ClientTls
from tests.certificates import Authority, needs_openssl
from tests.data_sets import IMPLICIT, Sample
from tests.peers import DcmtkArchive, needs_dcmtk
from tests.receiving import eventually

pytestmark = [pytest.mark.acceptance, needs_dcmtk]


@pytest.fixture
def study(tmp_path: Path) -> dict[Path, Sample]:
    folder = tmp_path / "study"
    folder.mkdir()
    samples = [
        Sample(sop_instance_uid="1.2.3.4.1"),
        Sample(sop_instance_uid="1.2.3.4.2", pixels=bytes(range(256)) * 3000),
        Sample(sop_instance_uid="1.2.3.4.3", transfer_syntax_uid=IMPLICIT),
    ]
    files = {folder / f"{sample.sop_instance_uid}.dcm": sample for sample in samples}
    for path, sample in files.items():
        path.write_bytes(encode_file_meta(sample.meta) + sample.data_set)
    return files


def send(study: dict[Path, Sample], port: int, **options: object) -> list[FileResult]:
    return send_files(
        list(study), host="127.0.0.1", port=port, called="STORESCP", calling="ME",
        **options,
    )  # fmt: skip


def data_sets(archive: DcmtkArchive) -> set[bytes]:
    found = set()
    for path in archive.files():
        content = path.read_bytes()
        found.add(content[144 + int.from_bytes(content[140:144], "little") :])
    return found


@pytest.mark.parametrize("pdu", ["4096", "16384", "131072"])
def test_storescp_gets_each_data_set_bit_by_bit(tmp_path, study, pdu):
    with DcmtkArchive(tmp_path / "archive", "--max-pdu", pdu) as archive:
        results = send(study, archive.port)
        assert eventually(lambda: len(archive.files()) == len(study))

        assert [result.answer.words for result in results] == ["0000 success"] * 3
        assert data_sets(archive) == {sample.data_set for sample in study.values()}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls_archive(tmp_path: Path, authority: Authority) -> Callable[..., DcmtkArchive]:
    def made(host: str = "127.0.0.1", days: int = 60) -> DcmtkArchive:
        own = authority.identity("archive", host=host, days=days)
        options = ["+tls", own.key, own.certificate, "+cf", authority.certificate]
        return DcmtkArchive(tmp_path / "archive", *map(str, options))

    return made


@pytest.fixture
def tls(authority: Authority) -> ClientTls:
    own = authority.identity("secondread")
    return ClientTls(
        ca_file=authority.certificate,
        certificate_file=own.certificate,
        key_file=own.key,
    )


@needs_openssl
def test_storescp_over_tls_gets_the_same(tls_archive, study, tls):
    with tls_archive() as archive:
        results = send(study, archive.port, tls=tls)
        assert eventually(lambda: len(archive.files()) == len(study))

        assert [result.answer.words for result in results] == ["0000 success"] * 3
        assert data_sets(archive) == {sample.data_set for sample in study.values()}


@needs_openssl
def test_storescp_over_tls_answers_an_echo(tls_archive, tls):
    with tls_archive() as archive:
        result = echo(
            "127.0.0.1", archive.port, called="STORESCP", calling="ME", tls=tls
        )

    assert result.words == "success"


@needs_openssl
def test_a_host_that_the_certificate_does_not_name_is_not_trusted(
    tls_archive, study, authority
):
    own = authority.identity("secondread")
    identity = {"certificate_file": own.certificate, "key_file": own.key}
    strict = ClientTls(ca_file=authority.certificate, **identity)
    other_name = ClientTls(
        ca_file=authority.certificate, server_name="pacs.example", **identity
    )
    any_name = ClientTls(
        ca_file=authority.certificate, check_server_name=False, **identity
    )

    with tls_archive(host="pacs.example") as archive:
        refused = send(study, archive.port, tls=strict)
        named = send(study, archive.port, tls=other_name)
        unnamed = send(study, archive.port, tls=any_name)

    assert "no TLS with 127.0.0.1" in refused[0].answer.words
    assert "not valid for" in refused[0].answer.words
    assert all(result.ok for result in [*named, *unnamed])


@needs_openssl
def test_an_expired_certificate_of_the_archive_is_told(tls_archive, study, tls):
    with tls_archive(days=-1) as archive:
        (first, *_) = send(study, archive.port, tls=tls)

    assert "certificate has expired" in first.answer.words


@needs_openssl
def test_an_archive_that_wants_a_certificate_of_ours_is_told_apart(
    tls_archive, study, authority
):
    anonymous = ClientTls(ca_file=authority.certificate)

    with tls_archive() as archive:
        (first, *_) = send(study, archive.port, tls=anonymous)

    assert not first.ok
    assert "no TLS with" in first.answer.words


@needs_openssl
def test_the_command_sends_and_echoes_over_tls(tls_archive, study, authority, tmp_path):
    import sys

    own = authority.identity("command")
    with tls_archive() as archive:
        options = [
            "--to", f"127.0.0.1:{archive.port}", "--called", "STORESCP", "--tls",
            "--tls-ca", authority.certificate, "--tls-cert", own.certificate,
            "--tls-key", own.key, "--data-dir", tmp_path / "data",
        ]  # fmt: skip
        statuses = [
            subprocess.run(
                [sys.executable, "-m", "cli.main", *map(str, [*words, *options])],
                check=False,
                capture_output=True,
            ).returncode
            for words in (["echo"], ["send", *study])
        ]
        assert eventually(lambda: len(archive.files()) == len(study))

    assert statuses == [0, 0]
