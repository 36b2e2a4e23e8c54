from dataclasses import replace

import pytest

from core.settings import AssemblySettings, Settings, SourceSettings
from dicom_node.settlement import Evidence, Policy, policy_for, settle_reason

POLICY = Policy(quiet_time_s=10, hard_cap_s=100, minimum_instances=3, source=None)
ENOUGH = Evidence(
    quiet_for_s=10, age_s=20, instance_count=3, expected_instances=None, missing=()
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "quiet for 10 s"),
        ({"quiet_for_s": 9.9}, None),
        ({"instance_count": 2}, None),
        ({"missing": ("a series",)}, None),
        ({"expected_instances": 3, "quiet_for_s": 0}, "3 of 3 expected instances"),
        ({"expected_instances": 2, "quiet_for_s": 0}, "3 of 2 expected instances"),
        ({"expected_instances": 4}, "quiet for 10 s; 3 of 4 expected instances"),
        ({"expected_instances": 0, "quiet_for_s": 0}, None),
        ({"age_s": 100, "quiet_for_s": 0}, "hard cap of 100 s"),
        (
            {"age_s": 100, "missing": ("a lateral",)},
            "hard cap of 100 s; missing: a lateral",
        ),
        (
            {"age_s": 100, "instance_count": 1},
            "hard cap of 100 s; missing: 2 of at least 3 instances",
        ),
    ],
)
def test_a_study_settles_by_its_evidence_alone(changes, reason):
    assert settle_reason(replace(ENOUGH, **changes), POLICY) == reason


def test_a_reason_fits_its_column():
    evidence = replace(ENOUGH, age_s=100, missing=("x" * 500,))

    assert len(settle_reason(evidence, POLICY) or "") == 200


def test_the_first_source_that_matches_counts():
    settings = Settings(
        assembly=AssemblySettings(quiet_time_s=7),
        sources=(
            SourceSettings(calling_ae_title="CT?", minimum_instances=5),
            SourceSettings(quiet_time_s=1),
        ),
    )

    first, second = policy_for(settings, "CT1"), policy_for(settings, "CT12")

    assert (first.quiet_time_s, first.minimum_instances) == (7, 5)
    assert (second.quiet_time_s, second.minimum_instances) == (1, 0)
