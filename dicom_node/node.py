"""The node: everything that runs in its process, started and stopped in order.

Receiving stops first; what stands behind it then writes down what was received.
Whatever is not finished within the time to stop is finished after the next start,
because nothing that matters lives in this process alone.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import cache, partial

from core.database import deliveries
from core.database.checkpoint import Checkpoints
from core.database.engine import Database, open_database
from core.domain import ModelIdentity
from core.doorbell import Doorbell
from core.errors import InternalError
from core.log import get_log
from core.queue import announce_job, make_celery
from core.settings import Settings
from dicom_node.application_entity import ApplicationEntity
from dicom_node.assembly import Assembler
from dicom_node.delivery.courier import Courier
from dicom_node.delivery.destinations import sender_for
from dicom_node.dicomweb.server import DicomwebServer
from dicom_node.instance_store import InstanceStore
from dicom_node.periodic import PeriodicThread
from dicom_node.publisher import Announce, Publisher
from dicom_node.query.cataloguer import Cataloguer
from dicom_node.receiving import Receiving, receiving
from dicom_node.rules import check_sources
from dicom_node.sweep import Sweep

__all__ = ["NodeAddress", "run_node"]

STOP_WITHIN_S = 10.0
_RECEIVING_STOPS_WITHIN_S = 3.0
_BELL_S = 0.5


@dataclass(frozen=True)
class NodeAddress:
    """Where a running node listens."""

    host: str
    """The address it is bound to; 0.0.0.0 is all of them."""
    port: int
    ae_title: str
    http_port: int | None = None
    """Of DICOMweb; None where it is not served."""


class _Crash:
    """The first error that ended one of the node's threads."""

    def __init__(self) -> None:
        self.happened = threading.Event()
        self.name = ""
        self.error: BaseException | None = None

    def note(self, name: str, error: BaseException) -> None:
        if not self.happened.is_set():
            self.name, self.error = name, error
            self.happened.set()


def run_node(
    settings: Settings,
    active_models: Callable[[], Sequence[ModelIdentity]],
    stop: threading.Event,
    ready: Callable[[NodeAddress], None] | None = None,
    held: Receiving | None = None,
    render_command: Sequence[str] = (),
) -> None:
    """Run the node until `stop` is set.

    Parameters
    ----------
    settings
        The whole tree.
    active_models
        Which models may serve; asked whenever a study is settled.
    stop
        Set by whoever wants the node to end; it then ends within 10 s.
    ready
        Called once the node answers, with its address.
    held
        Data directory, port and listeners, if they were taken before; so a listener
        does without what only the node needs.
    render_command
        Starts a process that decodes pixels for DICOMweb; empty for none.

    Raises
    ------
    OperatorError
        If it cannot start: the data directory is held by another node, a port is taken,
        a rule cannot be used, the database cannot be opened.
    InternalError
        If one of its threads crashed; whoever supervises the process starts it again.
    """
    check_sources(settings.sources)
    with (
        nullcontext(held) if held is not None else receiving(settings) as ours,
        closing(open_database(settings)) as database,
    ):
        _run(settings, ours, database, active_models, stop, ready, render_command)


def _run(
    settings: Settings,
    held: Receiving,
    database: Database,
    active_models: Callable[[], Sequence[ModelIdentity]],
    stop: threading.Event,
    ready: Callable[[NodeAddress], None] | None,
    render_command: Sequence[str],
) -> None:
    crash = _Crash()
    store = InstanceStore(settings.data_dir, settings.store.durable_writes)
    celery = cache(partial(make_celery, settings))
    threads = _Threads(
        settings,
        database,
        store,
        active_models,
        announce=lambda job_id, priority: announce_job(celery(), job_id, priority),
        on_crash=crash.note,
    )
    entity = ApplicationEntity(settings, held, database, store, threads.note_arrival)
    with database.write() as connection:
        interrupted = deliveries.interrupted(connection)
    port = entity.start()
    web = DicomwebServer(settings, database, store, entity.receiver, render_command)
    # After it, because starting may find studies that the index did not know.
    resumed = threads.assembler.resume()
    threads.start()
    http_port = web.start()
    address = NodeAddress(
        settings.bind_address, port, settings.node.ae_title, http_port
    )
    try:
        get_log().info("node_started", port=port, count=resumed + interrupted)
        if ready is not None:
            ready(address)
        while not stop.wait(0.1) and not crash.happened.is_set():
            if not entity.alive():
                raise InternalError(
                    "the process that keeps the listeners ended; the log says why"
                )
    finally:
        deadline = time.monotonic() + STOP_WITHIN_S
        web.stop()
        entity.stop(_RECEIVING_STOPS_WITHIN_S)
        threads.stop(deadline)
        get_log().info("node_stopped")
    if crash.error is not None:
        raise InternalError(
            f"the node's thread {crash.name!r} ended by {type(crash.error).__name__}; "
            "the log names the place"
        ) from crash.error


class _Threads:
    """Assembly, publisher, sweep, checkpoints and one courier a destination."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: InstanceStore,
        active_models: Callable[[], Sequence[ModelIdentity]],
        *,
        announce: Announce,
        on_crash: Callable[[str, BaseException], None],
    ) -> None:
        publisher = Publisher(database, announce)
        self._publishing = PeriodicThread(
            "publisher", publisher.publish_due, on_crash=on_crash
        )
        self.assembler = Assembler(
            settings, database, store, active_models, on_jobs=self._publishing.wake
        )
        self._cataloguer = Cataloguer(database, store)
        cataloguing = PeriodicThread(
            "catalogue", self._cataloguer.step, on_crash=on_crash
        )
        self._assembling = PeriodicThread(
            "assembly", self.assembler.tick, on_crash=on_crash
        )
        sweep = Sweep(
            settings,
            database,
            on_jobs=self._publishing.wake,
            also=self.assembler.resume,
        )
        sweeping = PeriodicThread("sweep", sweep.step, on_crash=on_crash)
        checkpoints = PeriodicThread(
            "checkpoints", Checkpoints(database).step, on_crash=on_crash
        )
        self._couriers = {}
        for entry in settings.destinations:
            courier = Courier(
                entry.name,
                sender_for(entry, settings),
                database,
                store,
                settings.delivery,
            )
            thread = PeriodicThread(
                f"delivery to {entry.name}", courier.deliver_due, on_crash=on_crash
            )
            self._couriers[thread] = courier
        self._bell = Doorbell(settings)
        self._woken = [self._publishing, *self._couriers]
        listening = PeriodicThread("doorbell", self._listen, on_crash=on_crash)
        self._all = [
            self._assembling,
            sweeping,
            checkpoints,
            cataloguing,
            listening,
            *self._woken,
        ]

    def note_arrival(self, study_instance_uid: str) -> None:
        self.assembler.note_arrival(study_instance_uid)
        self._cataloguer.note(study_instance_uid)
        self._assembling.wake()

    def _listen(self) -> float:
        """Wait for a worker's bell and wake whoever may have something to do."""
        rang = self._bell.wait(_BELL_S)
        if rang:
            for thread in self._woken:
                thread.wake()
        return _BELL_S if rang is None else 0.0

    def start(self) -> None:
        for thread in self._all:
            thread.start()

    def stop(self, deadline: float) -> None:
        for courier in self._couriers.values():
            courier.stop()
        for thread in self._all:
            thread.stop()
        for thread in self._all:
            ended = thread.join(deadline - time.monotonic())
            if not ended:
                # It waits for a peer or the broker; it is a daemon and dies with us.
                get_log().warning("thread_left_behind", name=thread.name)
            elif thread in self._couriers:
                self._couriers[thread].close()
