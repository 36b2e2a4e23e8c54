from collections.abc import Callable, Iterator, Sequence

import pytest
from node_world import MODEL, World, make_world

from core.database import events, outbox, studies
from core.domain import ModelIdentity
from core.errors import StoreUnavailable
from core.lifecycle import JobState, StudyState
from core.settings import (
    AssemblySettings,
    DestinationSettings,
    Priority,
    RuleSettings,
    Settings,
    SourceSettings,
)
from core.uids import derived_uid
from dicom_node.assembly import Assembler

RULE = RuleSettings(name="radiographs", when={"Modality": ["DX", "SR"]})


@pytest.fixture
def make(tmp_path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def build(**changes: object) -> World:
        values = {
            "assembly": AssemblySettings(quiet_time_s=10, hard_cap_s=100),
            "rules": (RULE,),
            "destinations": (DestinationSettings(name="pacs"),),
        } | changes
        made.append(make_world(Settings(data_dir=tmp_path, **values)))
        return made[-1]

    yield build
    for world in made:
        world.database.close()


def assembler(
    world: World, active: Sequence[ModelIdentity] = (MODEL,), **arguments: object
) -> Assembler:
    return Assembler(
        world.settings,
        world.database,
        world.store,
        lambda: active,
        clock=world.clock,
        **arguments,
    )


def arrive(world: World, to: Assembler, name: str, **values: object) -> str:
    uid = world.receive(name, **values)
    to.note_arrival(uid)
    return uid


def wait(world: World, to: Assembler, seconds: float) -> None:
    world.clock.now += seconds
    to.tick()


def test_a_study_settles_after_its_quiet_time_and_its_job_is_queued(make):
    world = make()
    assembly = assembler(world)
    uid = arrive(world, assembly, "a")

    wait(world, assembly, 10)

    study = world.study(uid)
    (job,) = world.jobs(uid)
    assert (study.state, study.settle_reason) == (
        StudyState.SETTLED,
        "quiet for 10 s",
    )
    assert (job.state, job.model, job.content_set) == (
        JobState.QUEUED,
        MODEL.name,
        study.content_set,
    )
    assert job.destinations == ("pacs",)


def test_the_job_is_announced_by_the_transaction_that_settles(make):
    world = make()
    woken: list[bool] = []
    assembly = assembler(world, on_jobs=lambda: woken.append(True))
    uid = arrive(world, assembly, "a")

    wait(world, assembly, 10)

    with world.database.read() as connection:
        (entry,) = outbox.unpublished(connection)
    assert entry.job_id == world.jobs(uid)[0].id
    assert woken == [True]


def test_each_instance_starts_the_quiet_time_again(make):
    world = make()
    assembly = assembler(world)
    uid = arrive(world, assembly, "a")
    wait(world, assembly, 9)
    arrive(world, assembly, "b")
    wait(world, assembly, 9)

    still = world.study(uid).state
    wait(world, assembly, 1)

    assert still is StudyState.RECEIVING
    assert world.study(uid).state is StudyState.SETTLED


def test_a_tick_tells_when_the_next_one_is_of_use(make):
    world = make(assembly=AssemblySettings(quiet_time_s=0.5, hard_cap_s=100))
    assembly = assembler(world)
    arrive(world, assembly, "a")

    assert assembly.tick() == pytest.approx(0.5)


def test_the_first_source_that_matches_gives_the_quiet_time(make):
    world = make(
        sources=(
            SourceSettings(calling_ae_title="CT*", quiet_time_s=3),
            SourceSettings(calling_ae_title="*", quiet_time_s=60),
        )
    )
    assembly = assembler(world)
    fast = arrive(world, assembly, "a", study="fast", calling="CT1")
    slow = arrive(world, assembly, "a", study="slow", calling="MR1")

    wait(world, assembly, 3)

    assert world.study(fast).settle_reason == "quiet for 3 s"
    assert world.study(slow).state is StudyState.RECEIVING


def test_after_a_restart_open_studies_count_as_arriving_now(make):
    world = make()
    uid = world.receive("a")
    world.clock.now += 1000
    assembly = assembler(world)

    resumed = assembly.resume()
    wait(world, assembly, 9)
    still = world.study(uid).state
    wait(world, assembly, 1)

    assert resumed == 1
    assert still is StudyState.RECEIVING
    assert world.study(uid).state is StudyState.SETTLED


def test_resuming_again_does_not_restart_a_quiet_time(make):
    world = make()
    assembly = assembler(world)
    uid = arrive(world, assembly, "a")
    world.clock.now += 9

    resumed = assembly.resume()
    wait(world, assembly, 1)

    assert resumed == 0
    assert world.study(uid).state is StudyState.SETTLED


def test_as_many_instances_as_expected_settle_a_study_at_once(make):
    world = make(
        sources=(
            SourceSettings(expected_count_attribute="NumberOfStudyRelatedInstances"),
        )
    )
    assembly = assembler(world)
    uid = arrive(world, assembly, "a", NumberOfStudyRelatedInstances="2")
    assembly.tick()
    before = world.study(uid).state
    arrive(world, assembly, "b", NumberOfStudyRelatedInstances="2")

    assembly.tick()

    assert before is StudyState.RECEIVING
    assert world.study(uid).settle_reason == "2 of 2 expected instances"


def test_silence_settles_a_study_that_is_short_of_its_count_and_says_so(make):
    world = make(
        sources=(
            SourceSettings(expected_count_attribute="NumberOfStudyRelatedInstances"),
        )
    )
    assembly = assembler(world)
    uid = arrive(world, assembly, "a", NumberOfStudyRelatedInstances="412")

    wait(world, assembly, 10)

    expected = "quiet for 10 s; 1 of 412 expected instances"
    assert world.study(uid).settle_reason == expected


def test_a_missing_series_holds_a_study_and_the_timeline_says_what_it_waits_for(make):
    world = make(
        sources=(SourceSettings(required_series=({"SeriesDescription": "LATERAL"},)),)
    )
    assembly = assembler(world)
    uid = arrive(world, assembly, "a", SeriesDescription="PA")
    wait(world, assembly, 11)
    held = world.study(uid)
    with world.database.read() as connection:
        told = events.events_of_study(connection, held.id)[-1]
    arrive(world, assembly, "b", series="2", SeriesDescription="LATERAL")

    wait(world, assembly, 10)

    assert held.state is StudyState.RECEIVING
    assert (told.name, told.detail) == (
        "waiting",
        "missing: a series with SeriesDescription is LATERAL",
    )
    assert world.study(uid).settle_reason == "quiet for 10 s"


def test_the_hard_cap_settles_a_study_and_says_what_is_missing(make):
    world = make(sources=(SourceSettings(minimum_instances=3),))
    assembly = assembler(world)
    uid = arrive(world, assembly, "a")
    wait(world, assembly, 50)
    held = world.study(uid).state

    wait(world, assembly, 50)

    expected = "hard cap of 100 s; missing: 2 of at least 3 instances"
    assert held is StudyState.RECEIVING
    assert world.study(uid).settle_reason == expected


def test_a_late_instance_makes_a_second_job_on_the_new_content(make):
    world = make()
    assembly = assembler(world)
    uid = arrive(world, assembly, "a")
    wait(world, assembly, 10)
    arrive(world, assembly, "b")

    wait(world, assembly, 10)

    first, second = world.jobs(uid)
    assert first.content_set != second.content_set == world.study(uid).content_set


def test_a_resettled_study_with_the_same_images_makes_no_second_job(make):
    world = make()
    assembly = assembler(world)
    uid = arrive(world, assembly, "a")
    wait(world, assembly, 10)
    arrive(world, assembly, "other vendor", is_image=False, series="9", Modality="SR")

    wait(world, assembly, 10)

    assert world.study(uid).state is StudyState.SETTLED
    assert len(world.jobs(uid)) == 1


def test_a_result_of_ours_that_comes_back_starts_nothing(make):
    world = make()
    assembly = assembler(world)
    uid = arrive(
        world, assembly, "ours", own_result=True, is_image=False, Modality="SR"
    )

    wait(world, assembly, 200)

    assert world.study(uid).settled_at is None
    assert world.jobs(uid) == []


def test_a_result_of_ours_fires_no_rule_of_a_study_that_settles_later(make):
    world = make(rules=(RuleSettings(name="sr", when={"Modality": "SR"}),))
    assembly = assembler(world)
    uid = arrive(world, assembly, "a", series="1")
    world.receive("ours", own_result=True, is_image=False, series="9", Modality="SR")

    wait(world, assembly, 10)

    assert world.jobs(uid) == []


def test_a_study_without_images_goes_through_the_rules_too(make):
    world = make(rules=(RuleSettings(name="sr", when={"Modality": "SR"}),))
    assembly = assembler(world)
    uid = arrive(world, assembly, "a", is_image=False, Modality="SR")

    wait(world, assembly, 10)

    assert len(world.jobs(uid)) == 1


def test_a_study_that_no_rule_wants_has_its_reason_in_its_row(make):
    world = make(rules=(RuleSettings(name="ct", when={"Modality": "CT"}),))
    assembly = assembler(world)
    uid = arrive(world, assembly, "a")

    wait(world, assembly, 10)

    study = world.study(uid)
    assert study.state is StudyState.SETTLED
    assert study.no_job_reason == "no rule fires for any of its 1 series"


def test_a_study_without_an_active_model_has_its_reason_in_its_row(make):
    world = make(rules=(RuleSettings(name="ct", models=("brain",)),))
    assembly = assembler(world)
    uid = arrive(world, assembly, "a")

    wait(world, assembly, 10)

    expected = "rule 'ct' fires, but no model named 'brain' is active"
    assert world.study(uid).no_job_reason == expected


def test_an_unreadable_header_settles_with_its_reason(make):
    world = make()
    assembly = assembler(world)
    uid = arrive(world, assembly, "a")
    for path in world.store.root.rglob("*.dcm"):
        path.write_bytes(b"no DICOM")

    wait(world, assembly, 10)

    assert "header" in str(world.study(uid).no_job_reason)


def test_a_stat_order_makes_a_stat_job(make):
    world = make()
    assembly = assembler(world)
    uid = arrive(world, assembly, "a", order_priority=Priority.STAT)

    wait(world, assembly, 10)

    assert world.jobs(uid)[0].priority is Priority.STAT


def test_an_instance_that_comes_while_a_study_settles_keeps_it_open(make):
    world = make()
    arrived: list[str] = []

    def active() -> Sequence[ModelIdentity]:
        # Asked between the judgement and the transaction that settles.
        if not arrived:
            arrived.append(arrive(world, assembly, "late"))
        return (MODEL,)

    assembly = Assembler(
        world.settings, world.database, world.store, active, clock=world.clock
    )
    uid = arrive(world, assembly, "a")

    wait(world, assembly, 10)
    held = world.study(uid).state
    wait(world, assembly, 10)

    assert held is StudyState.RECEIVING
    assert len(world.jobs(uid)) == 1


def test_a_study_that_was_forgotten_meanwhile_is_no_error(make):
    world = make()
    assembly = assembler(world)
    assembly.note_arrival(derived_uid("study", "unknown"))

    wait(world, assembly, 10)

    with world.database.read() as connection:
        assert studies.studies_in_state(connection, StudyState.RECEIVING) == []


def test_a_tick_judges_the_studies_that_are_due_and_no_others(make, monkeypatch):
    world = make()
    assembly = assembler(world)
    early = [arrive(world, assembly, "a", study=f"early {n}") for n in range(5)]
    assembly.tick()
    world.clock.now += 5
    late = [arrive(world, assembly, "a", study=f"late {n}") for n in range(5)]
    assembly.tick()
    judged: list[str] = []
    real = assembly._consider
    monkeypatch.setattr(
        assembly, "_consider", lambda uid: (judged.append(uid), real(uid))
    )
    arrive(world, assembly, "b", study="late 0")

    assembly.tick()
    nothing_due = list(judged)
    wait(world, assembly, 5)

    assert nothing_due == []
    assert sorted(judged) == sorted(early)
    assert {world.study(uid).state for uid in early} == {StudyState.SETTLED}
    assert {world.study(uid).state for uid in late} == {StudyState.RECEIVING}


def test_what_could_not_be_judged_is_judged_at_the_next_tick(make, monkeypatch):
    world = make()
    assembly = assembler(world)
    uids = [arrive(world, assembly, "a", study=f"s{n}") for n in range(3)]
    assembly.tick()
    with monkeypatch.context() as broken:
        broken.setattr(studies, "study_by_uid", _unreadable)
        world.clock.now += 10
        with pytest.raises(StoreUnavailable):
            assembly.tick()

    assembly.tick()

    assert {world.study(uid).state for uid in uids} == {StudyState.SETTLED}


def _unreadable(*_arguments: object) -> None:
    raise StoreUnavailable("the index cannot be read now")
