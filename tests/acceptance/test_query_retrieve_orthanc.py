"""Orthanc as the peer: it queries the node, and has it send what it found."""

from pathlib import Path

import pytest

from core.settings import RetrieveDestinationSettings
from tests.integration.test_query_retrieve import node_with
from tests.peers import Orthanc, needs_orthanc
from tests.running import wait_until
from tests.stored_studies import make_instance, uid

pytestmark = [pytest.mark.acceptance, needs_orthanc]


def test_orthanc_finds_a_study_and_retrieves_it(tmp_path: Path) -> None:
    japanese = "Yamada^Tarou=山田^太郎"
    sent = [make_instance(1, 1, number, PatientName=japanese) for number in (1, 2, 3)]
    with Orthanc(tmp_path / "orthanc") as orthanc:
        place = RetrieveDestinationSettings(ae_title="ORTHANC", port=orthanc.port)
        with node_with(tmp_path / "data", *sent, destinations=(place,)) as node:
            orthanc.know("node", node.port)
            query = orthanc.post(
                "/modalities/node/query",
                {"Level": "Study", "Query": {"PatientName": "yamada*"}},
            )
            answers = orthanc.get(f"{query['Path']}/answers")
            found = orthanc.get(f"{query['Path']}/answers/0/content?simplify")
            orthanc.post(f"{query['Path']}/answers/0/retrieve", b"ORTHANC")
            wait_until(
                lambda: orthanc.get("/statistics")["CountInstances"] == 3, "retrieved"
            )

    assert answers == ["0"]
    assert found["StudyInstanceUID"] == uid(1)
