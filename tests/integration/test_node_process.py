import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_world import DX, MODEL, part10

from core.database import jobs, outbox, studies
from core.database.engine import open_database
from core.errors import InternalError, InvalidSettings, StoreUnavailable
from core.lifecycle import StudyState
from core.settings import (
    AssemblySettings,
    DicomwebSettings,
    NodeSettings,
    QueueSettings,
    RuleSettings,
    Settings,
    StoreSettings,
)
from core.uids import derived_uid
from dicom_node import node as node_module
from dicom_node.node import NodeAddress, run_node
from dicom_node.senders.c_echo import echo
from dicom_node.senders.c_store import send_files

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _sockets_that_pynetdicom_leaves():
    """Collect them here, so that no other test is blamed for them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


STUDY = derived_uid("node test study")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        node=NodeSettings(port=0),
        dicomweb=DicomwebSettings(port=0),
        store=StoreSettings(durable_writes=False, low_water_bytes=0),
        assembly=AssemblySettings(quiet_time_s=0.3),
        # Nobody listens there: the broker is away.
        queue=QueueSettings(broker_url="redis://127.0.0.1:1/0"),
        rules=(RuleSettings(name="all"),),
    )


class RunningNode:
    def __init__(self, settings: Settings) -> None:
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.address: NodeAddress | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(settings,))
        self._thread.start()
        assert self._ready.wait(30)

    def _run(self, settings: Settings) -> None:
        try:
            run_node(settings, lambda: (MODEL,), self.stop, self._is_ready)
        except BaseException as error:  # noqa: BLE001 - kept for the test
            self.error = error
        finally:
            self._ready.set()

    def _is_ready(self, address: NodeAddress) -> None:
        self.address = address
        self._ready.set()

    def join(self, timeout_s: float) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


@pytest.fixture
def start() -> Iterator[Callable[[Settings], RunningNode]]:
    running: list[RunningNode] = []

    def begin(settings: Settings) -> RunningNode:
        running.append(RunningNode(settings))
        return running[-1]

    yield begin
    for node in running:
        node.stop.set()
        assert node.join(15)


def files(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        uid = derived_uid("node test", str(number))
        path = folder / f"{number}.dcm"
        path.write_bytes(
            part10(
                DX,
                uid,
                StudyInstanceUID=STUDY,
                SeriesInstanceUID=derived_uid("node test series"),
                Modality="DX",
                PatientID="1",
            )
        )
        paths.append(path)
    return paths


def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_study_that_is_sent_ends_as_a_queued_job_though_the_broker_is_away(
    settings, start, tmp_path
):
    node = start(settings)
    assert node.address is not None
    port = node.address.port

    results = send_files(
        files(tmp_path, 3),
        host="127.0.0.1",
        port=port,
        called="SECONDREAD",
        calling="CT1",
    )

    assert [result.ok for result in results] == [True] * 3
    assert echo("127.0.0.1", port, called="SECONDREAD", calling="CT1").ok
    database = open_database(settings)

    def settled() -> bool:
        with database.read() as connection:
            row = studies.study_by_uid(connection, STUDY)
        return row is not None and row.state is StudyState.SETTLED

    until(settled)
    with database.read() as connection:
        row = studies.study_by_uid(connection, STUDY)
        (job,) = jobs.jobs_of_study(connection, row.id)
        waiting = outbox.unpublished(connection)
    database.close()
    assert row.instance_count == 3
    assert [entry.job_id for entry in waiting] == [job.id]


def test_a_node_stops_within_ten_seconds(settings, start):
    node = start(settings)
    began = time.monotonic()

    node.stop.set()

    assert node.join(10)
    assert node.error is None
    assert time.monotonic() - began < 10


def test_a_second_node_on_the_same_data_directory_is_refused(settings, start):
    start(settings)

    with pytest.raises(StoreUnavailable, match=f"another node.*{os.getpid()}"):
        run_node(settings, tuple, threading.Event())


def test_the_lock_goes_with_its_process(settings, start):
    program = (
        "import os, sys; from pathlib import Path;"
        "from core.directory_lock import only_one\n"
        'with only_one(Path(sys.argv[1]), "node"): os.kill(os.getpid(), 9)'
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(settings.data_dir)], check=False
    )

    node = start(settings)

    assert killed.returncode == -9
    assert node.error is None


def test_a_rule_that_cannot_be_used_stops_the_start(settings):
    broken = settings.model_copy(
        update={"rules": (RuleSettings(name="bad", when={"Nothing": 1}),)}
    )

    with pytest.raises(InvalidSettings, match="rule 'bad'"):
        run_node(broken, tuple, threading.Event())


def test_a_crashed_thread_ends_the_node_with_an_error(settings, start, monkeypatch):
    def crash(_self: object) -> float:
        raise ZeroDivisionError

    monkeypatch.setattr(node_module.Publisher, "publish_due", crash)
    node = start(settings)

    assert node.join(15)
    assert isinstance(node.error, InternalError)
    assert "publisher" in str(node.error)
