import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from rich.console import Console

from cli.demonstration.place import open_place
from cli.demonstration.progress import Progress
from cli.demonstration.stages import Watched
from cli.demonstration.study import phantom_study, studies_from
from core.errors import InvalidInstance
from tests.unit.cli.conftest import ANALYSED


def picture(path: Path) -> Path:
    Image.fromarray(np.full((64, 48), 128, np.uint8)).save(path)
    return path


def test_a_picture_becomes_a_radiograph_that_says_phantom(tmp_path):
    given = picture(tmp_path / "chest.png")

    made = studies_from(given, tmp_path / "sent")

    dataset = dcmread(made.files[0])
    assert (dataset.Rows, dataset.Columns) == (64, 48)
    assert "PHANTOM" in str(dataset.PatientName)
    assert made.study_instance_uids == (dataset.StudyInstanceUID,)


def test_pictures_of_a_folder_are_studies_of_their_own(tmp_path):
    (tmp_path / "in" / "below").mkdir(parents=True)
    picture(tmp_path / "in" / "chest.png")
    picture(tmp_path / "in" / "below" / "chest.png")

    made = studies_from(tmp_path / "in", tmp_path / "sent")

    assert len(set(made.study_instance_uids)) == 2
    assert len(set(made.files)) == 2


def test_a_dicom_file_is_sent_as_it_is(tmp_path):
    path = phantom_study(tmp_path, opacity=False).files[0]

    made = studies_from(path, tmp_path / "sent")

    assert made.files == (path,)
    assert not (tmp_path / "sent").exists()


def test_each_phantom_is_a_study_of_its_own(tmp_path):
    first = phantom_study(tmp_path, opacity=True)
    second = phantom_study(tmp_path, opacity=True)

    assert first.study_instance_uids != second.study_instance_uids


@pytest.mark.parametrize("name", ["notes.txt", "chest.png"])
def test_what_is_no_image_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("no image")

    with pytest.raises(InvalidInstance, match="JPEG"):
        studies_from(path, tmp_path / "sent")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InvalidInstance, match="a folder without"):
        studies_from(tmp_path, tmp_path / "sent")


def test_each_demonstration_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with open_place(None, keep=True) as first, open_place(None, keep=True) as second:
        folders = [place.settings.data_dir.name for place in (first, second)]

    assert folders == ["1", "2"]


def test_a_folder_that_was_there_before_is_never_removed(tmp_path):
    with open_place(tmp_path, keep=False):
        pass

    assert tmp_path.exists()


def test_a_watched_study_tells_each_stage_once(index):
    index.report("1.2.1", ANALYSED)
    watched = Watched("1.2.1")

    first = [one.stage for one in watched.look(index.database)]
    second = [one.stage for one in watched.look(index.database)]

    assert first == [
        "received", "settled", "queued", "started", "read", "reported", "delivered",
    ]  # fmt: skip
    assert second == []
    assert watched.open_jobs == 0


def test_a_stage_is_timed_from_the_stage_before_of_the_same_study(monkeypatch):
    monkeypatch.setattr("cli.demonstration.progress.time.time", lambda: 100.0)
    progress = Progress(Console(file=io.StringIO()))

    progress.step("sending", "1 instance", at=103.0)
    progress.step("done", "", at=104.5)

    assert [step["took_s"] for step in progress.steps] == [3.0, 1.5]
    assert [step["since_start_s"] for step in progress.steps] == [3.0, 4.5]
