from dataclasses import replace

import numpy as np
import pytest

from core.domain import ImageReference, Presence
from core.errors import InternalError, ModelOutputInvalid
from models.readout import findings, presence, probabilities

IMAGE = ImageReference("1.2.840.10008.5.1.4.1.1.1.1", "2.25.1", "2.25.2")
OTHER = ImageReference("1.2.840.10008.5.1.4.1.1.1.1", "2.25.3", "2.25.2")


def logits(*values):
    return np.array(values, np.float32)[:, np.newaxis]


def test_a_logit_is_divided_by_the_temperature_then_biased(tiny_bundle):
    output = replace(tiny_bundle.outputs[0], temperature=2.0, bias=-1.0)

    # sigmoid(4 / 2 - 1) = 1 / (1 + exp(-1))
    assert probabilities(np.array([4.0]), output)[0] == pytest.approx(0.7310585786)


def test_extreme_logits_give_probabilities_within_0_and_1(tiny_bundle):
    found = probabilities(np.array([-1e30, 1e30]), tiny_bundle.outputs[0])

    np.testing.assert_array_equal(found, [0.0, 1.0])


def test_a_finding_carries_code_site_threshold_and_images(tiny_bundle):
    (found,) = findings(tiny_bundle, logits(3.0), [IMAGE])

    assert found.code.value == "233604007"
    assert found.site is not None
    assert found.site.value == "39607008"
    assert found.threshold == 0.5
    assert found.images == (IMAGE,)
    assert isinstance(found.probability, float)
    assert found.presence is Presence.PRESENT


def test_of_several_images_the_highest_probability_counts(tiny_bundle):
    (found,) = findings(tiny_bundle, logits(-4.0, 0.5), [IMAGE, OTHER])

    assert found.presence is Presence.PRESENT
    assert found.probability == pytest.approx(1 / (1 + np.exp(-0.5)), abs=1e-6)
    assert found.images == (IMAGE, OTHER)


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (0.499999, Presence.ABSENT),
        (0.5, Presence.PRESENT),
    ],
)
def test_at_the_threshold_a_finding_is_present(tiny_bundle, probability, expected):
    assert presence(probability, tiny_bundle.outputs[0]) is expected


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (0.39, Presence.ABSENT),
        (0.4, Presence.UNDETERMINED),
        (0.59, Presence.UNDETERMINED),
        (0.6, Presence.PRESENT),
    ],
)
def test_within_the_uncertain_band_a_finding_is_undetermined(
    tiny_bundle, probability, expected
):
    output = replace(tiny_bundle.outputs[0], uncertain_band=(0.4, 0.6))

    assert presence(probability, output) is expected


def test_a_logit_that_is_not_finite_is_refused(tiny_bundle):
    with pytest.raises(ModelOutputInvalid, match="not finite"):
        findings(tiny_bundle, logits(np.nan), [IMAGE])


def test_logits_for_another_number_of_images_are_refused(tiny_bundle):
    with pytest.raises(InternalError, match=r"1 image"):
        findings(tiny_bundle, logits(1.0, 2.0), [IMAGE])
