import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_world import SR_3D, World, make_world

from core.database import deliveries, events, reports
from core.database.deliveries import DeliveryRow
from core.errors import StoreUnavailable
from core.lifecycle import DeliveryState
from core.report_classes import report_classes
from core.settings import DeliverySettings, DestinationSettings, Settings
from core.uids import derived_uid
from dicom_node.delivery.back_off import Next, next_step
from dicom_node.delivery.courier import Courier
from dicom_node.delivery.destinations import sender_for
from dicom_node.senders.c_store import CStoreSender
from dicom_node.senders.sender import Answer, Outcome, OutgoingReport
from dicom_node.senders.stow_rs import StowSender

ACCEPTED = Answer(Outcome.ACCEPTED, "0000 success")
WARNED = Answer(Outcome.ACCEPTED, "B000 warning: elements coerced")
REFUSED = Answer(Outcome.REFUSED, "0122 SOP class not supported")
LATER = Answer(Outcome.UNAVAILABLE, "A700 out of resources")
DELIVERY = DeliverySettings(
    first_delay_s=2, maximum_delay_s=900, horizon_s=72 * 3600, refusals_before_failed=3
)


class ScriptedSender:
    """Gives the answers it was told, and keeps the bytes it was given."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[bytes] = []
        self.rounds: list[int] = []
        self.rests = 0
        self.closed = False

    def send(self, items: Sequence[OutgoingReport]) -> Iterator[Answer]:
        self.rounds.append(len(items))
        for item in items:
            self.sent.append(item.path.read_bytes())
            answer = self.answers.pop(0) if self.answers else ACCEPTED
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def rest(self) -> None:
        self.rests += 1

    def close(self) -> None:
        self.closed = True


class WallClock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    made = make_world(Settings(data_dir=tmp_path, delivery=DELIVERY))
    yield made
    made.database.close()


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


def courier(
    world: World, sender: ScriptedSender, clock: Callable[[], float], name: str = "pacs"
) -> Courier:
    return Courier(
        name,
        sender,
        world.database,
        world.store,
        world.settings.delivery,
        clock=clock,
        draw=lambda: 1.0,
    )


def only(world: World, name: str) -> DeliveryRow:
    (row,) = world.deliveries(name)
    return row


def test_an_accepted_report_is_delivered_with_the_bytes_that_are_stored(world, clock):
    report_id = world.report("a", ("pacs",))
    sender = ScriptedSender(ACCEPTED)

    courier(world, sender, clock).deliver_due()

    row = only(world, "a")
    assert (row.state, row.attempts) == (DeliveryState.DELIVERED, 1)
    assert sender.sent == [world.report_bytes(report_id)]


def test_a_warning_is_a_delivery_and_the_warning_is_kept(world, clock):
    world.report("a", ("pacs",))

    courier(world, ScriptedSender(WARNED), clock).deliver_due()

    row = only(world, "a")
    assert (row.state, row.last_answer) == (DeliveryState.DELIVERED, WARNED.words)


def test_a_destination_that_says_later_is_tried_again_with_the_same_bytes(world, clock):
    world.report("a", ("pacs",))
    sender = ScriptedSender(LATER, LATER, ACCEPTED)
    carrier = courier(world, sender, clock)

    states = []
    for _ in range(3):
        carrier.deliver_due()
        states.append(only(world, "a").state)
        clock.ahead += 1000

    waiting = DeliveryState.WAITING
    assert states == [waiting, waiting, DeliveryState.DELIVERED]
    assert len(set(sender.sent)) == 1
    assert only(world, "a").attempts == 3


def test_nothing_is_sent_before_its_time(world, clock):
    world.report("a", ("pacs",))
    sender = ScriptedSender(LATER)
    carrier = courier(world, sender, clock)
    carrier.deliver_due()

    clock.ahead += 1.5
    carrier.deliver_due()
    early = len(sender.sent)
    clock.ahead += 1
    carrier.deliver_due()

    assert (early, len(sender.sent)) == (1, 2)


def test_the_third_refusal_fails_a_delivery_in_sight(world, clock):
    world.report("a", ("pacs",))
    carrier = courier(world, ScriptedSender(REFUSED, REFUSED, REFUSED), clock)

    states = []
    for _ in range(3):
        carrier.deliver_due()
        states.append(only(world, "a").state)
        clock.ahead += 1000

    row = only(world, "a")
    assert states == [DeliveryState.WAITING] * 2 + [DeliveryState.FAILED]
    assert row.last_answer == "refused 3 times: 0122 SOP class not supported"
    with world.database.read() as connection:
        study = world.study(derived_uid("study", "a"))
        names = [entry.name for entry in events.events_of_study(connection, study.id)]
    assert names[-1] == "delivery failed"


def test_an_outage_shorter_than_the_horizon_never_gives_up(world, clock):
    world.report("a", ("pacs",))
    sender = ScriptedSender(*[LATER] * 500)
    carrier = courier(world, sender, clock)

    while clock.ahead < 71.5 * 3600:
        carrier.deliver_due()
        clock.ahead += 900
    still = only(world, "a").state
    sender.answers.clear()
    carrier.deliver_due()

    assert still is DeliveryState.WAITING
    assert only(world, "a").state is DeliveryState.DELIVERED


def test_an_outage_longer_than_the_horizon_fails_with_its_reason(world, clock):
    world.report("a", ("pacs",))
    carrier = courier(world, ScriptedSender(LATER), clock)
    clock.ahead += 73 * 3600

    carrier.deliver_due()

    row = only(world, "a")
    assert row.state is DeliveryState.FAILED
    assert row.last_answer == "not accepted within 72 h; last: A700 out of resources"


def test_all_that_is_due_goes_in_one_round(world, clock):
    for name in "abc":
        world.report(name, ("pacs",))
    sender = ScriptedSender()

    courier(world, sender, clock).deliver_due()

    assert sender.rounds == [3]
    assert len(set(sender.sent)) == 3


def test_a_sender_hears_that_there_is_nothing_to_send(world, clock):
    sender = ScriptedSender()

    courier(world, sender, clock).deliver_due()

    assert (sender.rests, sender.rounds) == (1, [])


def test_a_courier_closes_what_its_sender_keeps_open(world, clock):
    sender = ScriptedSender()

    courier(world, sender, clock).close()

    assert sender.closed


def test_a_courier_leaves_other_destinations_alone(world, clock):
    world.report("a", ("pacs", "vna"))

    courier(world, ScriptedSender(), clock, "vna").deliver_due()

    states = {row.destination: row.state for row in world.deliveries("a")}
    assert states == {"pacs": DeliveryState.WAITING, "vna": DeliveryState.DELIVERED}


def test_each_answer_is_kept_before_the_next_report_is_sent(world, clock):
    world.report("a", ("pacs",))
    world.report("b", ("pacs",))
    carrier = courier(world, ScriptedSender(ACCEPTED, OSError("killed")), clock)

    with pytest.raises(OSError, match="killed"):
        carrier.deliver_due()

    assert only(world, "a").state is DeliveryState.DELIVERED
    assert only(world, "b").state is DeliveryState.SENDING


def test_a_round_that_broke_off_is_taken_up_again(world, clock):
    world.report("a", ("pacs",))
    carrier = courier(world, ScriptedSender(StoreUnavailable("locked")), clock)
    with pytest.raises(StoreUnavailable):
        carrier.deliver_due()

    clock.ahead += 1
    carrier.deliver_due()

    row = only(world, "a")
    assert (row.state, row.attempts) == (DeliveryState.DELIVERED, 2)


def test_a_killed_node_sends_what_it_was_sending_again_after_its_start(world, clock):
    world.report("a", ("pacs",))
    with world.database.write() as connection:
        deliveries.start(connection, only(world, "a").id)
    sender = ScriptedSender()

    with world.database.write() as connection:
        again = deliveries.interrupted(connection)
    courier(world, sender, clock).deliver_due()

    assert again == 1
    assert only(world, "a").state is DeliveryState.DELIVERED


def test_a_stopping_courier_sends_nothing_more_and_puts_the_rest_back(world, clock):
    world.report("a", ("pacs",))
    world.report("b", ("pacs",))

    class StoppingSender(ScriptedSender):
        def send(self, items: Sequence[OutgoingReport]) -> Iterator[Answer]:
            for answer in super().send(items):
                carrier.stop()
                yield answer

    sender = StoppingSender()
    carrier = courier(world, sender, clock)

    carrier.deliver_due()

    assert only(world, "a").state is DeliveryState.DELIVERED
    assert only(world, "b").state is DeliveryState.WAITING
    assert len(sender.sent) == 1


def test_a_damaged_report_is_not_sent_and_fails_in_sight(world, clock):
    report_id = world.report("a", ("pacs",))
    with world.database.read() as connection:
        row = reports.report_by_id(connection, report_id)
    world.store.report_path(row.sha256).write_bytes(b"damaged")
    sender = ScriptedSender()

    courier(world, sender, clock).deliver_due()

    assert sender.sent == []
    assert only(world, "a").state is DeliveryState.FAILED
    assert "changed on the disk" in str(only(world, "a").last_answer)


def row_with(attempts: int, refusals: int = 0, created_at: float = 0.0) -> DeliveryRow:
    return DeliveryRow(
        id=1,
        report_id=1,
        destination="pacs",
        state=DeliveryState.WAITING,
        attempts=attempts,
        refusals=refusals,
        due_at=0.0,
        created_at=created_at,
        delivered_at=None,
        last_answer=None,
    )


@pytest.mark.parametrize(
    ("attempts", "delay"), [(0, 2), (1, 4), (2, 8), (8, 512), (9, 900), (100_000, 900)]
)
def test_the_delay_doubles_up_to_its_limit(attempts, delay):
    step = next_step(row_with(attempts), LATER, DELIVERY, now=1.0, draw=lambda: 1.0)

    assert (step.next, step.delay_s) == (Next.LATER, delay)


@given(st.integers(0, 10**6), st.integers(0, 10), st.floats(0, 1), st.floats(0, 10**7))
def test_no_delay_is_longer_than_allowed_or_shorter_than_half_the_first(
    attempts, refusals, drawn, now
):
    row = row_with(attempts, refusals)

    step = next_step(row, LATER, DELIVERY, now=now, draw=lambda: drawn)

    assert step.next in (Next.LATER, Next.FAILED)
    assert step.next is Next.FAILED or 1 <= step.delay_s <= 900


def test_a_destinations_kind_chooses_its_sender():
    settings = Settings()
    stow = DestinationSettings(name="s", kind="stow", url="http://127.0.0.1/dicom-web")

    assert isinstance(sender_for(DestinationSettings(name="d"), settings), CStoreSender)
    assert isinstance(sender_for(stow, settings), StowSender)


def test_a_report_is_needed_in_each_class_that_its_destinations_take():
    settings = Settings(
        destinations=(
            DestinationSettings(name="new"),
            DestinationSettings(name="old", report_class="enhanced"),
        )
    )

    assert report_classes(settings, ["new"]) == {SR_3D}
    assert report_classes(settings, ["new", "old"]) == {
        SR_3D,
        "1.2.840.10008.5.1.4.1.1.88.22",
    }
    assert report_classes(settings, []) == {SR_3D}
