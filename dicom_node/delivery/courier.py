"""One destination's courier: takes what is due there, sends it, keeps the answer.

Each destination has its own, in its own thread, so that one which is slow or dead
delays no other. An attempt is counted before it is made and its answer is kept before
the next report is sent; a kill in between sends the same bytes once more.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from core.database import deliveries, reports
from core.database.deliveries import DeliveryRow
from core.database.engine import Database
from core.errors import StoreUnavailable
from core.faults import fault
from core.log import get_log
from core.settings import DeliverySettings
from dicom_node.delivery.back_off import Next, Step, next_step
from dicom_node.senders.sender import Answer, Outcome, OutgoingReport, Sender

__all__ = ["Courier", "ReportFiles"]

POLL_S = 0.5
ROUND = 50
# PS3.5 A.2: reports are written in it, and every SR archive takes it.
_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


class ReportFiles(Protocol):
    """Where the bytes of a report lie."""

    def report_path(self, sha256: str) -> Path:
        """Return the path of the report with this content."""
        ...

    def read_report(self, sha256: str) -> bytes:
        """Return its bytes, checked against their hash."""
        ...


class Courier:
    """Delivers reports to one destination.

    Parameters
    ----------
    destination
        Its name in the settings and in the index.
    sender
        How to reach it.
    database, files
        The index and the reports.
    settings
        Delays and limits.
    clock
        Seconds since 1970, UTC: due times are kept in the index.
    draw
        Gives a number from 0 to 1 for the jitter.
    """

    def __init__(
        self,
        destination: str,
        sender: Sender,
        database: Database,
        files: ReportFiles,
        settings: DeliverySettings,
        *,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._destination = destination
        self._sender = sender
        self._database = database
        self._files = files
        self._settings = settings
        self._clock = clock
        self._draw = draw
        self._stopping = False
        # Started and without an answer that is kept: waits again if a round breaks off.
        self._open: dict[int, DeliveryRow] = {}

    def stop(self) -> None:
        """Send no further report of this round; those not sent yet wait again."""
        self._stopping = True

    def close(self) -> None:
        """Close what the sender keeps open; once its thread has ended."""
        self._sender.close()

    def deliver_due(self) -> float:
        """Send what is due, as one round.

        Returns
        -------
        Seconds until there may be something to do again.
        """
        self._put_back()
        with self._database.read() as connection:
            rows = deliveries.due(
                connection,
                now=self._clock(),
                destination=self._destination,
                limit=ROUND,
            )
        if not rows or self._stopping:
            self._sender.rest()
            return POLL_S
        started = self._start(rows)
        readable: list[DeliveryRow] = []
        outgoing: list[OutgoingReport] = []
        for row in started:
            report = self._report_of(row)
            if isinstance(report, Answer):
                self._fail(row, report.words)
            else:
                readable.append(row)
                outgoing.append(report)
        self._send(readable, outgoing)
        self._put_back()
        return 0.0

    def _start(self, rows: list[DeliveryRow]) -> list[DeliveryRow]:
        """Count the attempts, all before the first is made."""
        with self._database.write() as connection:
            started = [row for row in rows if deliveries.start(connection, row.id)]
        self._open = {row.id: row for row in started}
        return started

    def _put_back(self) -> None:
        if not self._open:
            return
        now = self._clock()
        with self._database.write() as connection:
            for row in self._open.values():
                deliveries.postpone(
                    connection, row.id, due_at=now, answer="interrupted by this node"
                )
        self._open = {}

    def _report_of(self, row: DeliveryRow) -> OutgoingReport | Answer:
        with self._database.read() as connection:
            report = reports.report_by_id(connection, row.report_id)
        if report is None:
            return Answer(Outcome.REFUSED, "its report is no longer in the index")
        try:
            self._files.read_report(report.sha256)  # what is damaged is not sent
        except StoreUnavailable as error:
            return Answer(Outcome.REFUSED, str(error))
        return OutgoingReport(
            path=self._files.report_path(report.sha256),
            sop_class_uid=report.sop_class_uid,
            sop_instance_uid=report.sop_instance_uid,
            transfer_syntax_uid=_EXPLICIT_VR_LITTLE_ENDIAN,
        )

    def _send(self, rows: list[DeliveryRow], outgoing: list[OutgoingReport]) -> None:
        if not rows:
            return
        answers = self._sender.send(outgoing)
        for row in rows:
            if self._stopping:
                break
            fault("export.before_send")
            answer = next(answers)
            fault("export.after_ack_before_mark")
            self._keep(row, answer)
            fault("export.after_mark")
        if self._open:
            del answers  # broken off: closing the generator ends the sender's round
        else:
            next(answers, None)  # runs to its end, which ends it too

    def _keep(self, row: DeliveryRow, answer: Answer) -> None:
        now = self._clock()
        step = next_step(row, answer, self._settings, now=now, draw=self._draw)
        if step.next is Next.FAILED:
            self._fail(row, step.words)
            return
        with self._database.write() as connection:
            if step.next is Next.DONE:
                deliveries.accepted(connection, row.id, answer=step.words)
            else:
                deliveries.postpone(
                    connection,
                    row.id,
                    due_at=now + step.delay_s,
                    answer=step.words,
                    refused=step.refused,
                )
        self._open.pop(row.id, None)
        self._log(row, step)

    def _fail(self, row: DeliveryRow, words: str) -> None:
        with self._database.write() as connection:
            deliveries.failed(connection, row.id, answer=words)
        self._open.pop(row.id, None)
        self._log(row, Step(Next.FAILED, 0.0, words))

    def _log(self, row: DeliveryRow, step: Step) -> None:
        # The peer's own words stay in the index: nobody knows what it put into them.
        log = get_log().bind(
            destination=self._destination,
            delivery_id=row.id,
            attempt=row.attempts + 1,
        )
        if step.next is Next.DONE:
            log.info("report_delivered")
        elif step.next is Next.LATER:
            log.warning("delivery_postponed", delay_s=round(step.delay_s, 1))
        else:
            log.error("delivery_failed")
