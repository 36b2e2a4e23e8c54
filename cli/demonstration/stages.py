"""The stages of a study, as the index's own timeline tells of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from core.database import events
from core.database.engine import Database
from core.database.jobs import jobs_of_study
from core.database.studies import study_by_uid
from core.lifecycle import JobState

__all__ = ["STAGES", "StageReached", "Watched"]

STAGES = {
    "first instance": ("received", "first instance indexed"),
    "settled": ("settled", "because {}"),
    "queued": ("queued", "for {}"),
    "started": ("started", "{}"),
    "read": ("read", "{}"),
    "report stored": ("reported", "structured report written and checked"),
    "delivered": ("delivered", "to {} by C-STORE"),
    "attempt ended": ("attempt ended", "{}; the job is queued again"),
    "failed": ("failed", "{}"),
    "delivery failed": ("delivery failed", "to {}"),
}
"""Event of the timeline to the word that is shown, and what is said of its detail."""


@dataclass(frozen=True)
class StageReached:
    """A study has come to a stage."""

    study_instance_uid: str
    stage: str
    at: float
    """Seconds since 1970, UTC."""
    detail: str


@dataclass
class Watched:
    """What is known of one study while it is watched."""

    study_instance_uid: str
    reached: list[StageReached] = field(default_factory=list)
    """In the order of their times."""
    no_job_reason: str | None = None
    open_jobs: int = 0
    _seen: int = 0

    def look(self, database: Database) -> Iterator[StageReached]:
        """Return the stages that are new since the last look."""
        with database.read() as connection:
            row = study_by_uid(connection, self.study_instance_uid)
            if row is None:
                return
            rows = events.events_of_study(connection, row.id)
            jobs = jobs_of_study(connection, row.id)
        self.no_job_reason = row.no_job_reason
        finished = (JobState.REPORTED, JobState.FAILED, JobState.DISMISSED)
        self.open_jobs = sum(job.state not in finished for job in jobs)
        new, self._seen = rows[self._seen :], len(rows)
        for event in new:
            if event.name in STAGES:
                stage, words = STAGES[event.name]
                found = StageReached(
                    self.study_instance_uid,
                    stage,
                    event.at,
                    words.format(event.detail or ""),
                )
                self.reached.append(found)
                yield found

    def has_reached(self, *stages: str) -> bool:
        """Tell whether the study has come to one of `stages`."""
        return any(one.stage in stages for one in self.reached)

    @property
    def waits_for(self) -> str:
        """What comes next, in words for the progress line."""
        return next(
            (words for stage, words in _NEXT if self.has_reached(stage)),
            "the node indexes what it received",
        )


_NEXT: Sequence[tuple[str, str]] = (
    ("delivered", "the report arrives"),
    ("reported", "the report is delivered"),
    ("read", "the report is written"),
    ("started", "the model reads (TensorFlow starts the first time)"),
    ("queued", "a worker takes the job (it starts up the first time)"),
    ("settled", "rules choose a model"),
    ("received", "silence for 1 s settles the study"),
)
