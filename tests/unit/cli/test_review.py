"""Decisions from the command line."""

import getpass
import json

import pytest

from core.settings import DestinationSettings, Settings
from tests.read_studies import ReadStudies


@pytest.fixture
def studies(data_dir):
    made = ReadStudies(
        Settings(data_dir=data_dir, destinations=(DestinationSettings(name="pacs"),))
    )
    yield made
    made.close()


@pytest.fixture
def uid(studies):
    return studies.read("one")


def test_the_list_holds_what_waits_for_a_reader_and_all_says_the_rest(uid, secondread):
    waiting = json.loads(secondread("review", "list", "--json").stdout)
    secondread("review", "accept", uid, "--name", "Doe^Jane")

    assert [row["assessment"] for row in waiting] == ["unreviewed"]
    assert waiting[0]["answer"] == "Pneumonia present (91%)"
    assert json.loads(secondread("review", "list", "--json").stdout) == []
    everything = json.loads(secondread("review", "list", "--all", "--json").stdout)
    assert [(row["assessment"], row["by"]) for row in everything] == [
        ("accepted", getpass.getuser())
    ]


def test_accepting_tells_when_the_report_leaves_and_how_to_take_it_back(
    uid, secondread
):
    said = secondread("review", "accept", uid, "--name", "Doe^Jane").stderr

    assert "leaves in 10 s" in said
    assert "secondread review undo" in said


def test_an_amendment_takes_the_readers_answer(uid, studies, secondread):
    made = secondread(
        "review", "amend", uid, "--name", "Doe^Jane", "--finding", "pneumonia=absent",
        "--reason", "false-positive", "--json",
    )  # fmt: skip

    assert json.loads(made.stdout)["decision"] == "amended"
    assert studies.newest_document(uid).VerificationFlag == "VERIFIED"


def test_an_answer_that_is_none_is_refused_with_the_choice(uid, secondread):
    said = secondread(
        "review", "amend", uid, "--name", "Doe^Jane", "--finding", "pneumonia=maybe"
    )

    assert said.exit_code == 2
    assert "absent" in said.stderr


def test_rejecting_takes_a_reason(uid, in_a_process):
    without = in_a_process("review", "reject", uid, "--name", "Doe^Jane")
    with_one = in_a_process(
        "review", "reject", uid, "--name", "Doe^Jane", "--reason", "image-quality"
    )

    assert without.returncode == 1
    assert "for a reason" in without.stderr
    assert with_one.returncode == 0


def test_undo_takes_the_decision_back(uid, studies, secondread):
    secondread("review", "accept", uid, "--name", "Doe^Jane")
    undone = secondread("review", "undo", uid)

    assert undone.exit_code == 0
    assert [kind for kind, _ in studies.documents(uid)] == ["reading"]


def test_a_withdrawal_asks_first(uid, studies, secondread):
    arguments = (
        "review", "withdraw", uid, "--name", "Doe^Jane", "--reason", "wrong-patient",
    )  # fmt: skip

    assert secondread(*arguments, input="n\n").exit_code == 1
    assert len(studies.documents(uid)) == 1
    assert secondread(*arguments, "--yes").exit_code == 0
    assert studies.newest_document(uid).Modality == "KO"


def test_a_study_without_a_result_says_so(studies, in_a_process):
    uid = studies.receive(studies.image("two"))

    said = in_a_process("review", "accept", uid, "--name", "Doe^Jane")

    assert said.returncode == 1
    assert "has no AI result" in said.stderr
