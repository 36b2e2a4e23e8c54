import os
import re
import subprocess
import sys
from pathlib import Path

from core.faults import NAMES, fault

ROOT = Path(__file__).parents[3]


def test_without_a_plan_a_fault_point_does_nothing():
    for name in NAMES:
        fault(name)


def test_the_nth_visit_of_a_named_place_is_killed():
    code = (
        "from core.faults import fault\n"
        "fault('scp.before_ack'); print('one', flush=True)\n"
        "fault('scp.before_ack'); print('two', flush=True)\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FAULTS": "scp.before_ack:kill:2"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == -9
    assert ended.stdout == "one\n"


def test_every_fault_point_in_the_code_has_a_listed_name_and_every_name_a_place():
    used = {
        name
        for room in ("core", "dicom_node", "worker", "models", "cli")
        for path in (ROOT / room).rglob("*.py")
        if path.name != "faults.py"
        for name in re.findall(r'\bfault\(\s*"([^"]+)"', path.read_text())
    }

    assert used == NAMES
