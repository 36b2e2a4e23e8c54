"""Who a phantom says it is: PHANTOM, whatever else is asked for."""

from dataclasses import dataclass

__all__ = ["PhantomIdentity"]


@dataclass(frozen=True)
class PhantomIdentity:
    """Patient, study and place in the study of one phantom object.

    All UIDs are derived from `study_seed` and the numbers below, so equal identities
    with equal pixels are the same object; pass something unique as `study_seed` for a
    new study.
    """

    study_seed: str = "phantom"
    series_number: int = 1
    instance_number: int = 1
    patient_name: str = "PHANTOM^CHEST"
    patient_id: str = "PHANTOM-0001"
    patient_birth_date: str = "20200301"
    patient_sex: str = "O"
    patient_age: str = "004Y"
    """Age String (PS3.5 6.2, AS); agrees with the dates."""
    study_date: str = "20240615"
    study_time: str = "101500"
    accession_number: str = "PHANTOM0001"
    view_position: str = "AP"
    """`AP`, `PA`, `LL` …, (0018,5101)."""
    body_part_examined: str = "CHEST"
