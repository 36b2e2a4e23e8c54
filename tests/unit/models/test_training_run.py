"""From a folder of images to a measured bundle, on a task a tiny network can learn."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from core.errors import InvalidSettings
from models.evaluation import evaluate, evaluate_out_of_fold
from models.specification import InputSpecification
from models.training.plan import TrainingPlan

PLAN = TrainingPlan(
    input=InputSpecification(rows=16, columns=16),
    stages=((4, 1),),
    folds=2,
    epochs=1,
    batch_size=8,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    with (folder / "index.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["file", "label", "patient_id"])
        for number in range(24):
            bright = number % 2
            noise = random.normal(60 + 130 * bright, 15, (20, 24)).clip(0, 255)
            Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number}.png")
            label = "pneumonia" if bright else "normal"
            writer.writerow([f"{number}.png", label, f"patient-{number // 4}"])
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    from models.training.run import train

    work = tmp_path_factory.mktemp("work")
    reports = []
    return train(data, work, PLAN, report=reports.append), work, reports


def test_a_run_leaves_a_network_and_a_logit_for_every_film(run):
    result, _, reports = run

    with result.out_of_fold.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert result.model.is_file()
    assert len(rows) == 24
    assert all(np.isfinite(float(row["logit"])) for row in rows)
    assert [one.part for one in reports] == ["fold-1", "fold-2", "final"]


def test_a_finished_run_is_not_computed_again(run, data):
    from models.training.run import train

    result, work, _ = run
    before = result.out_of_fold.read_bytes()
    reports = []

    again = train(data, work, PLAN, report=reports.append)

    assert reports == []
    assert again.out_of_fold.read_bytes() == before


def test_another_plan_does_not_continue_a_run(run, data):
    from models.training.run import train

    with pytest.raises(InvalidSettings, match="another run"):
        train(data, run[1], replace(PLAN, seed=1))


def test_held_out_figures_come_with_those_of_each_fold(run):
    figures = evaluate_out_of_fold(run[0].out_of_fold)

    assert figures["images"] == 24
    assert figures["patients"] == 6
    assert len(figures["folds"]) == 2
    assert 0 < figures["shipped"]["threshold"] < 1


def test_a_bundle_is_measured_on_a_folder_of_images(tiny_bundle, data):
    figures = evaluate(tiny_bundle.path, data)

    # The tiny network calls an image positive where its mean is above a half.
    assert figures["metrics"]["auc"]["value"] == 1
    assert figures["confusion"] == {
        "true_positive": 12,
        "false_positive": 0,
        "false_negative": 0,
        "true_negative": 12,
    }
    assert figures["bundle"]["name"] == "tiny-brightness"


def test_data_of_one_class_cannot_measure_a_model(tiny_bundle, data, tmp_path):
    (tmp_path / "index.csv").write_text("file,label,patient_id\na.png,normal,1\n")

    with pytest.raises(InvalidSettings, match="both positive and other"):
        evaluate(tiny_bundle.path, tmp_path)
