"""What an instance's header says about its series, as plain values for a model's scope.

A view may stand in View Position or as a code, an age in Patient's Age or in two dates.
What is missing or malformed is None: the model's scope decides what that means.
"""

import re
from datetime import date
from typing import Any

from pydicom.dataset import Dataset

from models.applicability import SeriesFacts

__all__ = ["attribute_text", "series_facts"]

DAYS_A_YEAR = 365.25

# PS3.16 CID 4010, with the SNOMED-RT style codes that the table had before 2018, to the
# terms of View Position (PS3.3 C.8.11.5.1.1). Written out: importing pydicom's code
# dictionary takes seconds.
_VIEWS = {
    "399348003": "AP",
    "R-10206": "AP",
    "272479007": "PA",
    "R-10214": "PA",
    "R-40888": "PA",
    "399173006": "LL",
    "R-10236": "LL",
    "399198007": "RL",
    "R-10232": "RL",
    "399067008": "LATERAL",
    "R-102CD": "LATERAL",
}

# PS3.5 6.2 (AS): three digits and a unit.
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 1.0 / DAYS_A_YEAR, "W": 7.0 / DAYS_A_YEAR, "M": 1.0 / 12.0, "Y": 1.0}


def series_facts(header: Dataset) -> SeriesFacts:
    """Read the facts of one instance, which stand for its series.

    Parameters
    ----------
    header
        The pixels are not needed.

    Source
    ------
    PS3.3 C.7.1.1 and C.7.2.2 (Patient), C.7.3.1 (Series), C.7.6.1.1.2 (Image Type),
    C.8.11.5 (DX Positioning).
    """
    return SeriesFacts(
        sop_class_uid=attribute_text(header, "SOPClassUID") or "",
        modality=attribute_text(header, "Modality"),
        body_part_examined=attribute_text(header, "BodyPartExamined"),
        view_position=attribute_text(header, "ViewPosition") or _coded_view(header),
        patient_age_years=_age_years(header),
        image_type=_texts(header, "ImageType"),
        laterality=attribute_text(header, "ImageLaterality")
        or attribute_text(header, "Laterality"),
        patient_species=attribute_text(header, "PatientSpeciesDescription"),
    )


def attribute_text(header: Dataset, keyword: str) -> str | None:
    """Read an attribute as one text; None if it is missing, empty or malformed."""
    values = _texts(header, keyword)
    return values[0] or None if values else None


def _texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    value = _value(header, keyword)
    if value is None:
        return ()
    several = isinstance(value, list | tuple) or hasattr(value, "append")
    return tuple(str(part).strip() for part in (value if several else [value]))


def _value(header: Dataset, keyword: str) -> Any:
    # A damaged value raises whatever its VR's parser raises; as a fact it is absent.
    try:
        return header.get(keyword)
    except Exception:  # noqa: BLE001
        return None


def _coded_view(header: Dataset) -> str | None:
    sequence = _value(header, "ViewCodeSequence")
    if not sequence:
        return None
    return _VIEWS.get(attribute_text(sequence[0], "CodeValue") or "")


def _age_years(header: Dataset) -> float | None:
    match = _AGE.fullmatch(attribute_text(header, "PatientAge") or "")
    if match is not None:
        return int(match[1]) * _YEARS[match[2]]
    born = _date(header, "PatientBirthDate")
    seen = (
        _date(header, "AcquisitionDate")
        or _date(header, "SeriesDate")
        or _date(header, "StudyDate")
    )
    if born is None or seen is None or seen < born:
        return None
    return _completed_years(born, seen)


def _completed_years(born: date, seen: date) -> float:
    """Count years so that a birthday is the day on which they become whole."""
    years = seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
    last = _birthday(born, born.year + years)
    return years + min((seen - last).days / 366.0, 0.999)


def _birthday(born: date, year: int) -> date:
    leap_day = (born.month, born.day) == (2, 29)
    return date(year, 3, 1) if leap_day else born.replace(year=year)


def _date(header: Dataset, keyword: str) -> date | None:
    text = attribute_text(header, keyword) or ""
    try:
        # ACR-NEMA wrote 1999.01.31 (PS3.5 6.2, DA).
        return date.fromisoformat(text.replace(".", "").replace("-", "")[:8])
    except ValueError:
        return None
