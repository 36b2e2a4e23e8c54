"""From arriving instances to a settled study with its jobs.

Times are those of this process's monotonic clock, so a wall clock that jumps neither
settles a study too early nor holds it back. After a restart every open study counts as
arriving now. Settling, the content set, the jobs and their announcements are one
transaction: a study is never settled without its jobs, nor the other way round.
"""

import heapq
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, select

from core.database import events, jobs, studies
from core.database.engine import Database
from core.database.schema import instance
from core.domain import ModelIdentity
from core.errors import InvalidInstance
from core.lifecycle import StudyState
from core.log import get_log
from core.settings import Settings
from dicom_node.rules import Plan, build_rules, plan_readings, required_series
from dicom_node.series_header import SeriesHeader, read_series_header
from dicom_node.settlement import Evidence, Policy, policy_for, settle_reason

__all__ = ["Assembler", "InstanceFiles"]

LONGEST_PAUSE_S = 1.0
SHORTEST_PAUSE_S = 0.05


class InstanceFiles(Protocol):
    """Where the bytes of an instance lie."""

    def path_of(self, sha256: str) -> Path:
        """Return the path of the instance with this content."""
        ...


@dataclass
class _Arriving:
    """One study that is being received."""

    first_at: float
    last_at: float
    arrivals: int = 1
    judged: int = 0
    """How many arrivals the judgement below rests on."""
    policy: Policy | None = None
    missing: tuple[str, ...] = ()
    expected: int | None = None
    told: tuple[str, ...] = field(default=())
    """What the timeline already says is missing."""
    look_at: float = -math.inf
    """When it is to be judged next."""


class Assembler:
    """Watches studies arrive and settles them.

    Parameters
    ----------
    settings
        `assembly`, `sources`, `rules` and the names of `destinations`.
    database
        The index.
    files
        For the headers that rules look at.
    active_models
        Asked at each settling, so that a model activated meanwhile counts.
    clock
        Seconds that only go forward.
    on_jobs
        Called after a commit that queued jobs: wakes the publisher.

    Raises
    ------
    InvalidSettings
        If a rule or a source's required series cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        files: InstanceFiles,
        active_models: Callable[[], Sequence[ModelIdentity]],
        *,
        clock: Callable[[], float] = time.monotonic,
        on_jobs: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._files = files
        self._active_models = active_models
        self._clock = clock
        self._on_jobs = on_jobs
        self._rules = build_rules(settings.rules)
        self._required = [required_series(source) for source in settings.sources]
        self._lock = threading.Lock()
        self._arriving: dict[str, _Arriving] = {}
        # (when, Study Instance UID): so that a study costs the same however many others
        # are arriving. An entry counts if it is the one the study's row names.
        self._agenda: list[tuple[float, str]] = []

    def note_arrival(self, study_instance_uid: str) -> None:
        """Start a study's quiet time again; called once an instance is in the index."""
        now = self._clock()
        with self._lock:
            known = self._arriving.get(study_instance_uid)
            if known is None:
                known = self._arriving[study_instance_uid] = _Arriving(now, now)
                self._look_at(study_instance_uid, known, now)
                return
            known.last_at = now
            known.arrivals += 1
            if known.policy is not None:
                at = now if _counts(known.policy) else now + known.policy.quiet_time_s
                if at < known.look_at:
                    self._look_at(study_instance_uid, known, at)

    def _look_at(self, uid: str, arriving: _Arriving, at: float) -> None:
        """Put a study on the agenda; the lock is held."""
        arriving.look_at = at
        heapq.heappush(self._agenda, (at, uid))

    def resume(self) -> int:
        """Take up every study that is being received and not watched here.

        At start-up these are all of them. Later it finds what a failed call of
        `note_arrival` would have left behind.

        Returns
        -------
        How many were taken up.
        """
        with self._database.read() as connection:
            rows = studies.studies_in_state(connection, StudyState.RECEIVING)
        now = self._clock()
        with self._lock:
            new = [row for row in rows if row.study_instance_uid not in self._arriving]
            for row in new:
                policy = policy_for(self._settings, row.calling_ae_title)
                arriving = _Arriving(now, now, policy=policy)
                self._arriving[row.study_instance_uid] = arriving
                self._look_at(
                    row.study_instance_uid, arriving, _next_look(arriving, now)
                )
        return len(new)

    def tick(self) -> float:
        """Settle what is due.

        Returns
        -------
        Seconds until there may be something to do again.
        """
        now = self._clock()
        due = self._take_due(now)
        try:
            for uid in due:
                self._consider(uid)
        finally:
            with self._lock:
                self._put_back(due, now)
                next_at = self._agenda[0][0] if self._agenda else math.inf
        return min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, next_at - now))

    def _take_due(self, now: float) -> list[str]:
        """Take from the agenda what is to be judged now."""
        due = []
        with self._lock:
            while self._agenda and self._agenda[0][0] <= now:
                at, uid = heapq.heappop(self._agenda)
                arriving = self._arriving.get(uid)
                if arriving is not None and arriving.look_at == at:
                    due.append(uid)
        return due

    def _put_back(self, uids: Sequence[str], now: float) -> None:
        """Put what is still arriving on the agenda again; the lock is held."""
        for uid in uids:
            arriving = self._arriving.get(uid)
            if arriving is not None:
                self._look_at(uid, arriving, _next_look(arriving, now))

    def _consider(self, uid: str) -> None:
        """Judge one study, and settle it if it is complete."""
        with self._lock:
            arriving = self._arriving[uid]
            last_at, arrivals = arriving.last_at, arriving.arrivals
        now = self._clock()
        policy = arriving.policy
        if policy is not None and not self._worth_a_look(arriving, policy, now):
            return
        with self._database.read() as connection:
            row = studies.study_by_uid(connection, uid)
        if row is None or row.state is not StudyState.RECEIVING:
            self._forget(uid, arrivals)
            return
        if policy is None:
            policy = policy_for(self._settings, row.calling_ae_title)
            arriving.policy = policy
        self._look(arriving, policy, row, arrivals=arrivals)
        reason = settle_reason(
            Evidence(
                quiet_for_s=now - last_at,
                age_s=now - arriving.first_at,
                instance_count=row.instance_count,
                expected_instances=arriving.expected,
                missing=arriving.missing,
            ),
            policy,
        )
        if reason is not None and self._settle(row, reason):
            self._forget(uid, arrivals)
        elif now - last_at >= policy.quiet_time_s:
            self._tell_what_is_missing(row, arriving, policy)

    def _worth_a_look(self, arriving: _Arriving, policy: Policy, now: float) -> bool:
        if arriving.judged != arriving.arrivals and _counts(policy):
            return True
        if now - arriving.first_at >= policy.hard_cap_s:
            return True
        quiet = now - arriving.last_at >= policy.quiet_time_s
        # Once silence was not enough, only a new instance can change the judgement.
        return quiet and not (arriving.told and arriving.judged == arriving.arrivals)

    def _forget(self, uid: str, arrivals: int) -> None:
        with self._lock:
            known = self._arriving.get(uid)
            # An instance that came meanwhile has opened the study again.
            if known is not None and known.arrivals == arrivals:
                del self._arriving[uid]
            elif known is not None:
                self._arriving[uid] = _Arriving(known.last_at, known.last_at)

    def _look(
        self,
        arriving: _Arriving,
        policy: Policy,
        row: studies.StudyRow,
        *,
        arrivals: int,
    ) -> None:
        """Read the headers again if the source's settings ask for something in them."""
        source = policy.source
        if source is None or arriving.judged == arrivals:
            return
        if source.required_series or source.expected_count_attribute:
            headers = self._headers(row)
            required = self._required[self._settings.sources.index(source)]
            arriving.missing = tuple(
                "a series with " + " and ".join(item.words for item in group)
                for group in required
                if not any(
                    all(item.judge(header).holds for item in group)
                    for header in headers
                )
            )
            arriving.expected = _expected_count(
                source.expected_count_attribute, headers
            )
        arriving.judged = arrivals

    def _tell_what_is_missing(
        self, row: studies.StudyRow, arriving: _Arriving, policy: Policy
    ) -> None:
        missing = arriving.missing
        if row.instance_count < policy.minimum_instances:
            missing += (f"{policy.minimum_instances} instances or more",)
        if not missing or missing == arriving.told:
            return
        arriving.told = missing
        with self._database.write() as connection:
            detail = f"missing: {', '.join(missing)}"
            events.record(connection, row.id, "waiting", detail=detail)
        get_log().info(
            "study_waits", study_instance_uid=row.study_instance_uid, reason=detail
        )

    def _settle(self, row: studies.StudyRow, reason: str) -> bool:
        plan = plan_readings(
            self._rules,
            self._headers(row),
            self._active_models(),
            settings=self._settings,
            order_priority=row.order_priority,
        )
        with self._database.write() as connection:
            queued = _settle_with_jobs(connection, row, reason, plan)
        if queued is None:
            return False  # an instance came in between; its own quiet time counts
        remarks = "; ".join(plan.remarks)
        get_log().info(
            "study_settled",
            study_instance_uid=row.study_instance_uid,
            reason=reason,
            instances=row.instance_count,
            count=queued,
        )
        if remarks:
            get_log().warning(
                "study_without_job" if not plan.readings else "model_not_active",
                study_instance_uid=row.study_instance_uid,
                reason=remarks,
            )
        if queued:
            self._on_jobs()
        return True

    def _headers(self, row: studies.StudyRow) -> list[SeriesHeader]:
        """Read one header a series; results of ours are none of the study's series."""
        with self._database.read() as connection:
            shas = _representatives(connection, row.id)
        headers: list[SeriesHeader] = []
        for sha256 in shas:
            try:
                headers.append(
                    read_series_header(
                        self._files.path_of(sha256),
                        calling_ae_title=row.calling_ae_title,
                        called_ae_title=row.called_ae_title,
                    )
                )
            except InvalidInstance as error:
                get_log().warning(
                    "header_unreadable",
                    study_instance_uid=row.study_instance_uid,
                    error=type(error.__cause__).__name__,
                )
        return headers


def _counts(policy: Policy) -> bool:
    """Tell whether each new instance of a source may be the last one expected."""
    return bool(policy.source and policy.source.expected_count_attribute)


def _next_look(arriving: _Arriving, now: float) -> float:
    """Return when a study that has just been judged is to be judged again."""
    policy = arriving.policy
    unjudged = arriving.judged != arriving.arrivals
    if policy is None or (unjudged and _counts(policy)):
        return now
    hard_cap = arriving.first_at + policy.hard_cap_s
    if arriving.told and not unjudged:
        return hard_cap
    return min(hard_cap, arriving.last_at + policy.quiet_time_s)


def _settle_with_jobs(
    connection: Connection, row: studies.StudyRow, reason: str, plan: Plan
) -> int | None:
    """Settle and queue; return the number of new jobs, None if the study changed."""
    content = studies.content_set_of(connection, row.id)
    settled = studies.settle_study(
        connection,
        row.id,
        reason=reason,
        content=content,
        expected_instances=row.instance_count,
    )
    if not settled:
        return None
    if plan.remarks:
        studies.note_no_job(
            connection,
            row.id,
            reason="; ".join(plan.remarks)[:200],
            is_final=not plan.readings,
        )
    added = [
        jobs.add_job(
            connection,
            jobs.NewJob(
                study_id=row.id,
                model=reading.model.name,
                model_version=reading.model.version,
                bundle_sha256=reading.model.bundle_sha256,
                content_set=content.sha256,
                rule=reading.rule,
                destinations=reading.destinations,
                priority=reading.priority,
            ),
        )
        for reading in plan.readings
    ]
    return sum(job_id is not None for job_id in added)


def _representatives(connection: Connection, study_id: int) -> list[str]:
    """Return the content of one instance of each series, an image if there is one."""
    rows = connection.execute(
        select(instance.c.series_id, instance.c.sha256)
        .where(instance.c.study_id == study_id, instance.c.own_result.is_(False))
        .order_by(
            instance.c.series_id,
            instance.c.is_image.desc(),
            instance.c.sop_instance_uid,
        )
    )
    chosen: dict[int, str] = {}
    for series_id, sha256 in rows:
        chosen.setdefault(series_id, sha256)
    return list(chosen.values())


def _expected_count(keyword: str | None, headers: Sequence[SeriesHeader]) -> int | None:
    """Return the largest count that a header gives, if one does."""
    if keyword is None:
        return None
    counts = [
        int(text)
        for header in headers
        for text in header.values_of(keyword)
        if text.isdecimal() and len(text) <= 12  # PS3.5 6.2 (IS)
    ]
    return max(counts, default=None)
