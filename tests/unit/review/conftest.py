"""An installation with read studies, its desk, and the people at it."""

import pytest

from core.assessment import Decision, Reader, assess
from core.settings import DestinationSettings, Settings
from review.decisions import Actor, Desk, results_of_study
from tests.read_studies import ReadStudies

JANE = Reader("jdoe", "Doe", "Jane", "Department of Radiology")
RICHARD = Reader("rroe", "Roe", "Richard", "Department of Radiology")


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = 2_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path, destinations=(DestinationSettings(name="pacs"),))


@pytest.fixture
def installation(settings):
    made = ReadStudies(settings)
    yield made
    made.close()


@pytest.fixture
def desk(settings, installation, clock):
    return Desk(settings, installation.database, clock=clock)


@pytest.fixture
def look(installation):
    """Look at the one result of a study as a reader does."""

    def look(study_instance_uid):
        (result,) = results_of_study(installation.database, study_instance_uid)
        return result

    return look


@pytest.fixture
def decide(desk):
    """Let a reader decide on what they looked at."""

    def decide(result, decision=Decision.ACCEPTED, reader=JANE, **options):
        if decision in (Decision.REJECTED, Decision.WITHDRAWN):
            options.setdefault("comment", "Rotated.")
        made = assess(result.reading, decision, reader, **options)
        actor = Actor(reader.login, "127.0.0.1")
        if decision is Decision.WITHDRAWN:
            return desk.withdraw(result, made, actor, for_safety=False)
        return desk.decide(result, made, actor)

    return decide
