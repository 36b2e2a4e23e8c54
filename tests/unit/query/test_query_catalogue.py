"""The catalogue follows the index, and queries read it."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom.datadict import tag_for_keyword
from sqlalchemy import func, insert, select

from core.database import catalogue
from core.database.schema import job, report, study
from dicom_node.forgetting import forget_study
from dicom_node.query.attributes import Level
from dicom_node.query.json_model import JsonModel
from dicom_node.query.matching import InvalidQuery, compile_key
from dicom_node.query.search import Query
from tests.stored_studies import (
    Stored,
    encoded,
    make_instance,
    part10,
    stored_studies,
    uid,
)

STUDY_UID, SERIES_UID, SOP_UID = 0x0020000D, 0x0020000E, 0x00080018
NAME, MODALITIES, NUMBER = 0x00100010, 0x00080061, 0x00200013


def find(stored: Stored, level: Level, **keys: str) -> list[JsonModel]:
    compiled = [
        compile_key((int(tag_for_keyword(word) or 0),), asked)
        for word, asked in keys.items()
    ]
    query = Query(level, tuple(key for key in compiled if key), None)
    return list(stored.search.find(query))


def values(model: JsonModel, tag: int) -> list[Any]:
    return list(model.get(f"{tag:08X}", {}).get("Value", []))


def uids(found: list[JsonModel], tag: int = STUDY_UID) -> set[str]:
    return {values(model, tag)[0] for model in found}


def test_studies_are_found_by_what_their_first_instance_says(tmp_path: Path) -> None:
    with stored_studies(
        tmp_path, make_instance(1), make_instance(2, PatientName="Other^Name")
    ) as stored:
        assert uids(find(stored, Level.STUDY)) == {uid(1), uid(2)}
        assert uids(find(stored, Level.STUDY, PatientName="other*")) == {uid(2)}
        assert uids(find(stored, Level.STUDY, PatientID="ID1")) == {uid(1)}
        assert uids(find(stored, Level.STUDY, PatientID="*2")) == {uid(2)}
        assert uids(find(stored, Level.STUDY, AccessionNumber="ACC2")) == {uid(2)}
        assert uids(find(stored, Level.STUDY, StudyDate="20260102-")) == {uid(2)}
        assert uids(find(stored, Level.STUDY, StudyDescription="Ch*")) == {
            uid(1),
            uid(2),
        }
        assert not find(stored, Level.STUDY, StudyDescription="ch*")


def test_a_study_counts_its_series_instances_and_modalities(tmp_path: Path) -> None:
    with stored_studies(
        tmp_path,
        make_instance(1, 1, 1),
        make_instance(1, 1, 2),
        make_instance(1, 2, 1, Modality="SR"),
    ) as stored:
        (found,) = find(stored, Level.STUDY, ModalitiesInStudy="SR")

    assert values(found, 0x00201206) == [2]
    assert values(found, 0x00201208) == [3]
    assert values(found, MODALITIES) == ["CT", "SR"]
    assert values(found, 0x00080062) == ["1.2.840.10008.5.1.4.1.1.2"]


def test_a_late_series_and_a_late_instance_are_in_the_catalogue(tmp_path: Path) -> None:
    with stored_studies(tmp_path, make_instance(1, 1, 1)) as stored:
        stored.add(make_instance(1, 1, 2), make_instance(1, 2, 1))

        found = find(stored, Level.SERIES, StudyInstanceUID=uid(1))

    assert [values(one, 0x00201209) for one in found] == [[2], [1]]


def test_what_arrives_is_found_within_a_step_of_the_cataloguer(tmp_path: Path) -> None:
    with stored_studies(tmp_path) as stored:
        dataset = make_instance(1)
        stored.cataloguer.step()
        stored.add_bytes(encoded(dataset), dataset)
        stored.catch_up_index()
        stored.cataloguer.note(uid(1))

        stored.cataloguer.step()

        assert uids(find(stored, Level.STUDY)) == {uid(1)}


def test_a_forgotten_study_leaves_nothing_in_the_catalogue(tmp_path: Path) -> None:
    with stored_studies(tmp_path, make_instance(1), make_instance(2)) as stored:
        forget_study(stored.parts.database, stored.parts.store, uid(1))

        assert uids(find(stored, Level.STUDY)) == {uid(2)}
        with stored.parts.database.read() as connection:
            for table in (catalogue.catalogue_study, catalogue.catalogue_series):
                assert (
                    connection.execute(select(func.count()).select_from(table)).scalar()
                    == 1
                )


def test_the_catalogue_can_be_made_again_from_the_store(tmp_path: Path) -> None:
    with stored_studies(tmp_path, make_instance(1), make_instance(2)) as stored:
        before = find(stored, Level.STUDY)
        with stored.parts.database.write() as connection:
            assert catalogue.clear_catalogue(connection) == 2
        assert not find(stored, Level.STUDY)

        stored.catch_up()

        assert find(stored, Level.STUDY) == before


def test_a_report_of_ours_is_a_series_of_its_study(tmp_path: Path) -> None:
    with stored_studies(tmp_path, make_instance(1)) as stored:
        sop = _add_report(stored, 1, 9, 1)

        (found,) = find(stored, Level.STUDY)
        series = find(stored, Level.SERIES, StudyInstanceUID=uid(1), Modality="SR")
        instances = find(stored, Level.IMAGE, StudyInstanceUID=uid(1))

    assert values(found, MODALITIES) == ["CT", "SR"]
    assert values(found, 0x00201208) == [2]
    assert uids(series, SERIES_UID) == {uid(1, 9)}
    assert values(series[0], 0x00201209) == [1]
    assert uids(instances, SOP_UID) == {uid(1, 1, 1), sop}
    # IHE AIR: Completion and Verification Flag are there to be asked for.
    (written,) = (one for one in instances if values(one, SOP_UID) == [sop])
    assert values(written, 0x0040A491) == ["COMPLETE"]
    assert values(written, 0x0040A493) == ["UNVERIFIED"]


def test_a_report_that_came_back_counts_once(tmp_path: Path) -> None:
    with stored_studies(tmp_path, make_instance(1)) as stored:
        _add_report(stored, 1, 9, 1)
        stored.add(_report_dataset(1, 9, 1))

        (found,) = find(stored, Level.STUDY)
        instances = find(stored, Level.IMAGE, SeriesInstanceUID=uid(1, 9))

    assert values(found, 0x00201208) == [2]
    assert values(found, 0x00201206) == [2]
    assert len(instances) == 1


def _report_dataset(*place: int) -> Any:
    return make_instance(
        *place,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34",
        Modality="SR",
        Manufacturer="secondread",
        CompletionFlag="COMPLETE",
        VerificationFlag="UNVERIFIED",
        PixelData=None,
        Rows=None,
        Columns=None,
    )


def _add_report(stored: Stored, *place: int) -> str:
    dataset = _report_dataset(*place)
    data = part10(dataset)
    sha256 = stored.parts.store.put_report(data)
    with stored.parts.database.write() as connection:
        study_id = connection.execute(select(study.c.id)).scalar_one()
        job_id = connection.execute(
            insert(job).values(
                study_id=study_id, model="m", model_version="1", bundle_sha256="0",
                content_set="0", rule="r", destinations=[], priority="routine",
                state="reported", attempts=1, heartbeat=0, created_at=0.0,
            )
        ).inserted_primary_key[0]  # fmt: skip
        connection.execute(
            insert(report).values(
                study_id=study_id, job_id=job_id, document_kind="reading",
                sop_class_uid=dataset.SOPClassUID,
                sop_instance_uid=dataset.SOPInstanceUID,
                series_instance_uid=dataset.SeriesInstanceUID,
                sha256=sha256, bytes=len(data), created_at=0.0,
            )
        )  # fmt: skip
    stored.cataloguer.step()
    return str(dataset.SOPInstanceUID)


def test_instances_are_found_by_their_headers_within_a_study(tmp_path: Path) -> None:
    with stored_studies(
        tmp_path, *(make_instance(s, 1, n) for s in (1, 2) for n in (1, 2, 3))
    ) as stored:
        found = find(stored, Level.IMAGE, StudyInstanceUID=uid(1), InstanceNumber="2")
        by_patient = find(stored, Level.IMAGE, PatientID="ID2", InstanceNumber="3")

    assert uids(found, SOP_UID) == {uid(1, 1, 2)}
    assert uids(by_patient, SOP_UID) == {uid(2, 1, 3)}


def test_a_query_that_would_read_every_header_is_refused(tmp_path: Path) -> None:
    with (
        stored_studies(tmp_path, make_instance(1)) as stored,
        pytest.raises(InvalidQuery, match="name a study"),
    ):
        find(stored, Level.IMAGE, InstanceNumber="2")


def test_keys_that_exclude_each_other_find_nothing(tmp_path: Path) -> None:
    with stored_studies(tmp_path, make_instance(1), make_instance(2)) as stored:
        keys = tuple(
            key
            for asked in (uid(1), uid(2))
            if (key := compile_key((STUDY_UID,), asked))
        )

        for level in Level:
            assert not list(stored.search.find(Query(level, keys, None)))


def test_names_of_any_script_and_with_markup_come_back_as_they_are(
    tmp_path: Path,
) -> None:
    japanese = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    with stored_studies(
        tmp_path,
        make_instance(1, PatientName=japanese, SpecificCharacterSet="ISO_IR 192"),
        make_instance(
            2,
            PatientName=japanese,
            SpecificCharacterSet=["", "ISO 2022 IR 87"],
        ),
        make_instance(3, PatientName="<script>alert(1)</script>"),
    ) as stored:
        found = find(stored, Level.STUDY, PatientName="山田*")
        marked = find(stored, Level.STUDY, PatientName="<script>*")

    groups = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎",
              "Phonetic": "やまだ^たろう"}  # fmt: skip
    assert uids(found) == {uid(1), uid(2)}
    assert all(values(one, NAME) == [groups] for one in found)
    assert values(marked[0], NAME) == [{"Alphabetic": "<script>alert(1)</script>"}]


def test_a_file_that_cannot_be_read_is_catalogued_by_its_uids(tmp_path: Path) -> None:
    with stored_studies(tmp_path) as stored:
        dataset = make_instance(1)
        stored.add_bytes(encoded(dataset), dataset)
        stored.catch_up_index()
        (sha256,) = stored.parts.rows().values()
        stored.parts.store.path_of(sha256).write_bytes(b"no DICOM")

        stored.catch_up()

        assert uids(find(stored, Level.STUDY)) == {uid(1)}


def test_many_studies_are_paged_without_gap_or_repetition(tmp_path: Path) -> None:
    with stored_studies(tmp_path) as stored:
        _many_studies(stored, 1300)

        found = find(stored, Level.STUDY)

    assert len(found) == len(uids(found)) == 1300


def _many_studies(stored: Stored, count: int) -> None:
    with stored.parts.database.write() as connection:
        for number in range(count):
            study_id = connection.execute(
                insert(study).values(
                    study_instance_uid=uid(number), state="settled",
                    order_priority="routine", calling_ae_title="X",
                    called_ae_title="Y", peer_address="", instance_count=1,
                    first_instance_at=0.0, last_instance_at=0.0,
                )
            ).inserted_primary_key[0]  # fmt: skip
            catalogue.add_study(
                connection,
                catalogue.CataloguedStudy(
                    study_id, uid(number), "", "", "", "",
                    json.dumps({"0020000D": {"vr": "UI", "Value": [uid(number)]}}),
                ),
            )  # fmt: skip
