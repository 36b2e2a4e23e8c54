"""What the pages show of a patient: from one header of the study, made readable."""

from pathlib import Path

from pydicom import Dataset, config, dcmread
from pydicom.errors import InvalidDicomError

from core.database.worklist import PatientFacts

__all__ = ["facts_of_dataset", "facts_of_file", "shown_age", "shown_date", "shown_name"]

_KEYWORDS = [
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyDescription",
    "AccessionNumber",
]
_LONGEST = 200


def facts_of_file(path: Path) -> PatientFacts:
    """Read what a study's file says of its patient; nothing where it cannot be read."""
    try:
        with config.disable_value_validation():
            dataset = dcmread(
                path, stop_before_pixels=True, specific_tags=list(_KEYWORDS)
            )
            return facts_of_dataset(dataset)
    except (InvalidDicomError, OSError, EOFError, ValueError, LookupError):
        return PatientFacts()


def facts_of_dataset(dataset: Dataset) -> PatientFacts:
    """Take what the worklist shows from a header."""
    return PatientFacts(
        patient_name=shown_name(_text(dataset, "PatientName")),
        patient_id=_text(dataset, "PatientID"),
        patient_birth_date=_text(dataset, "PatientBirthDate")[:16],
        patient_sex=_text(dataset, "PatientSex")[:16],
        study_date=_text(dataset, "StudyDate")[:16],
        study_description=_text(dataset, "StudyDescription"),
        accession_number=_text(dataset, "AccessionNumber"),
    )


def shown_name(person_name: str) -> str:
    """Write a PN as people read it, each of its groups: `Yamada, Tarou (山田, 太郎)`.

    Source
    ------
    PS3.5 6.2.1.1 (component groups and components of PN).
    """
    groups = [_shown_group(group) for group in person_name.split("=")]
    first, *others = [group for group in groups if group] or [""]
    return f"{first} ({'; '.join(others)})" if others else first


def shown_date(value: str) -> str:
    """Write a DA as ISO 8601 has it; anything else stays as it is."""
    if len(value) == 8 and value.isdecimal():
        return f"{value[:4]}-{value[4:6]}-{value[6:]}"
    return value


def shown_age(birth_date: str, study_date: str) -> str:
    """Write the age at the study in years, or in months below two years."""
    if not all(len(d) == 8 and d.isdecimal() for d in (birth_date, study_date)):
        return ""
    year, month, day = (int(study_date[a:b]) for a, b in ((0, 4), (4, 6), (6, 8)))
    born = [int(birth_date[a:b]) for a, b in ((0, 4), (4, 6), (6, 8))]
    months = 12 * (year - born[0]) + month - born[1] - (day < born[2])
    if not 0 <= months < 12 * 130:
        return ""
    return f"{months} mo" if months < 24 else f"{months // 12} y"


def _shown_group(group: str) -> str:
    family, *others = [part.strip() for part in group.split("^")]
    rest = " ".join(part for part in others if part)
    return ", ".join(part for part in (family, rest) if part)


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    text = "" if value is None or isinstance(value, bytes) else str(value)
    return "".join(c if c.isprintable() else " " for c in text).strip()[:_LONGEST]
