from itertools import product

import pytest

from core.errors import IllegalTransition
from core.lifecycle import (
    ASSESSMENT_TRANSITIONS,
    DELIVERY_TRANSITIONS,
    JOB_TRANSITIONS,
    STUDY_TRANSITIONS,
    AssessmentEvent,
    AssessmentState,
    DeliveryEvent,
    DeliveryState,
    JobEvent,
    JobState,
    StudyEvent,
    StudyState,
    next_state,
)

MACHINES = [
    (STUDY_TRANSITIONS, StudyState, StudyEvent),
    (JOB_TRANSITIONS, JobState, JobEvent),
    (DELIVERY_TRANSITIONS, DeliveryState, DeliveryEvent),
    (ASSESSMENT_TRANSITIONS, AssessmentState, AssessmentEvent),
]
PAIRS = [
    pytest.param(table, state, event, id=f"{state}-{event}")
    for table, states, events in MACHINES
    for state, event in product(states, events)
]


@pytest.mark.parametrize(("table", "state", "event"), PAIRS)
def test_every_pair_of_state_and_event_is_either_in_the_table_or_refused(
    table, state, event
):
    if (state, event) in table:
        assert next_state(table, state, event) is table[state, event]
    else:
        with pytest.raises(IllegalTransition, match="nothing was changed"):
            next_state(table, state, event)


@pytest.mark.parametrize(("table", "states", "events"), MACHINES)
def test_every_state_and_every_event_is_used(table, states, events):
    reached = {state for state, _ in table} | set(table.values())

    assert reached == set(states)
    assert {event for _, event in table} == set(events)


def test_a_reported_job_accepts_nothing_so_its_report_stays_the_only_one():
    accepted = [event for state, event in JOB_TRANSITIONS if state is JobState.REPORTED]

    assert accepted == []
