"""Runs one job from its claim to its stored report, and keeps the promises around it.

Every step is a fenced change of the job's row, so that a worker which was frozen,
killed or overtaken at any place leaves either nothing or exactly one result. What was
committed is never computed again: a job that comes back with a reading goes on with its
report.
"""

import os
import queue
import socket
import time
from collections.abc import Callable, Sequence

from core.database import failure_reports, jobs, studies
from core.database.engine import open_database
from core.database.jobs import Claim, JobRow
from core.database.reports import NewReport, newest_report
from core.domain import (
    AlgorithmIdentity,
    Analysed,
    Failed,
    NotAnalysed,
    Reading,
    reading_from_json,
)
from core.doorbell import Doorbell
from core.errors import SecondreadError
from core.faults import fault
from core.lifecycle import JobState
from core.log import get_log
from core.report_classes import report_classes, sop_class_uid_for
from core.settings import Settings
from core.uids import installation_uid
from dicom_node.instance_store import InstanceStore
from worker.orders import (
    PredecessorOrder,
    ReadingOrder,
    ReportOrder,
    ReportSummary,
    SourceInstance,
    reading_order,
    report_order,
    report_summary,
)
from worker.reading_process import AttemptFailed, LeaseLost, ReadingProcess, Ticker

__all__ = ["JobRunner"]

_STOP_GRACE_S = 15.0
_LOOK_UP_S = 0.5


class JobRunner:
    """Runs jobs of one worker, each in one of its reading processes.

    Parameters
    ----------
    settings
        The whole tree; `worker.concurrency` is the number of reading processes.
    make_process
        How one of them is made.
    """

    def __init__(
        self,
        settings: Settings,
        make_process: Callable[[Settings], ReadingProcess] = ReadingProcess,
    ) -> None:
        self._settings = settings
        self._database = open_database(settings)
        self._store = InstanceStore(
            settings.data_dir, durable=settings.store.durable_writes
        )
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._installation_uid = installation_uid(settings.data_dir)
        self._bell = Doorbell(settings)
        self._stop_at: float | None = None
        self._make_process = make_process
        self._processes = [
            make_process(settings) for _ in range(settings.worker.concurrency)
        ]
        # One place for each job that may be in a process; until its models are warm a
        # process has a single one.
        self._places: queue.Queue[ReadingProcess] = queue.Queue()
        self._count_of_places = 0
        self._add_places(1)

    def _add_places(self, each: int) -> None:
        for _ in range(each):
            for process in self._processes:
                self._places.put(process)
                self._count_of_places += 1

    def warm_up(self) -> None:
        """Start every reading process and load the models, before the first study."""
        for _ in self._processes:
            process = self._places.get()
            try:
                started = time.monotonic()
                answer = process.request(
                    "warm up",
                    {},
                    time_limit_s=self._settings.worker.start_time_limit_s,
                    ticker=self._ticker(lambda: True),
                )
                get_log().info(
                    "models_ready",
                    count=len(answer["models"]),
                    duration_s=round(time.monotonic() - started, 2),
                )
            except AttemptFailed as error:
                get_log().warning("warm_up_failed", reason=str(error))
            finally:
                self._places.put(process)
        self._add_places(self._settings.worker.jobs_per_process - 1)

    def stop(self) -> None:
        """Let running jobs end within a grace, then give them back unharmed."""
        self._stop_at = time.monotonic() + _STOP_GRACE_S
        for _ in range(self._count_of_places):
            try:
                self._places.get(timeout=_STOP_GRACE_S + 5).kill()
            except queue.Empty:
                break

    def run(self, job_id: int) -> None:
        """Run a job if it still waits; return when it has ended, one way or another."""
        # The process comes first: a claimed job must show heartbeats, and until the
        # models are warm there is nothing that could.
        process = self._free_process()
        if process is None:
            return  # it stays queued; another worker hears of it by the sweep
        try:
            with process.job():
                self._run_with(process, job_id)
        finally:
            self._places.put(process)

    def _free_process(self) -> ReadingProcess | None:
        """Wait for a reading process; None once this worker is to stop."""
        while self._stop_at is None:
            try:
                return self._places.get(timeout=_LOOK_UP_S)
            except queue.Empty:
                continue
        return None

    def _run_with(self, process: ReadingProcess, job_id: int) -> None:
        process_id = process.start()
        with self._database.write() as connection:
            held = jobs.claim(
                connection, job_id, worker=self._name, child_pid=process_id
            )
            failed = (
                None
                if held
                else failure_reports.claim(connection, job_id, worker=self._name)
            )
        if failed is not None:
            self._report_failure(failed, process)
        if held is None:
            return
        fault("worker.after_claim")
        get_log().info("job_started", job_id=job_id, attempt=held.job.attempts)
        try:
            try:
                self._run_claimed(held, process)
            except AttemptFailed as error:
                if not error.in_company or self._must_stop():
                    raise
                self._run_alone(held, error)
        except LeaseLost:
            get_log().warning("lease_lost", job_id=job_id)
        except AttemptFailed as error:
            self._end_attempt(held, error)
        except SecondreadError as error:
            self._end_attempt(held, AttemptFailed(type(error).__name__, str(error)))

    def _run_alone(self, held: Claim, error: AttemptFailed) -> None:
        """Go on in a process of the job's own, under the same claim.

        The process died with several jobs in it, so this one may not be to blame, and
        must not use up its attempts for its neighbour's sake.
        """
        get_log().warning("read_again_alone", job_id=held.job_id, reason=error.reason)
        process = self._make_process(self._settings)
        try:
            with self._database.write() as connection:
                if not jobs.set_child(connection, held, process.start()):
                    raise LeaseLost("another worker has the job")
            current = Claim(held.job_id, held.lease_token, self._job(held.job_id))
            self._run_claimed(current, process)
        finally:
            process.kill()

    def _run_claimed(self, held: Claim, process: ReadingProcess) -> None:
        ticker = self._ticker(lambda: self._beat(held))
        timings = dict(held.job.timings or {})
        if held.job.started_at is not None:
            timings["queued"] = round(held.job.started_at - held.job.created_at, 4)
        if held.job.reading is None:
            reading = self._read(held, process, ticker, timings)
        elif held.job.state is JobState.INFERRED:
            reading = reading_from_json(held.job.reading)  # committed under this claim
        else:
            reading = reading_from_json(held.job.reading)
            self._commit_reading(held, held.job.reading, reading, timings)
        fault("worker.after_result_commit")
        started = time.monotonic()
        inferred = self._job(held.job_id)
        documents = self._write_report(inferred, reading, "reading", process, ticker)
        timings["report"] = round(time.monotonic() - started, 4)
        fault("worker.after_result_file")
        with self._database.write() as connection:
            if not jobs.store_report(
                connection, held, documents, timings=timings, hold=self._holds(reading)
            ):
                raise LeaseLost("another worker has the job")
        self._bell.ring()
        get_log().info(
            "job_reported",
            job_id=held.job_id,
            outcome=reading.outcome,
            **{f"{stage}_s": seconds for stage, seconds in timings.items()},
        )

    def _read(
        self,
        held: Claim,
        process: ReadingProcess,
        ticker: Ticker,
        timings: dict[str, float],
    ) -> Reading:
        instances = self._instances(held.job)
        with self._database.read() as connection:
            study = studies.study_by_id(connection, held.job.study_id)
        if study is None:
            raise AttemptFailed("study gone", "the study was forgotten", final=True)
        time_limit_s = self._prepare(held, process, ticker, timings)
        order = ReadingOrder(
            study_instance_uid=study.study_instance_uid,
            bundle_sha256=held.job.bundle_sha256,
            instances=instances,
            time_limit_s=time_limit_s,
        )
        answer = process.request(
            "read",
            reading_order.dump_python(order, mode="json"),
            time_limit_s=time_limit_s,
            ticker=ticker,
        )
        timings.update(answer["timings"])
        reading = reading_from_json(answer["reading"])
        self._commit_reading(held, answer["reading"], reading, timings)
        return reading

    def _prepare(
        self,
        held: Claim,
        process: ReadingProcess,
        ticker: Ticker,
        timings: dict[str, float],
    ) -> float:
        """Have the process started and the model loaded; return the reading's limit.

        What a fresh process imports and loads is no part of the reading and has a limit
        of its own.
        """
        started = time.monotonic()
        answer = process.request(
            "prepare",
            {"bundle_sha256": held.job.bundle_sha256},
            time_limit_s=self._settings.worker.start_time_limit_s,
            ticker=ticker,
        )
        timings["start"] = round(time.monotonic() - started, 4)
        return min(self._settings.worker.time_limit_s, float(answer["time_limit_s"]))

    def _commit_reading(
        self, held: Claim, text: str, reading: Reading, timings: dict[str, float]
    ) -> None:
        with self._database.write() as connection:
            if not jobs.commit_reading(
                connection,
                held,
                reading=text,
                outcome=reading.outcome,
                timings=timings,
            ):
                raise LeaseLost("another worker has the job")

    def _write_report(
        self,
        job: JobRow,
        reading: Reading,
        document_kind: str,
        process: ReadingProcess,
        ticker: Ticker,
    ) -> list[tuple[NewReport, tuple[str, ...]]]:
        """Have the report written in every SR class its destinations need."""
        names = self._destinations(job, reading)
        classes = report_classes(self._settings, names)
        with self._database.read() as connection:
            study = studies.study_by_id(connection, job.study_id)
            predecessors = {
                uid: newest_report(
                    connection, job.study_id, model=job.model, sop_class_uid=uid
                )
                for uid in classes
            }
        if study is None:
            raise AttemptFailed("study gone", "the study was forgotten", final=True)
        order = ReportOrder(
            study_instance_uid=study.study_instance_uid,
            model=job.model,
            model_version=job.model_version,
            bundle_sha256=job.bundle_sha256,
            content_set=job.content_set,
            document_kind="failure" if document_kind == "failure" else "reading",
            reading=reading,
            instances=self._instances(job),
            sop_class_uids=tuple(sorted(classes)),
            predecessors=tuple(
                PredecessorOrder(
                    row.sop_class_uid, row.sop_instance_uid, row.series_instance_uid
                )
                for row in predecessors.values()
                if row is not None
            ),
            series_number=self._settings.report.series_number,
            installation_uid=self._installation_uid,
            created_at=job.inferred_at or job.finished_at or job.created_at,
            time_limit_s=self._settings.worker.time_limit_s,
        )
        answer = process.request(
            "report",
            report_order.dump_python(order, mode="json"),
            time_limit_s=order.time_limit_s,
            ticker=ticker,
        )
        documents = []
        for item in answer["documents"]:
            summary = report_summary.validate_python(item)
            before = predecessors.get(summary.sop_class_uid)
            new = _new_report(
                job, document_kind, summary, before.id if before else None
            )
            documents.append((new, self._readers_of(summary.sop_class_uid, names)))
        return documents

    def _report_failure(self, held: Claim, process: ReadingProcess) -> None:
        """Write the report of a failed job; it may fail as well, and is tried twice."""
        try:
            documents = self._write_report(
                held.job,
                _failure(held.job),
                "failure",
                process,
                self._ticker(lambda: self._beat(held)),
            )
            with self._database.write() as connection:
                failure_reports.store(connection, held, documents)
            self._bell.ring()
        except SecondreadError as error:
            get_log().error(
                "failure_report_failed", job_id=held.job_id, reason=str(error)
            )
            with self._database.write() as connection:
                failure_reports.release(connection, held.job_id, held.lease_token)

    def _end_attempt(self, held: Claim, error: AttemptFailed) -> None:
        stopped = error.reason == "stopped"
        maximum = 0 if error.final else self._settings.queue.maximum_attempts
        with self._database.write() as connection:
            state = jobs.give_back(
                connection,
                held.job_id,
                held.lease_token,
                reason=error.reason,
                explanation=error.explanation,
                maximum_attempts=maximum,
                count_attempt=not stopped,
                report_failure=self._settings.report.failed == "send",
            )
        self._bell.ring()
        get_log().warning(
            "attempt_ended",
            job_id=held.job_id,
            attempt=held.job.attempts,
            reason=error.reason,
            state=state.value if state else "lease lost",
        )

    def _ticker(self, still_ours: Callable[[], bool]) -> Ticker:
        return Ticker(self._settings.queue.heartbeat_s, still_ours, self._must_stop)

    def _must_stop(self) -> bool:
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    def _beat(self, held: Claim) -> bool:
        with self._database.write() as connection:
            return jobs.beat(connection, held)

    def _job(self, job_id: int) -> JobRow:
        with self._database.read() as connection:
            row = jobs.job_by_id(connection, job_id)
        if row is None:
            raise LeaseLost("the job was forgotten")
        return row

    def _instances(self, job: JobRow) -> tuple[SourceInstance, ...]:
        with self._database.read() as connection:
            rows = studies.instances_of_content_set(connection, job.content_set)
        return tuple(
            SourceInstance(
                path=str(self._store.path_of(row.sha256)),
                sop_class_uid=row.sop_class_uid,
                sop_instance_uid=row.sop_instance_uid,
                series_instance_uid=row.series_instance_uid,
            )
            for row in rows
        )

    def _destinations(self, job: JobRow, reading: Reading) -> tuple[str, ...]:
        if isinstance(reading, NotAnalysed) and (
            self._settings.report.not_analysed == "keep"
        ):
            return ()
        if "*" in job.destinations:
            return tuple(entry.name for entry in self._settings.destinations)
        return job.destinations

    def _holds(self, reading: Reading) -> bool:
        """Tell whether a report waits for a reader; only an answer can be assessed."""
        return isinstance(reading, Analysed) and (
            not {"*", reading.algorithm.name}.isdisjoint(self._settings.review.hold)
        )

    def _readers_of(self, sop_class_uid: str, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            name
            for name in names
            if sop_class_uid_for(self._settings, name) == sop_class_uid
        )


def _new_report(
    job: JobRow, document_kind: str, summary: ReportSummary, predecessor_id: int | None
) -> NewReport:
    return NewReport(
        study_id=job.study_id,
        job_id=job.id,
        document_kind=document_kind,
        sop_class_uid=summary.sop_class_uid,
        sop_instance_uid=summary.sop_instance_uid,
        series_instance_uid=summary.series_instance_uid,
        sha256=summary.sha256,
        bytes=summary.bytes,
        predecessor_id=predecessor_id,
    )


def _failure(job: JobRow) -> Failed:
    return Failed(
        algorithm=AlgorithmIdentity(
            name=job.model,
            version=job.model_version,
            manufacturer="secondread",
            weights_sha256="",
            bundle_sha256=job.bundle_sha256,
        ),
        images=(),
        reason=job.reason or "unknown",
        explanation=job.explanation or "",
    )
