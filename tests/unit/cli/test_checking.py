import json
import socket

import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from cli.health import installation, machine
from cli.health.check import Level
from core.settings import (
    DestinationSettings,
    NodeSettings,
    QueueSettings,
    RuleSettings,
    Settings,
    StoreSettings,
    TlsSettings,
)


def only(checks):
    (check,) = checks
    return check


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_free_port_is_in_order(tmp_path, taken_port):
    settings = Settings(data_dir=tmp_path, node=NodeSettings(port=0))

    assert only(machine.check_port(settings)).level is Level.OK


def test_a_port_that_another_program_has_is_a_failure(
    tmp_path, taken_port, monkeypatch
):
    from dicom_node.senders import c_echo

    silent = c_echo.EchoResult(False, 0.0, "no answer")
    monkeypatch.setattr(c_echo, "echo", lambda *_a, **_k: silent)
    settings = Settings(data_dir=tmp_path, node=NodeSettings(port=taken_port))

    check = only(machine.check_port(settings))

    assert check.level is Level.FAIL
    assert str(taken_port) in check.finding


def test_a_disk_below_the_low_water_mark_is_a_failure(tmp_path):
    settings = Settings(
        data_dir=tmp_path / "not there yet", store=StoreSettings(low_water_bytes=10**18)
    )

    assert only(machine.check_disk(settings)).level is Level.FAIL


def test_a_data_directory_that_everybody_can_enter_is_warned_of(tmp_path):
    tmp_path.chmod(0o755)

    check = only(machine.check_data_directory(Settings(data_dir=tmp_path)))

    assert check.level is Level.WARN
    assert check.action.startswith("chmod 700")


def test_the_installed_versions_are_at_their_floors():
    assert only(machine.check_versions()).level is Level.OK


def test_a_library_below_its_floor_is_a_failure(monkeypatch):
    monkeypatch.setattr(machine.metadata, "version", lambda _name: "0.0.1")

    check = only(machine.check_versions())

    assert check.level is Level.FAIL
    assert "pydicom 0.0.1 (pydicom>=3.0.2 is asked for)" in check.finding


def test_failed_work_is_warned_of_with_what_to_do(index, data_dir):
    index.fail("1.2.1")

    checks = list(installation.check_index(Settings(data_dir=data_dir)))

    assert [check.level for check in checks] == [Level.OK, Level.WARN]
    assert "retry --failed" in checks[1].action


def test_a_broker_that_does_not_answer_is_a_failure_without_its_password(tmp_path):
    url = "redis://me:secret@127.0.0.1:1/0"
    settings = Settings(data_dir=tmp_path, queue=QueueSettings(broker_url=url))

    check = only(installation.check_broker(settings))

    assert check.level is Level.FAIL
    assert "secret" not in check.finding


def test_a_broken_model_package_is_a_failure(tmp_path):
    package = tmp_path / "models" / "broken"
    package.mkdir(parents=True)
    (package / "bundle.toml").write_text("format = 99\n")

    checks = list(installation.check_models(Settings(data_dir=tmp_path)))

    assert Level.FAIL in [check.level for check in checks]


def test_a_rule_that_cannot_be_used_is_a_failure(tmp_path):
    rule = RuleSettings(name="odd", when={"NoSuchAttribute": "1"})

    check = only(installation.check_rules(Settings(data_dir=tmp_path, rules=(rule,))))

    assert check.level is Level.FAIL
    assert "odd" in check.finding


def test_a_destination_that_does_not_answer_is_a_failure(tmp_path):
    away = DestinationSettings(name="pacs", kind="stow", url="http://127.0.0.1:1/dicom")

    check = only(
        installation.check_destinations(
            Settings(data_dir=tmp_path, destinations=(away,))
        )
    )

    assert check.level is Level.FAIL


def test_the_doctor_ends_with_1_when_something_fails(secondread, data_dir, monkeypatch):
    monkeypatch.setenv("SECONDREAD_STORE__LOW_WATER_BYTES", str(10**18))
    monkeypatch.setenv("SECONDREAD_NODE__PORT", "0")

    result = secondread("doctor", "--json")

    levels = {one["name"]: one["level"] for one in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert levels["disk"] == "FAIL"
    assert levels["versions"] == "OK"


@pytest.fixture
def radiograph(tmp_path):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality = "DX"
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_rules_test_tells_which_rule_fires_and_why(secondread, radiograph):
    result = secondread("rules", "test", str(radiograph))

    assert result.exit_code == 0
    assert "Rule 'radiographs to every model' fires" in result.stdout
    assert "found: DX" in result.stdout


def test_rules_test_says_when_nothing_would_be_read(
    secondread, radiograph, monkeypatch
):
    rule = [{"name": "CT only", "when": {"Modality": "CT"}}]
    monkeypatch.setenv("SECONDREAD_RULES", json.dumps(rule))

    result = secondread("rules", "test", str(radiograph))

    assert "Rule 'CT only' does not fire" in result.stdout
    assert "would be kept and not be read" in result.stdout


def test_rules_test_takes_the_calling_ae_title(secondread, radiograph, monkeypatch):
    rule = [{"name": "from CT1", "when": {"calling_ae_title": "CT1"}}]
    monkeypatch.setenv("SECONDREAD_RULES", json.dumps(rule))

    document = secondread(
        "rules", "test", str(radiograph), "--calling", "CT1", "--json"
    ).stdout

    assert json.loads(document)[0]["fires"] is True


def test_models_list_ends_with_1_for_a_refused_package(secondread, data_dir):
    package = data_dir / "models" / "broken"
    package.mkdir(parents=True)
    (package / "bundle.toml").write_text("format = 99\n")

    result = secondread("models", "list", "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert "format" in document["refused"][0]["reason"]


def tls_settings(tmp_path, **tls) -> TlsSettings:
    files = {"certificate_file": tmp_path / "c", "key_file": tmp_path / "k"}
    return TlsSettings(port=2762, require_client_certificate=False, **files, **tls)


def test_without_a_tls_port_nothing_is_said_of_tls(tmp_path):
    assert list(machine.check_tls(Settings(data_dir=tmp_path))) == []


def test_certificates_that_cannot_be_used_are_a_failure(tmp_path):
    settings = Settings(data_dir=tmp_path, tls=tls_settings(tmp_path))

    check = only(machine.check_tls(settings))

    assert check.level is Level.FAIL
    assert "tls.certificate_file" in check.finding


def test_a_plain_port_that_is_closed_is_in_order_whoever_listens_there(
    tmp_path, taken_port
):
    settings = Settings(
        data_dir=tmp_path,
        node=NodeSettings(port=taken_port),
        tls=tls_settings(tmp_path, only=True),
    )

    assert only(machine.check_port(settings)).level is Level.OK
    assert settings.dicom_ports == {"tls.port": 2762}
