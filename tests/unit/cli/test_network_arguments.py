from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.main import app
from cli.network import Address, dicom_files_of, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("pacs.example:104", Address("pacs.example", 104)),
        (":11112", Address("127.0.0.1", 11112)),
        ("[::1]:104", Address("::1", 104)),
    ],
)
def test_an_address_is_host_and_port(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["pacs", "pacs:", "pacs:dicom", "pacs:0", "pacs:70000"]
)
def test_what_is_no_address_is_a_usage_error(text):
    with pytest.raises(typer.BadParameter):
        parse_address(text)


def test_an_address_reads_as_it_was_typed():
    assert str(Address("::1", 104)) == "[::1]:104"


def _dicom(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM")
    return path


def test_of_a_folder_the_dicom_files_are_sent(tmp_path):
    inner = _dicom(tmp_path / "a" / "b" / "1.dcm")
    _dicom(tmp_path / "DICOMDIR")
    (tmp_path / "notes.txt").write_text("nothing")

    assert dicom_files_of([tmp_path]) == [inner]


def test_a_file_that_is_named_is_sent_whatever_it_is(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("nothing")

    assert dicom_files_of([path, path]) == [path]


@pytest.mark.parametrize(
    "words",
    [
        ["--tls-ca", "ca.pem"],
        ["--tls-any-name"],
        ["--tls"],  # this installation has no TLS port
    ],
)
def test_what_does_not_go_together_about_tls_is_a_usage_error(tmp_path, words):
    given = ["echo", *words, "--data-dir", str(tmp_path)]

    result = CliRunner().invoke(app, given)

    assert result.exit_code == 2
    assert "tls" in result.output.lower()
