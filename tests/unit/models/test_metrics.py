import numpy as np
import pytest

from models.calibration import calibrate, calibrated
from models.metrics import Answers, measure


def answers(probabilities, truth, threshold=0.5):
    chance = np.array(probabilities, float)
    return Answers(chance, chance, chance >= threshold, np.array(truth, bool))


def each(count):
    return [str(index) for index in range(count)]


def test_the_figures_of_a_small_example_are_those_of_hand_arithmetic():
    given = answers([0.1, 0.4, 0.4, 0.6, 0.9, 0.2], [0, 0, 1, 1, 1, 1])

    found = measure(given, each(6), resamples=10)

    # Pairs (positive, negative): 0.4, 0.6, 0.9, 0.2 against 0.1 and 0.4:
    # 1 + 1/2, 1 + 1, 1 + 1, 1 + 0 of 8.
    assert found["auc"].value == pytest.approx(6.5 / 8)
    assert found["accuracy"].value == pytest.approx(4 / 6)
    assert found["sensitivity"].value == pytest.approx(2 / 4)
    assert found["specificity"].value == pytest.approx(1)
    assert found["balanced_accuracy"].value == pytest.approx(0.75)
    assert found["brier"].value == pytest.approx(
        (0.01 + 0.16 + 0.36 + 0.16 + 0.01 + 0.64) / 6
    )
    # Bins 0.1: 0.1 | 0.2: 0.8 | 0.4: |0.8 - 1| | 0.6: 0.4 | 0.9: 0.1
    assert found["ece"].value == pytest.approx((0.1 + 0.8 + 0.2 + 0.4 + 0.1) / 6)


def test_a_perfect_classifier_has_an_interval_without_width():
    found = measure(answers([0.0, 1.0] * 20, [0, 1] * 20), each(40), resamples=50)

    assert (found["auc"].low, found["auc"].value, found["auc"].high) == (1, 1, 1)


def test_the_interval_is_wider_where_films_share_a_patient():
    random = np.random.default_rng(0)
    truth = random.random(400) < 0.5
    chance = np.clip(0.5 + 0.2 * (truth - 0.5) + random.normal(0, 0.2, 400), 0, 1)
    chance = np.repeat(chance[:40], 10)
    given = answers(chance, np.repeat(truth[:40], 10))

    alone = measure(given, each(400), resamples=200)["auc"]
    shared = measure(given, [str(i // 10) for i in range(400)], resamples=200)["auc"]

    assert shared.high - shared.low > 2 * (alone.high - alone.low)


def test_equal_seeds_give_equal_intervals():
    given = answers([0.2, 0.7, 0.6, 0.4, 0.8, 0.3], [0, 1, 0, 1, 1, 0])

    assert measure(given, each(6), resamples=30) == measure(
        given, each(6), resamples=30
    )


def test_calibration_finds_the_temperature_and_bias_that_made_the_labels():
    random = np.random.default_rng(3)
    logits = random.normal(0, 4, 20000)
    truth = random.random(20000) < 1 / (1 + np.exp(-(logits / 2 + 1)))

    found = calibrate(logits, truth)

    assert found.temperature == pytest.approx(2, abs=0.1)
    assert found.bias == pytest.approx(1, abs=0.1)


def test_the_threshold_separates_what_can_be_separated():
    logits = np.array([-3.0, -2.0, -1.0, 2.0, 3.0])

    found = calibrate(logits, np.array([False, False, False, True, True]))

    chance = calibrated(logits, found.temperature, found.bias)
    np.testing.assert_array_equal(chance >= found.threshold, [0, 0, 0, 1, 1])


def test_logits_that_know_nothing_get_a_usable_calibration():
    logits = np.array([1.0, -1.0, 1.0, -1.0])

    found = calibrate(logits, np.array([False, True, True, False]))

    assert 0 < found.temperature <= 100
    assert 0 < found.threshold < 1
