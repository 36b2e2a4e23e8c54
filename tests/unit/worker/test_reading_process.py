import os
import threading

import pytest

from core.settings import WorkerSettings
from worker.reading_process import AttemptFailed, LeaseLost, Ticker


def ticker(still_ours=lambda: True, must_stop=lambda: False):
    return Ticker(0.05, still_ours, must_stop)


@pytest.fixture
def process(settings, make_process):
    return make_process(settings)


def ask(process, *, time_limit_s=20.0, with_ticker=None):
    return process.request(
        "warm up", {}, time_limit_s=time_limit_s, ticker=with_ticker or ticker()
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_answer_comes_back_and_the_process_stays(process):
    assert ask(process) == {"models": []}
    pid = process.pid

    ask(process)

    assert process.pid == pid


def test_a_killed_process_is_told_by_its_signal_and_the_next_request_starts_another(
    process, script
):
    script("die")

    with pytest.raises(AttemptFailed, match="SIGKILL") as caught:
        ask(process)

    assert caught.value.reason == "worker died"
    assert ask(process) == {"models": []}


def test_a_request_over_its_time_limit_is_killed(process, script):
    script("hang")
    pid = process.start()

    with pytest.raises(AttemptFailed, match="time limit"):
        ask(process, time_limit_s=0.2)

    assert not alive(pid)


def test_a_lost_lease_ends_the_reading_at_once(process, script):
    script("hang")
    beats = iter([True, True, False])
    pid = process.start()

    with pytest.raises(LeaseLost):
        ask(process, with_ticker=ticker(still_ours=lambda: next(beats)))

    assert not alive(pid)


def test_a_worker_that_must_stop_does_not_wait_for_the_answer(process, script):
    script("hang")

    with pytest.raises(AttemptFailed) as caught:
        ask(process, with_ticker=ticker(must_stop=lambda: True))

    assert caught.value.reason == "stopped"


def test_heartbeats_are_shown_while_the_answer_takes_its_time(process, script):
    script("slow=0.5")
    beats = []

    ask(process, with_ticker=ticker(still_ours=lambda: beats.append(1) or True))

    assert len(beats) >= 3


def test_a_process_is_replaced_after_its_share_of_jobs(settings, make_process):
    process = make_process(
        settings.model_copy(
            update={"worker": WorkerSettings(maximum_jobs_per_process=2)}
        )
    )
    pids = []
    for _ in range(3):
        with process.job():
            ask(process)
            pids.append(process.pid)

    assert pids[0] == pids[1] != pids[2]
    assert not alive(pids[0])


def test_a_process_is_not_replaced_under_a_job_that_is_in_it(settings, make_process):
    process = make_process(
        settings.model_copy(
            update={"worker": WorkerSettings(maximum_jobs_per_process=1)}
        )
    )
    seen = []

    def another_job():
        with process.job():
            seen.append(process.start())

    with process.job():
        ask(process)
        first = process.pid
        thread = threading.Thread(target=another_job)
        thread.start()
        thread.join(0.3)
        assert seen == []
        assert ask(process) == {"models": []}
        assert process.pid == first
    thread.join(20)

    assert seen != [first]


def test_answers_of_requests_side_by_side_find_whoever_asked(process):
    found = {}

    def request(number):
        order = {"sop_class_uids": [], "study_instance_uid": str(number)}
        operation = "report" if number % 2 else "warm up"
        found[number] = process.request(
            operation, order, time_limit_s=20, ticker=ticker()
        )

    threads = [threading.Thread(target=request, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    for number in range(12):
        expected = {"documents": []} if number % 2 else {"models": []}
        assert found[number] == expected


def test_a_death_tells_whether_there_was_company(process, script):
    script("late-death")
    told = []

    def request():
        try:
            ask(process)
        except AttemptFailed as error:
            told.append(error.in_company)

    threads = [threading.Thread(target=request) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert told == [True, True]

    script("die")
    request()
    assert told[2:] == [False]


def test_a_process_that_ends_for_its_memory_says_so(process, script):
    script("memory-watch")

    with pytest.raises(AttemptFailed, match="memory_mib") as caught:
        ask(process)

    assert caught.value.reason == "memory"


def test_the_process_ends_by_itself_when_its_line_is_cut(process):
    process.start()
    assert process._process is not None
    assert process._process.stdin is not None

    process._process.stdin.close()

    process._process.wait(timeout=10)
