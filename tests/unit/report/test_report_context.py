from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidReport
from core.uids import is_valid_uid
from tests.reports import STUDY, context
from worker.report import codes
from worker.report.context import DeviceIdentity

NAMELESS = DeviceIdentity(
    observer_uid="here",
    name="secondread",
    model_name="secondread",
    serial_number="1",
    software_versions=("0.1.0",),
)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"created_at": datetime(2026, 11, 23)}, "time zone"),  # noqa: DTZ001
        ({"report_key": (STUDY, "cd")}, "three parts"),
        ({"report_key": (STUDY, "cd", "")}, "three parts"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.11"}, "cannot hold"),
        ({"device": NAMELESS}, "device observer UID"),
    ],
)
def test_a_context_that_cannot_make_a_report_is_refused(
    change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidReport, match=complaint):
        context(**change)


@given(st.text(min_size=1), st.text(min_size=1))
def test_derived_uids_are_uids_and_differ_by_part(model: str, content: str) -> None:
    made = context(report_key=(STUDY, model, content))

    uids = (
        made.sop_instance_uid,
        made.series_instance_uid,
        made.tracking_uid("a"),
        made.region_tracking_uid("a"),
    )

    assert len(set(uids)) == 4
    assert all(is_valid_uid(uid) for uid in uids)


def test_the_code_written_by_hand_is_the_snomed_ct_one() -> None:
    assert tuple(codes.PNEUMONIA)[:3] == ("233604007", "SCT", "Pneumonia")
