"""Many studies at once over many associations: each is put together once.

The assembly runs while they arrive, on a clock that the test holds: nothing depends on
how fast this machine is.
"""

import hashlib
import random
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from node_world import MODEL, Clock

from core.database import events, jobs, studies
from core.database.engine import Database, open_database
from core.lifecycle import StudyState
from core.settings import AssemblySettings, RuleSettings, Settings
from dicom_node.assembly import Assembler
from tests.data_sets import CT, Sample
from tests.integration.receiving_node import (
    Node,
    RawPeer,
    command,
    node_on,
    pdu,
    pdv,
)
from tests.receiving import eventually, settings_for

pytestmark = pytest.mark.integration

ASSOCIATIONS = 32
QUIET_TIME_S = 10.0
CT_CONTEXT = 3
LAST, COMMAND = 2, 1
CONFLICT = 0xC111


@dataclass
class Site:
    """A node and the assembly behind it."""

    node: Node
    database: Database
    assembler: Assembler
    clock: Clock

    def settle_all(self, instances: int) -> bool:
        """Wait for that many rows, then let quiet times pass until all is settled."""
        return eventually(lambda: len(self.node.rows()) == instances) and eventually(
            self._pass_quiet_time
        )

    def _pass_quiet_time(self) -> bool:
        self.clock.now += QUIET_TIME_S
        self.assembler.tick()
        with self.database.read() as connection:
            return not studies.studies_in_state(connection, StudyState.RECEIVING)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = settings_of(tmp_path)
    database = open_database(settings)
    clock = Clock()
    with node_on(settings, lambda uid: assembler.note_arrival(uid)) as node:
        assembler = Assembler(
            settings, database, node.store, lambda: [MODEL], clock=clock
        )
        yield Site(node, database, assembler, clock)
    database.close()


def settings_of(folder: Path) -> Settings:
    receiving = settings_for(
        folder,
        maximum_associations=ASSOCIATIONS,
        maximum_associations_per_address=ASSOCIATIONS,
    )
    return receiving.model_copy(
        update={
            "assembly": AssemblySettings(quiet_time_s=QUIET_TIME_S, hard_cap_s=1000),
            "rules": (RuleSettings(name="all", when={"Modality": ["CT"]}),),
        }
    )


def instances_of(study: int, count: int) -> list[Sample]:
    """A study in two series; every pixel differs."""
    uid = f"1.2.40.{study}"
    return [
        Sample(
            study_instance_uid=uid,
            series_instance_uid=f"{uid}.{number % 2}",
            sop_instance_uid=f"{uid}.9.{number}",
            pixels=struct.pack("<LL", study, number),
        )
        for number in range(count)
    ]


def send(site: Site, shares: Sequence[Sequence[Sample]]) -> dict[str, list[int]]:
    """Send each share over an association of its own, all at once; tick meanwhile.

    Returns
    -------
    The statuses by SOP Instance UID.
    """
    statuses: dict[str, list[int]] = defaultdict(list)
    together = threading.Barrier(len(shares))

    def send_share(share: Sequence[Sample]) -> None:
        with RawPeer(site.node.port) as peer:
            peer.associate()
            together.wait(30)
            for sample in share:
                statuses[sample.sop_instance_uid].append(store(peer, sample))
            peer.send(pdu(0x05, bytes(4)))
            peer.receive()

    threads = [threading.Thread(target=send_share, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        site.assembler.tick()
        time.sleep(0.01)
    return statuses


def store(peer: RawPeer, sample: Sample) -> int:
    """C-STORE in one PDU; return the status."""
    request = command(
        e0002=CT.encode() + b"\0" * (len(CT) % 2),
        e0100=b"\x01\x00",
        e0110=b"\x07\x00",
        e0700=b"\x00\x00",
        e0800=b"\x00\x00",
        e1000=sample.sop_instance_uid.encode()
        + b"\0" * (len(sample.sop_instance_uid) % 2),
    )
    peer.send(
        pdu(
            0x04,
            pdv(CT_CONTEXT, COMMAND | LAST, request)
            + pdv(CT_CONTEXT, LAST, sample.data_set),
        )
    )
    answer = peer.receive()
    # The status is a US element (0000,0900) of the implicit command set.
    at = answer.index(struct.pack("<HHL", 0x0000, 0x0900, 2)) + 8
    return int(struct.unpack_from("<H", answer, at)[0])


def content_hash(samples: Sequence[Sample]) -> str:
    """What `docs/decisions/content-set.md` says, from what was sent."""
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.sop_instance_uid):
        sha256 = hashlib.sha256(sample.data_set).hexdigest()
        digest.update(f"{sample.sop_instance_uid}:{sha256}\n".encode())
    return digest.hexdigest()


def dealt(samples: Sequence[Sample], seed: int) -> list[list[Sample]]:
    """Shuffle and deal out to the associations, so that all studies are in all."""
    shuffled = list(samples)
    random.Random(seed).shuffle(shuffled)
    return [shuffled[start::ASSOCIATIONS] for start in range(ASSOCIATIONS)]


def assert_assembled(site: Site, sent: dict[str, list[Sample]]) -> None:
    """Each study was settled once, with what was sent of it, and has one job."""
    with site.database.read() as connection:
        for uid, samples in sent.items():
            row = studies.study_by_uid(connection, uid)
            assert row is not None
            content = studies.instances_of_content_set(
                connection, row.content_set or ""
            )
            names = Counter(
                event.name for event in events.events_of_study(connection, row.id)
            )
            readings = jobs.jobs_of_study(connection, row.id)
            assert row.state is StudyState.SETTLED
            assert row.instance_count == len(samples)
            assert [
                (one.sop_instance_uid, one.series_instance_uid) for one in content
            ] == (
                sorted(
                    (one.sop_instance_uid, one.series_instance_uid) for one in samples
                )
            )
            assert row.content_set == content_hash(samples)
            assert (names["settled"], names["first instance"]) == (1, 1)
            assert names["late instance"] == 0
            assert [job.content_set for job in readings] == [row.content_set]


def test_a_hundred_studies_over_32_associations_are_each_put_together_once(
    site: Site,
) -> None:
    sent = {f"1.2.40.{study}": instances_of(study, 5) for study in range(100)}

    statuses = send(site, dealt([one for group in sent.values() for one in group], 1))

    assert all(answers == [0] for answers in statuses.values())
    assert site.settle_all(500)
    assert_assembled(site, sent)


def test_a_study_split_over_associations_with_duplicates_is_put_together_once(
    site: Site,
) -> None:
    sent = {f"1.2.40.{study}": instances_of(study, 32) for study in range(4)}
    samples = [one for group in sent.values() for one in group]
    again = random.Random(2).sample(samples, 64)
    other = [replace(one, pixels=b"other content") for one in samples[:8]]

    first = send(site, dealt([*samples, *again], 3))
    refused = send(site, [[one] for one in other])

    assert {status for answers in first.values() for status in answers} == {0}
    assert {status for answers in refused.values() for status in answers} == {CONFLICT}
    assert site.settle_all(len(samples))
    assert_assembled(site, sent)
