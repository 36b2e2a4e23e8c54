import base64
import json
import time
from collections.abc import Iterator

import fakeredis
import kombu.transport.redis
import pytest
from node_world import World, make_world

from core.database import jobs, outbox, schema
from core.database.jobs import Beat
from core.errors import BrokerUnavailable
from core.lifecycle import DeliveryState, JobState
from core.queue import announce_job, make_celery
from core.settings import (
    DestinationSettings,
    Priority,
    QueueSettings,
    ReportSettings,
    Settings,
)
from dicom_node.publisher import BACKLOG_POLL_S, MAXIMUM_DELAY_S, Publisher
from dicom_node.sweep import LeaseWatch, Sweep

QUEUE = QueueSettings(lease_s=30, republish_after_s=60, maximum_attempts=3)


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    made = make_world(
        Settings(
            data_dir=tmp_path,
            queue=QUEUE,
            destinations=(DestinationSettings(name="pacs"),),
        )
    )
    yield made
    made.database.close()


class Broker:
    """Takes messages, or is away as long as it is told."""

    def __init__(self) -> None:
        self.away = False
        self.messages: list[tuple[int, Priority]] = []

    def __call__(self, job_id: int, priority: Priority) -> None:
        if self.away:
            raise BrokerUnavailable("away")
        self.messages.append((job_id, priority))


def beat(job_id: int = 1, token: str = "a", heartbeat: int = 0) -> Beat:
    return Beat(job_id, token, heartbeat, attempts=1)


def test_a_counter_that_stands_still_for_a_lease_is_dead():
    watch = LeaseWatch(30)

    found = [watch.dead([beat()], now=now) for now in (0, 29.9, 30)]

    assert found == [[], [], [beat()]]


def test_a_counter_that_moves_lives():
    watch = LeaseWatch(30)

    found = [watch.dead([beat(heartbeat=n)], now=20 * n) for n in range(10)]

    assert found == [[]] * 10


def test_a_job_that_another_worker_took_gets_a_lease_of_its_own():
    watch = LeaseWatch(30)
    watch.dead([beat()], now=0)
    watch.dead([beat(token="b")], now=29)

    assert watch.dead([beat(token="b")], now=31) == []
    assert watch.dead([beat(token="b")], now=59) == [beat(token="b")]


def test_a_job_that_was_away_in_between_is_seen_anew():
    watch = LeaseWatch(30)
    watch.dead([beat()], now=0)
    watch.dead([], now=10)

    assert watch.dead([beat()], now=31) == []


def test_a_dead_workers_job_is_queued_again_and_announced(world):
    uid = world.receive("a")
    job_id = world.queue_job(uid)
    with world.database.write() as connection:
        jobs.claim(connection, job_id, worker="w")
    sweep = Sweep(world.settings, world.database, clock=world.clock)
    sweep.sweep()
    world.clock.now += 30

    swept = sweep.sweep()

    (job,) = world.jobs(uid)
    with world.database.read() as connection:
        waiting = {entry.job_id for entry in outbox.unpublished(connection)}
    assert swept.taken_back == 1
    assert (job.state, job.attempts, job.reason) == (JobState.QUEUED, 1, "worker died")
    assert waiting == {job_id}


@pytest.mark.parametrize(("report", "pending"), [("send", "pending"), ("keep", None)])
def test_a_job_that_kills_its_worker_three_times_fails_in_sight(world, report, pending):
    settings = world.settings.model_copy(
        update={"report": ReportSettings(failed=report)}
    )
    uid = world.receive("a")
    job_id = world.queue_job(uid)
    sweep = Sweep(settings, world.database, clock=world.clock)
    for _ in range(3):
        with world.database.write() as connection:
            assert jobs.claim(connection, job_id, worker="w")
        sweep.sweep()
        world.clock.now += 30
        sweep.sweep()

    (job,) = world.jobs(uid)

    assert (job.state, job.attempts, job.reason) == (
        JobState.FAILED,
        3,
        "worker died",
    )
    assert job.failure_report == pending


def test_a_job_whose_message_was_lost_is_announced_again(world):
    job_id = world.queue_job(world.receive("a"))
    broker = Broker()
    publisher = Publisher(world.database, broker)
    publisher.publish_due()
    with world.database.write() as connection:
        connection.execute(schema.outbox.update().values(published_at=time.time() - 61))

    swept = Sweep(world.settings, world.database, clock=world.clock).sweep()
    publisher.publish_due()

    assert swept.announced_again == 1
    assert [message[0] for message in broker.messages] == [job_id, job_id]


def test_a_sweep_that_found_something_wakes_the_publisher(world):
    uid = world.receive("a")
    job_id = world.queue_job(uid)
    with world.database.write() as connection:
        jobs.claim(connection, job_id, worker="w")
    woken: list[bool] = []
    sweep = Sweep(
        world.settings,
        world.database,
        clock=world.clock,
        on_jobs=lambda: woken.append(True),
    )
    sweep.sweep()
    quiet = list(woken)
    world.clock.now += 30

    sweep.sweep()

    assert (quiet, woken) == ([], [True])


def test_a_delivery_to_a_destination_that_is_gone_fails_with_clear_words(world):
    world.report("a", ("pacs", "old pacs"))

    swept = Sweep(world.settings, world.database).sweep()

    rows = {row.destination: row for row in world.deliveries("a")}
    assert swept.without_destination == 1
    assert rows["pacs"].state is DeliveryState.WAITING
    assert rows["old pacs"].state is DeliveryState.FAILED
    assert "'old pacs'" in str(rows["old pacs"].last_answer)


def test_urgent_jobs_are_announced_first(world):
    routine = world.queue_job(world.receive("a", study="a"))
    stat = world.queue_job(world.receive("b", study="b"), priority=Priority.STAT)
    broker = Broker()

    Publisher(world.database, broker).publish_due()

    assert [message[0] for message in broker.messages] == [stat, routine]


def test_only_so_many_messages_are_out_and_more_follow_as_jobs_are_claimed(
    world, monkeypatch
):
    monkeypatch.setattr(outbox, "_WINDOW", 3)
    queued = [world.queue_job(world.receive("a", study=f"s{n}")) for n in range(5)]
    broker = Broker()
    publisher = Publisher(world.database, broker)
    pauses = [publisher.publish_due() for _ in range(2)]
    out_at_first = [message[0] for message in broker.messages]

    with world.database.write() as connection:
        assert jobs.claim(connection, queued[0], worker="w")
    publisher.publish_due()

    assert pauses == [0.0, BACKLOG_POLL_S]
    assert out_at_first == queued[:3]
    assert [message[0] for message in broker.messages] == queued[:4]


def test_a_stat_order_goes_out_while_a_long_queue_waits(world, monkeypatch):
    monkeypatch.setattr(outbox, "_WINDOW", 3)
    for number in range(5):
        world.queue_job(world.receive("a", study=f"s{number}"))
    broker = Broker()
    publisher = Publisher(world.database, broker)
    publisher.publish_due()
    stat = world.queue_job(world.receive("b", study="b"), priority=Priority.STAT)

    publisher.publish_due()

    assert broker.messages[-1] == (stat, Priority.STAT)


def test_messages_that_were_lost_go_out_again_before_others(world, monkeypatch):
    monkeypatch.setattr(outbox, "_WINDOW", 3)
    queued = [world.queue_job(world.receive("a", study=f"s{n}")) for n in range(5)]
    broker = Broker()
    publisher = Publisher(world.database, broker)
    publisher.publish_due()
    with world.database.write() as connection:
        connection.execute(
            schema.outbox.update()
            .where(schema.outbox.c.published_at.is_not(None))
            .values(published_at=time.time() - 61)
        )

    swept = Sweep(world.settings, world.database, clock=world.clock).sweep()
    publisher.publish_due()

    assert swept.announced_again == 3
    assert [message[0] for message in broker.messages] == queued[:3] * 2


def test_jobs_that_must_wait_for_others_do_not_hold_up_the_line(world, monkeypatch):
    monkeypatch.setattr(outbox, "_WINDOW", 2)
    uids = [world.receive("a", study=f"s{n}") for n in range(2)]
    first = [world.queue_job(uid) for uid in uids]
    for number in range(2):
        world.receive("late", study=f"s{number}")
    late = [world.queue_job(uid) for uid in uids]
    broker = Broker()
    publisher = Publisher(world.database, broker)
    publisher.publish_due()
    with world.database.write() as connection:
        held = [jobs.claim(connection, job_id, worker="w") for job_id in first]
    publisher.publish_due()
    with world.database.write() as connection:
        refused = [jobs.claim(connection, job_id, worker="w") for job_id in late]
        for claim in held:
            jobs.give_back(
                connection, claim.job_id, claim.lease_token, reason="worker died",
                explanation="", maximum_attempts=3,
            )  # fmt: skip

    publisher.publish_due()

    assert refused == [None, None]
    assert [message[0] for message in broker.messages] == [*first, *late, *first]


def test_a_published_job_is_not_announced_twice(world):
    world.queue_job(world.receive("a"))
    broker = Broker()
    publisher = Publisher(world.database, broker)

    publisher.publish_due()
    publisher.publish_due()

    assert len(broker.messages) == 1


def test_while_the_broker_is_away_jobs_wait_and_go_out_on_its_return(world):
    job_id = world.queue_job(world.receive("a"))
    broker = Broker()
    broker.away = True
    publisher = Publisher(world.database, broker)

    pauses = [publisher.publish_due() for _ in range(8)]
    away = publisher.broker_answers
    broker.away = False
    publisher.publish_due()

    assert pauses[0] < pauses[1] < pauses[-1] == MAXIMUM_DELAY_S
    assert (away, publisher.broker_answers) == (False, True)
    assert [message[0] for message in broker.messages] == [job_id]


def test_a_message_holds_the_job_id_and_nothing_else(monkeypatch, world):
    server = fakeredis.FakeServer()
    monkeypatch.setattr(
        kombu.transport.redis.Channel,
        "_create_client",
        lambda _channel, **_arguments: fakeredis.FakeStrictRedis(server=server),
    )
    app = make_celery(Settings(queue=QueueSettings(broker_url="redis://127.0.0.1:1/0")))
    job_id = world.queue_job(world.receive("a"))

    Publisher(
        world.database, lambda number, priority: announce_job(app, number, priority)
    ).publish_due()

    stored = fakeredis.FakeStrictRedis(server=server)
    lists = [key for key in stored.keys("*") if stored.type(key) == b"list"]
    messages = [json.loads(text) for key in lists for text in stored.lrange(key, 0, -1)]
    app.close()
    arguments, named, _ = json.loads(base64.b64decode(messages[0]["body"]))
    assert len(messages) == 1
    assert (arguments, named) == ([], {"job_id": job_id})
