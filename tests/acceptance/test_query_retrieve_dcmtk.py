"""DCMTK's findscu, getscu and movescu against the node."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread

from core.settings import RetrieveDestinationSettings
from tests.integration.receiving_node import Node
from tests.integration.test_query_retrieve import archive, node_with
from tests.stored_studies import encoded, make_instance, uid

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        any(shutil.which(name) is None for name in ("findscu", "getscu", "movescu")),
        reason="needs DCMTK's findscu, getscu and movescu (Debian: dcmtk)",
    ),
]


def dcmtk(tool: str, node: Node, *arguments: str) -> str:
    done = subprocess.run(
        [tool, "-v", "-aec", "SECONDREAD", *arguments, "127.0.0.1", str(node.port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def keys(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("-k", pair)]


def test_findscu_finds_a_study_by_its_patients_name(tmp_path: Path) -> None:
    with node_with(tmp_path, make_instance(1), make_instance(2)) as node:
        output = dcmtk(
            "findscu", node, "-S",
            *keys("QueryRetrieveLevel=STUDY", "PatientName=test^*1",
                  "StudyInstanceUID", "NumberOfStudyRelatedInstances"),
        )  # fmt: skip

    assert re.findall(r"StudyInstanceUID\n?|UI \[([0-9.]+)\]", output)
    assert f"[{uid(1)}" in output
    assert f"[{uid(2)}" not in output
    assert "Success" in output


def test_getscu_gets_what_is_here(tmp_path: Path) -> None:
    sent = [make_instance(1, 1, number) for number in (1, 2, 3)]
    folder = tmp_path / "got"
    folder.mkdir()
    with node_with(tmp_path / "data", *sent) as node:
        dcmtk(
            "getscu", node, "-S", "-od", str(folder),
            *keys("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={uid(1)}"),
        )  # fmt: skip

    got = [dcmread(path) for path in folder.iterdir()]
    assert sorted(one.SOPInstanceUID for one in got) == [
        one.SOPInstanceUID for one in sent
    ]
    assert {one.PixelData for one in got} == {one.PixelData for one in sent}


def test_movescu_moves_to_a_known_destination_and_to_no_other(tmp_path: Path) -> None:
    sent = [make_instance(1, 1, number) for number in (1, 2)]
    asked = keys("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={uid(1)}")
    with archive() as (port, received):
        place = RetrieveDestinationSettings(ae_title="ARCHIVE", port=port)
        with node_with(tmp_path, *sent, destinations=(place,)) as node:
            dcmtk("movescu", node, "-S", "-aem", "ARCHIVE", *asked)
            refused = subprocess.run(
                ["movescu", "-v", "-S", "-aec", "SECONDREAD", "-aem", "NOBODY", *asked,
                 "127.0.0.1", str(node.port)],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip

    assert sorted(received) == sorted(encoded(one) for one in sent)
    assert "MoveDestinationUnknown" in refused.stdout + refused.stderr
