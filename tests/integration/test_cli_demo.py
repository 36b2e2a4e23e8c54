"""`secondread demo` as a user runs it, from the folder to the report that came back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
CT_SERIES = ROOT.parent / "shared" / "data" / "dicom" / "series" / "torchio-ct-series"


def demo(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SECONDREAD_")
    }
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", *arguments],
        cwd=cwd,
        env={**inherited, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_phantoms_report_comes_back_over_the_network(tmp_path: Path):
    result = demo("--json", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    (study,) = document["studies"]
    (path,) = study["arrived"]
    report = dcmread(path)
    assert report.Modality == "SR"
    assert report.StudyInstanceUID == study["study_instance_uid"]
    assert "PHANTOM" in str(report.PatientName)
    (reading,) = study["readings"]
    assert reading["outcome"] == "analysed"
    stages = [step["stage"] for step in document["steps"]]
    wanted = ["received", "settled", "queued", "started", "read", "reported"]
    wanted += ["delivered", "arrived"]
    assert [stage for stage in stages if stage in wanted] == wanted


@pytest.mark.skipif(not CT_SERIES.is_dir(), reason="the shared CT series is not there")
def test_what_no_model_reads_comes_back_as_not_analysed(tmp_path: Path):
    result = demo("--input", str(CT_SERIES), cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert "not-analysed: wrong-sop-class" in result.stdout
    assert "Not analysed: wrong-sop-class" in result.stdout  # in the report's tree


def test_what_is_no_image_is_refused_and_leaves_nothing(tmp_path: Path):
    notes = tmp_path / "notes.txt"
    notes.write_text("no image")

    result = demo("--input", str(notes), cwd=tmp_path)

    assert result.returncode == 1
    assert "no DICOM, JPEG or PNG file" in result.stderr
    assert list((tmp_path / "secondread-demo").iterdir()) == []


def test_a_demonstration_reaches_into_no_installation_that_this_shell_is_set_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from cli.demonstration.place import open_place

    monkeypatch.setenv("SECONDREAD_DATABASE__URL", "sqlite:////somewhere/else.sqlite")
    monkeypatch.setenv("SECONDREAD_NODE__AE_TITLE", "HOSPITAL")

    with open_place(tmp_path / "demo", keep=False) as place:
        settings = place.settings

    assert settings.database.url is None
    assert settings.node.ae_title == "SECONDREAD"
    assert os.environ["SECONDREAD_NODE__AE_TITLE"] == "HOSPITAL"
    assert not (tmp_path / "demo").exists()
