"""C-FIND, C-GET and C-MOVE over the network, with pynetdicom as the user."""

import gc
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from core.database.engine import open_database
from core.settings import QuerySettings, RetrieveDestinationSettings
from dicom_node.file_meta import FileMeta
from dicom_node.instance_store import InstanceStore
from dicom_node.query.cataloguer import Cataloguer
from dicom_node.statuses import SUCCESS
from tests.integration.receiving_node import Node, node_on
from tests.receiving import eventually, settings_for
from tests.stored_studies import encoded, make_instance, uid

pytestmark = pytest.mark.integration

FIND = StudyRootQueryRetrieveInformationModelFind
GET = StudyRootQueryRetrieveInformationModelGet
MOVE = StudyRootQueryRetrieveInformationModelMove
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


@contextmanager
def node_with(
    data_dir: Path,
    *datasets: Dataset,
    destinations: tuple[RetrieveDestinationSettings, ...] = (),
    allowed: tuple[str, ...] = (),
    syntax: str = EXPLICIT,
) -> Iterator[Node]:
    settings = settings_for(data_dir).model_copy(
        update={
            "query": QuerySettings(allowed_callers=allowed),
            "retrieve_destinations": destinations,
        }
    )
    with node_on(settings) as node:
        for dataset in datasets:
            receive(node, dataset, syntax)
        catch_up(node, len(datasets))
        yield node


def receive(node: Node, dataset: Dataset, syntax: str) -> None:
    sink = node.entity.receiver.begin(
        FileMeta(
            str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), syntax,
            "SCANNER", "SECONDREAD", "127.0.0.1",
        )
    )  # fmt: skip
    sink.write(encoded(dataset, syntax))
    assert sink.commit().status == SUCCESS


def catch_up(node: Node, instances: int) -> None:
    assert eventually(lambda: len(node.rows()) == instances)
    with closing(open_database(node.settings, migrate=False)) as database:
        cataloguer = Cataloguer(database, InstanceStore(node.settings.data_dir))
        while cataloguer.compare(100):
            pass


@contextmanager
def associated(
    node: Node,
    *classes: str,
    handlers: Any = (),
    roles: Any = (),
    syntax: str = EXPLICIT,
) -> Iterator[Any]:
    entity = AE(ae_title="WORKSTATION")
    for sop_class in classes:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(
        "127.0.0.1", node.port, ae_title="SECONDREAD",
        evt_handlers=list(handlers), ext_neg=list(roles),
    )  # fmt: skip
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def identifier(level: str, **keys: Any) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def found(association: Any, model: str, asked: Dataset) -> tuple[list[Dataset], int]:
    matches = []
    for status, match in association.send_c_find(asked, model):
        assert "Status" in status, "no answer"
        if status.Status in (0xFF00, 0xFF01):
            matches.append(match)
        else:
            return matches, int(status.Status)
    raise AssertionError("no last response")


def test_studies_series_and_instances_are_found(tmp_path: Path) -> None:
    sent = [make_instance(1, 1, 1), make_instance(1, 1, 2), make_instance(2, 1, 1)]
    with node_with(tmp_path, *sent) as node, associated(node, FIND) as association:
        studies, status = found(
            association, FIND,
            identifier("STUDY", PatientName="TEST^*", StudyInstanceUID="",
                       StudyDate="20260101-20260101", ModalitiesInStudy="",
                       NumberOfStudyRelatedInstances=None),
        )  # fmt: skip
        series, _ = found(
            association, FIND,
            identifier("SERIES", StudyInstanceUID=uid(1), SeriesInstanceUID="",
                       Modality="CT", SeriesDescription=""),
        )  # fmt: skip
        images, _ = found(
            association, FIND,
            identifier("IMAGE", StudyInstanceUID=uid(1), SeriesInstanceUID=uid(1, 1),
                       SOPInstanceUID="", InstanceNumber="2", Rows=None),
        )  # fmt: skip

    assert status == SUCCESS
    assert [(one.StudyInstanceUID, one.PatientName) for one in studies] == [
        (uid(1), "Test^Patient1")
    ]
    assert studies[0].NumberOfStudyRelatedInstances == 2
    assert studies[0].ModalitiesInStudy == "CT"
    assert studies[0].RetrieveAETitle == "SECONDREAD"
    assert [one.SeriesDescription for one in series] == ["axial 1"]
    assert [(one.SOPInstanceUID, one.Rows) for one in images] == [(uid(1, 1, 2), 4)]


def test_names_of_any_script_are_found_and_come_back(tmp_path: Path) -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    with (
        node_with(tmp_path, make_instance(1, PatientName=name)) as node,
        associated(node, FIND, syntax=IMPLICIT) as association,
    ):
        studies, _ = found(
            association, FIND,
            identifier("STUDY", PatientName="山田*", StudyInstanceUID=""),
        )  # fmt: skip

    assert [str(one.PatientName) for one in studies] == [name]


def test_patients_are_found_once_each(tmp_path: Path) -> None:
    model = PatientRootQueryRetrieveInformationModelFind
    sent = [make_instance(1), make_instance(2, PatientID="ID1"), make_instance(3)]
    with node_with(tmp_path, *sent) as node, associated(node, model) as association:
        patients, _ = found(association, model, identifier("PATIENT", PatientID=""))

    assert sorted(one.PatientID for one in patients) == ["ID1", "ID3"]


@pytest.mark.parametrize(
    "asked", [identifier("PATIENT"), identifier("NONSENSE"), Dataset()]
)
def test_an_identifier_without_a_level_of_its_model_is_refused(
    tmp_path: Path, asked: Dataset
) -> None:
    asked.PatientID = "SECRET"
    with node_with(tmp_path) as node, associated(node, FIND) as association:
        assert found(association, FIND, asked) == ([], 0xA900)


def test_who_is_not_allowed_learns_nothing(tmp_path: Path) -> None:
    with (
        node_with(tmp_path, make_instance(), allowed=("OTHER@127.0.0.1",)) as node,
        associated(node, FIND) as association,
    ):
        asked = identifier("STUDY", StudyInstanceUID="")

        assert found(association, FIND, asked) == ([], 0x0124)


def test_a_find_can_be_cancelled(tmp_path: Path) -> None:
    sent = [make_instance(number) for number in range(1, 60)]
    with node_with(tmp_path, *sent) as node, associated(node, FIND) as association:
        matches, last = 0, None
        for status, _ in association.send_c_find(
            identifier("STUDY", StudyInstanceUID=""), FIND, msg_id=7
        ):
            last = status.Status
            if last in (0xFF00, 0xFF01):
                matches += 1
                if matches == 1:
                    association.send_c_cancel(7, query_model=FIND)
        after, _ = found(
            association, FIND, identifier("STUDY", StudyInstanceUID=uid(1))
        )

    assert last in (0xFE00, SUCCESS)
    assert len(after) == 1


def got(
    node: Node, asked: Dataset, *, classes: tuple[str, ...] = (CTImageStorage,),
    syntax: str = EXPLICIT, answer: int = SUCCESS,
) -> tuple[list[bytes], list[Dataset]]:  # fmt: skip
    received: list[bytes] = []

    def keep(event: Any) -> int:
        received.append(event.request.DataSet.getvalue())
        return answer

    with associated(
        node, GET, *classes,
        handlers=[(evt.EVT_C_STORE, keep)],
        roles=[build_role(one, scp_role=True) for one in classes], syntax=syntax,
    ) as association:  # fmt: skip
        responses = [status for status, _ in association.send_c_get(asked, GET)]
    return received, responses


def test_a_study_is_got_byte_for_byte_with_right_counts(tmp_path: Path) -> None:
    sent = [make_instance(1, series, n) for series in (1, 2) for n in (1, 2)]
    with node_with(tmp_path, *sent, make_instance(2)) as node:
        received, responses = got(node, identifier("STUDY", StudyInstanceUID=uid(1)))

    assert sorted(received) == sorted(encoded(one) for one in sent)
    assert [one.NumberOfRemainingSuboperations for one in responses[:-1]] == [3, 2, 1]
    last = responses[-1]
    assert (last.Status, last.NumberOfCompletedSuboperations) == (SUCCESS, 4)
    assert last.NumberOfFailedSuboperations == 0


def test_series_and_instances_are_got_alone(tmp_path: Path) -> None:
    sent = [make_instance(1, series, n) for series in (1, 2) for n in (1, 2)]
    with node_with(tmp_path, *sent) as node:
        series, _ = got(
            node,
            identifier("SERIES", StudyInstanceUID=uid(1), SeriesInstanceUID=uid(1, 2)),
        )
        images, _ = got(
            node,
            identifier("IMAGE", StudyInstanceUID=uid(1), SeriesInstanceUID=uid(1, 1),
                       SOPInstanceUID=[uid(1, 1, 1), uid(1, 1, 2)]),
        )  # fmt: skip

    assert sorted(series) == sorted(encoded(one) for one in sent[2:])
    assert sorted(images) == sorted(encoded(one) for one in sent[:2])


def test_an_object_is_written_anew_for_a_peer_of_another_native_syntax(
    tmp_path: Path,
) -> None:
    with node_with(tmp_path, make_instance(), syntax=EXPLICIT) as node:
        received, responses = got(
            node, identifier("STUDY", StudyInstanceUID=uid(1)), syntax=IMPLICIT
        )

    assert received == [encoded(make_instance(), IMPLICIT)]
    assert responses[-1].Status == SUCCESS


def test_what_the_peer_did_not_negotiate_fails_and_is_named(tmp_path: Path) -> None:
    other = make_instance(1, 1, 2, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    with node_with(tmp_path, make_instance(), other) as node:
        received, responses = got(node, identifier("STUDY", StudyInstanceUID=uid(1)))
        refused, all_failed = got(
            node, identifier("STUDY", StudyInstanceUID=uid(1)), answer=0xA700
        )

    assert len(received) == 1
    assert responses[-1].Status == 0xB000
    assert responses[-1].NumberOfFailedSuboperations == 1
    assert len(refused) == 1
    assert all_failed[-1].Status == 0xA702


def test_a_get_without_its_unique_key_is_refused(tmp_path: Path) -> None:
    with node_with(tmp_path, make_instance()) as node:
        _, responses = got(node, identifier("STUDY", PatientID="ID1"))

    assert responses[-1].Status == 0xA900


@contextmanager
def archive() -> Iterator[tuple[int, list[bytes]]]:
    received: list[bytes] = []

    def keep(event: Any) -> int:
        received.append(event.request.DataSet.getvalue())
        return SUCCESS

    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(CTImageStorage, [EXPLICIT, IMPLICIT])
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    assert server is not None
    try:
        yield int(server.socket.getsockname()[1]), received
    finally:
        server.shutdown()


def moved(node: Node, asked: Dataset, destination: str = "ARCHIVE") -> list[Dataset]:
    with associated(node, MOVE) as association:
        return [
            status for status, _ in association.send_c_move(asked, destination, MOVE)
        ]


def test_a_study_is_moved_to_a_known_destination(tmp_path: Path) -> None:
    sent = [make_instance(1, 1, n) for n in (1, 2, 3)]
    with archive() as (port, received):
        place = RetrieveDestinationSettings(ae_title="ARCHIVE", port=port)
        with node_with(tmp_path, *sent, destinations=(place,)) as node:
            responses = moved(node, identifier("STUDY", StudyInstanceUID=uid(1)))

    assert sorted(received) == sorted(encoded(one) for one in sent)
    assert [one.NumberOfRemainingSuboperations for one in responses[:-1]] == [2, 1]
    assert responses[-1].Status == SUCCESS
    assert responses[-1].NumberOfCompletedSuboperations == 3


def test_an_unknown_destination_is_refused(tmp_path: Path) -> None:
    with node_with(tmp_path, make_instance()) as node:
        responses = moved(node, identifier("STUDY", StudyInstanceUID=uid(1)))

    assert [one.Status for one in responses] == [0xA801]


# pynetdicom leaves the socket of a connection that was refused to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_destination_that_is_away_fails_every_sub_operation(tmp_path: Path) -> None:
    place = RetrieveDestinationSettings(ae_title="ARCHIVE", port=1)
    with node_with(tmp_path, make_instance(), destinations=(place,)) as node:
        responses = moved(node, identifier("STUDY", StudyInstanceUID=uid(1)))

    gc.collect()

    assert responses[-1].Status == 0xA702
    assert responses[-1].NumberOfFailedSuboperations == 1


def test_one_association_may_store_verify_and_query(tmp_path: Path) -> None:
    with (
        node_with(tmp_path) as node,
        associated(node, FIND, Verification, CTImageStorage) as association,
    ):
        dataset = make_instance(1)
        dataset.file_meta = _meta()
        dataset.ensure_file_meta()
        stored = association.send_c_store(dataset)
        echoed = association.send_c_echo()
        catch_up(node, 1)
        studies, _ = found(association, FIND, identifier("STUDY", StudyInstanceUID=""))

    assert (stored.Status, echoed.Status) == (SUCCESS, SUCCESS)
    assert [one.StudyInstanceUID for one in studies] == [uid(1)]


def _meta() -> Any:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = EXPLICIT
    return meta


def test_queries_run_beside_each_other(tmp_path: Path) -> None:
    sent = [make_instance(number) for number in range(1, 20)]
    counts: list[int] = []
    with node_with(tmp_path, *sent) as node:

        def ask() -> None:
            with associated(node, FIND) as association:
                asked = identifier("STUDY", StudyInstanceUID="")
                counts.append(len(found(association, FIND, asked)[0]))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert counts == [19] * 6
