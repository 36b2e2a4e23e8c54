"""Every state of a study, a job and a delivery, and the only ways from one to another.

Rule 1: a state changes only by an event, through the table below. Rule 2: an event that
the table does not know for a state raises and changes nothing. The database applies the
same table with fenced updates (`WHERE id = ? AND state = ? AND lease_token = ?`).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from core.errors import IllegalTransition

__all__ = [
    "ASSESSMENT_TRANSITIONS",
    "DELIVERY_TRANSITIONS",
    "FAILURE_REPORT_CLAIMED",
    "FAILURE_REPORT_LOST",
    "JOB_TRANSITIONS",
    "STUDY_TRANSITIONS",
    "AssessmentEvent",
    "AssessmentState",
    "DeliveryEvent",
    "DeliveryState",
    "FailureReport",
    "JobEvent",
    "JobState",
    "StudyEvent",
    "StudyState",
    "next_state",
]


class StudyState(StrEnum):
    """Whether a study is still being received."""

    RECEIVING = "receiving"
    SETTLED = "settled"


class StudyEvent(StrEnum):
    """What happens to a study."""

    INSTANCE_STORED = "instance stored"
    SETTLE = "settle"


class JobState(StrEnum):
    """How far one reading of one content set by one model has come."""

    QUEUED = "queued"
    RUNNING = "running"
    INFERRED = "inferred"
    """The reading is committed; only its report is missing."""
    REPORTED = "reported"
    """The report is stored and its deliveries are due."""
    FAILED = "failed"
    DISMISSED = "dismissed"


class JobEvent(StrEnum):
    """What happens to a job."""

    CLAIM = "claim"
    READING_COMMITTED = "reading committed"
    REPORT_STORED = "report stored"
    GIVE_BACK = "give back"
    """Its worker died, lost the lease or was asked to stop; it runs again."""
    FAIL = "fail"
    RETRY = "retry"
    DISMISS = "dismiss"


class DeliveryState(StrEnum):
    """How far one report has come on its way to one destination."""

    HELD = "held"
    """Leaves only after a reader's decision (`review.hold`)."""
    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"
    GIVEN_UP = "given up"


class DeliveryEvent(StrEnum):
    """What happens to a delivery."""

    START = "start"
    ACCEPTED = "accepted"
    POSTPONE = "postpone"
    FAIL = "fail"
    RETRY = "retry"
    GIVE_UP = "give up"
    RELEASE = "release"
    HOLD = "hold"
    """The decision that released it was taken back."""


class AssessmentState(StrEnum):
    """How far a decision on a result is from being the last word.

    That it reached a destination is the delivery's state, not a second one here.
    """

    DECIDED = "decided"
    """Its document is stored and due when the time for taking it back is over."""
    UNDONE = "undone"
    """Taken back before anything left; the row stays, its document is gone."""
    SUPERSEDED = "superseded"
    """Somebody decided anew; the newer document names this one as predecessor."""


class AssessmentEvent(StrEnum):
    """What happens to a decision."""

    UNDO = "undo"
    SUPERSEDE = "supersede"
    RESTORE = "restore"
    """The newer decision was taken back."""


class FailureReport(StrEnum):
    """How far the report is that tells of a failed job.

    It is tried twice and no more: the study may be poison for its writer, too.
    """

    PENDING = "pending"
    WRITING = "writing"
    PENDING_AGAIN = "pending again"
    WRITING_AGAIN = "writing again"


FAILURE_REPORT_CLAIMED: Mapping[FailureReport, FailureReport] = {
    FailureReport.PENDING: FailureReport.WRITING,
    FailureReport.PENDING_AGAIN: FailureReport.WRITING_AGAIN,
}

FAILURE_REPORT_LOST: Mapping[FailureReport, FailureReport | None] = {
    FailureReport.WRITING: FailureReport.PENDING_AGAIN,
    FailureReport.WRITING_AGAIN: None,
}


STUDY_TRANSITIONS: Mapping[tuple[StudyState, StudyEvent], StudyState] = {
    (StudyState.RECEIVING, StudyEvent.INSTANCE_STORED): StudyState.RECEIVING,
    (StudyState.RECEIVING, StudyEvent.SETTLE): StudyState.SETTLED,
    # A late instance reopens the study; settling again makes a new content set.
    (StudyState.SETTLED, StudyEvent.INSTANCE_STORED): StudyState.RECEIVING,
}

JOB_TRANSITIONS: Mapping[tuple[JobState, JobEvent], JobState] = {
    (JobState.QUEUED, JobEvent.CLAIM): JobState.RUNNING,
    (JobState.QUEUED, JobEvent.FAIL): JobState.FAILED,
    (JobState.QUEUED, JobEvent.DISMISS): JobState.DISMISSED,
    (JobState.RUNNING, JobEvent.READING_COMMITTED): JobState.INFERRED,
    (JobState.RUNNING, JobEvent.GIVE_BACK): JobState.QUEUED,
    (JobState.RUNNING, JobEvent.FAIL): JobState.FAILED,
    (JobState.INFERRED, JobEvent.REPORT_STORED): JobState.REPORTED,
    (JobState.INFERRED, JobEvent.GIVE_BACK): JobState.QUEUED,
    (JobState.INFERRED, JobEvent.FAIL): JobState.FAILED,
    (JobState.FAILED, JobEvent.RETRY): JobState.QUEUED,
    (JobState.FAILED, JobEvent.DISMISS): JobState.DISMISSED,
    (JobState.DISMISSED, JobEvent.RETRY): JobState.QUEUED,
}

DELIVERY_TRANSITIONS: Mapping[tuple[DeliveryState, DeliveryEvent], DeliveryState] = {
    (DeliveryState.HELD, DeliveryEvent.RELEASE): DeliveryState.WAITING,
    (DeliveryState.HELD, DeliveryEvent.GIVE_UP): DeliveryState.GIVEN_UP,
    (DeliveryState.WAITING, DeliveryEvent.HOLD): DeliveryState.HELD,
    (DeliveryState.WAITING, DeliveryEvent.START): DeliveryState.SENDING,
    (DeliveryState.WAITING, DeliveryEvent.GIVE_UP): DeliveryState.GIVEN_UP,
    (DeliveryState.SENDING, DeliveryEvent.ACCEPTED): DeliveryState.DELIVERED,
    (DeliveryState.SENDING, DeliveryEvent.POSTPONE): DeliveryState.WAITING,
    (DeliveryState.SENDING, DeliveryEvent.FAIL): DeliveryState.FAILED,
    (DeliveryState.FAILED, DeliveryEvent.RETRY): DeliveryState.WAITING,
    (DeliveryState.FAILED, DeliveryEvent.GIVE_UP): DeliveryState.GIVEN_UP,
    (DeliveryState.GIVEN_UP, DeliveryEvent.RETRY): DeliveryState.WAITING,
}

ASSESSMENT_TRANSITIONS: Mapping[
    tuple[AssessmentState, AssessmentEvent], AssessmentState
] = {
    (AssessmentState.DECIDED, AssessmentEvent.UNDO): AssessmentState.UNDONE,
    (AssessmentState.DECIDED, AssessmentEvent.SUPERSEDE): AssessmentState.SUPERSEDED,
    (AssessmentState.SUPERSEDED, AssessmentEvent.RESTORE): AssessmentState.DECIDED,
}


State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


def next_state(
    transitions: Mapping[tuple[State, Event], State], state: State, event: Event
) -> State:
    """Look up where `event` leads from `state`.

    Raises
    ------
    IllegalTransition
        If the table has no such pair.
    """
    try:
        return transitions[(state, event)]
    except KeyError:
        raise IllegalTransition(
            f"{type(state).__name__} {state.value!r} does not accept "
            f"{event.value!r}; nothing was changed"
        ) from None
