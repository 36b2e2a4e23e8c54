import pytest

from core.domain import (
    AlgorithmIdentity,
    Analysed,
    Code,
    Failed,
    Finding,
    ImageReference,
    Laterality,
    NotAnalysed,
    NotAnalysedReason,
    Presence,
    Region,
    reading_from_json,
    reading_to_json,
)

ALGORITHM = AlgorithmIdentity("lung", "1", "secondread", "a" * 64, "b" * 64, ("x=1",))
IMAGE = ImageReference("1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.1.1", "1.2.3.1", 1)
FINDING = Finding(
    tracking_identifier="pneumonia",
    code=Code("233604007", "SCT", "Pneumonia"),
    probability=0.87,
    threshold=0.5,
    presence=Presence.PRESENT,
    site=Code("39607008", "SCT", "Lung"),
    laterality=Laterality.RIGHT,
    images=(IMAGE,),
    regions=(Region(IMAGE, ((0.0, 0.0), (1.5, 0.0), (1.5, 1.0))),),
)


@pytest.mark.parametrize(
    "reading",
    [
        Analysed(ALGORITHM, (IMAGE,), (FINDING,), ("a note",)),
        NotAnalysed(ALGORITHM, (), NotAnalysedReason.WRONG_MODALITY, "CT, expected DX"),
        Failed(ALGORITHM, (IMAGE,), "memory", "needed too much"),
    ],
    ids=lambda reading: reading.outcome,
)
def test_a_reading_survives_its_json(reading):
    assert reading_from_json(reading_to_json(reading)) == reading


def test_a_text_that_is_no_reading_is_refused():
    with pytest.raises(ValueError, match="outcome"):
        reading_from_json('{"outcome": "fine"}')
