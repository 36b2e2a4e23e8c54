"""The same facts for programs, without a patient in them."""

import csv
import io
import re

import pytest

from core.assessment import Decision, FindingChange
from core.database import accounts
from core.database.accounts import NewAccount, Role
from core.domain import Presence
from review.application import review_application
from review.pages.api import OPENAPI
from review.worklist_writer import WorklistWriter
from tests.unit.review.test_access import HASH, Visitor

MARKER = "MARKERNAME"


@pytest.fixture
def application(settings, installation):
    made = review_application(settings, installation.database)
    yield made
    made.state.office.previews.close()


@pytest.fixture
def reader(installation, application):
    with installation.database.write() as connection:
        accounts.add_account(
            connection, NewAccount("jdoe", "Doe", "Jane", Role.READER, HASH)
        )
    visitor = Visitor(application)
    visitor.log_in()
    return visitor


@pytest.fixture
def uid(installation, look, decide):
    uid = installation.read("one", PatientName=f"{MARKER}^Jane", PatientID=MARKER)
    change = FindingChange(Presence.ABSENT, None, None)
    decide(look(uid), Decision.AMENDED, changes={"pneumonia": change})
    installation.read("two")
    WorklistWriter(installation.database, installation.store).catch_up()
    return uid


def paths(uid):
    return [path.replace("{study}", uid) for path in OPENAPI["paths"]]


def test_every_path_of_the_document_answers_and_names_no_patient(reader, uid):
    for path in paths(uid):
        answer = reader.get(path)
        (described,) = [
            one for one in OPENAPI["paths"] if path == one.replace("{study}", uid)
        ]
        media = OPENAPI["paths"][described]["get"]["responses"]["200"]["content"]

        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] in media
        assert MARKER not in answer.text


def test_every_path_of_the_application_is_in_the_document(application, reader):
    served = {
        route.path for route in application.routes if route.path.startswith("/api/")
    }

    assert served == {*OPENAPI["paths"], "/api/openapi.json"}
    assert reader.get("/api/openapi.json").json() == OPENAPI


def test_without_a_session_there_is_nothing(application, uid):
    for path in paths(uid):
        assert Visitor(application).get(path).status_code == 303


def test_results_are_narrowed_and_counted(reader, uid):
    answer = reader.get("/api/results?state=amended").json()

    assert [row["study_instance_uid"] for row in answer["results"]] == [uid]
    assert answer["by_state"] == {"amended": 1, "unreviewed": 1}


@pytest.mark.parametrize(
    "query", ["state=nonsense", "sort=nonsense", "page=-1", "page=x"]
)
def test_a_question_that_is_none_is_refused_with_a_sentence(reader, query):
    answer = reader.get(f"/api/results?{query}")

    assert answer.status_code == 400
    assert re.fullmatch(r".+ .+", answer.json()["error"])


def test_a_study_tells_what_was_said_and_where_its_reports_are(reader, uid):
    answer = reader.get(f"/api/studies/{uid}").json()

    (result,) = answer["results"]
    (made,) = result["assessments"]
    assert made["assessment"]["decision"] == "amended"
    assert [report["kind"] for report in answer["reports"]] == [
        "reading",
        "assessment 1",
    ]
    assert answer["reports"][0]["deliveries"][0]["state"] == "delivered"
    assert reader.get("/api/studies/1.2.3").status_code == 404


def test_the_export_has_the_readers_answer_beside_the_models(reader, uid):
    text = reader.get("/api/assessments.csv").text

    (row,) = csv.DictReader(io.StringIO(text))
    assert row["study_instance_uid"] == uid
    assert (row["model_answer"], row["reader_answer"]) == ("present", "absent")
    assert float(row["probability"]) == pytest.approx(0.91)
