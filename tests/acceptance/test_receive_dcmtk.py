"""DCMTK's tools as senders: what they send is what is kept."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from core.settings import TlsSettings
from dicom_node.file_meta import encode_file_meta
from tests.certificates import Authority, needs_openssl
from tests.data_sets import Sample
from tests.integration.receiving_node import AE_TITLE, Node, node_on
from tests.receiving import eventually, settings_for

pytestmark = pytest.mark.acceptance


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with node_on(settings_for(tmp_path / "data")) as running:
        yield running


@pytest.fixture
def study(tmp_path: Path) -> list[Sample]:
    folder = tmp_path / "study"
    folder.mkdir()
    samples = [Sample(sop_instance_uid=f"1.2.3.4.5.{i}") for i in range(1, 6)]
    for number, sample in enumerate(samples):
        data = encode_file_meta(sample.meta) + sample.data_set
        (folder / f"{number}.dcm").write_bytes(data)
    return samples


def run(
    program: str,
    node: Node,
    *arguments: object,
    tls: Sequence[object] = (),
) -> int:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} of DCMTK is not installed")
    port = node.entity.tls_port if tls else node.port
    return subprocess.run(
        [path, *map(str, tls), "-aec", AE_TITLE, "127.0.0.1", str(port)]
        + [str(argument) for argument in arguments],
        check=False,
        capture_output=True,
        timeout=60,
    ).returncode


def test_echoscu_is_answered(node: Node) -> None:
    assert run("echoscu", node) == 0


@pytest.mark.parametrize(
    ("program", "options"), [("storescu", ["+sd"]), ("dcmsend", ["+sd"])]
)
def test_what_dcmtk_sends_is_kept_bit_for_bit(
    node: Node, study: list[Sample], tmp_path: Path, program: str, options: list[str]
) -> None:
    assert run(program, node, *options, tmp_path / "study") == 0

    expected = {
        s.sop_instance_uid: hashlib.sha256(s.data_set).hexdigest() for s in study
    }
    assert eventually(lambda: node.rows() == expected)
    assert all(node.store.verify(sha256) for sha256 in expected.values())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls_node(tmp_path: Path, authority: Authority) -> Iterator[Node]:
    own = authority.identity("node")
    tls = TlsSettings(
        port=0,
        certificate_file=own.certificate,
        key_file=own.key,
        ca_file=authority.certificate,
    )
    settings = settings_for(tmp_path / "data").model_copy(update={"tls": tls})
    with node_on(settings) as running:
        yield running


@needs_openssl
@pytest.mark.parametrize(
    ("program", "options"),
    [("echoscu", None), ("storescu", ["+sd"])],  # dcmsend knows no TLS
)
def test_dcmtk_over_tls_is_served_like_dcmtk_in_clear(
    tls_node: Node,
    study: list[Sample],
    authority: Authority,
    tmp_path: Path,
    program: str,
    options: list[str] | None,
) -> None:
    mine = authority.identity("scanner")
    tls = ["+tls", mine.key, mine.certificate, "+cf", authority.certificate]
    files = [] if options is None else [*options, tmp_path / "study"]

    assert run(program, tls_node, *files, tls=tls) == 0

    expected = {
        s.sop_instance_uid: hashlib.sha256(s.data_set).hexdigest() for s in study
    }
    assert eventually(lambda: tls_node.rows() == (expected if files else {}))


@needs_openssl
def test_dcmtk_without_a_certificate_is_not_let_in(
    tls_node: Node, authority: Authority
) -> None:
    anonymous = ["+tla", "+cf", authority.certificate]

    assert run("echoscu", tls_node, tls=anonymous) != 0
