"""Numbers by hand from PS3.3 C.11.2.1.2 and C.11.2.1.3."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from worker.pixels.voi import Window, WindowFunction, apply_window, to_gray


def _values(*numbers: float) -> np.ndarray:
    return np.array([numbers], np.float32)


def _attributes(**values) -> Dataset:
    attributes = Dataset()
    for keyword, value in values.items():
        setattr(attributes, keyword, value)
    return attributes


def test_linear_obeys_the_formula_of_the_standard():
    # c = 2048, w = 4096: x <= 0 is black, x > 4095 is white (note of C.11.2.1.2.1)
    window = Window(2048, 4096)

    gray = apply_window(_values(-5, 0, 2047.5, 4095, 5000), window)

    assert gray[0].tolist() == pytest.approx([0, 0, 0.5, 1, 1])


def test_linear_of_width_one_is_a_threshold_half_below_the_centre():
    window = Window(10, 1)

    gray = apply_window(_values(9, 9.5, 9.6, 10), window)

    assert gray[0].tolist() == [0, 0, 1, 1]


def test_linear_exact_has_no_halves():
    # C.11.2.1.3.2: (x - c) / w + 0.5
    window = Window(40, 400, WindowFunction.LINEAR_EXACT)

    gray = apply_window(_values(-160, 40, 140, 240), window)

    assert gray[0].tolist() == pytest.approx([0, 0.5, 0.75, 1])


def test_sigmoid_is_half_at_the_centre_and_follows_its_formula():
    # C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w)); at c + w / 4 that is 1 / (1 + 1 / e)
    window = Window(100, 80, WindowFunction.SIGMOID)

    gray = apply_window(_values(-1e6, 100, 120, 1e6), window)

    assert gray[0].tolist() == pytest.approx([0, 0.5, 0.7310586, 1], abs=1e-6)


def test_the_first_of_several_windows_is_used():
    attributes = _attributes(WindowCenter=[50, 500], WindowWidth=[100, 1000])
    attributes.VOILUTFunction = "LINEAR_EXACT"

    gray, notes = to_gray(_values(0, 50, 100), attributes, image=attributes)

    assert gray[0].tolist() == pytest.approx([0, 0.5, 1])
    assert notes == ()


def test_without_a_window_the_range_is_used_and_told():
    attributes = _attributes()

    gray, notes = to_gray(_values(10, 20, 30), attributes, image=attributes)

    assert gray[0].tolist() == pytest.approx([0, 0.5, 1])
    assert "no VOI LUT and no window" in notes[0]


def test_a_window_of_no_width_is_not_obeyed_but_told():
    attributes = _attributes(WindowCenter=10, WindowWidth=0)

    gray, notes = to_gray(_values(10, 30), attributes, image=attributes)

    assert gray[0].tolist() == [0, 1]
    assert "invalid window" in notes[0]


def test_padding_does_not_widen_the_range():
    attributes = _attributes()
    padding = np.array([[True, False, False]])

    gray, _ = to_gray(
        _values(-2000, 0, 100), attributes, image=attributes, padding=padding
    )

    assert gray[0].tolist() == [0, 0, 1]


def test_a_voi_lut_is_looked_up_and_held_beyond_its_ends():
    item = _attributes(LUTDescriptor=[3, 100, 8], LUTData=[0, 51, 255])
    attributes = _attributes(VOILUTSequence=[item])

    gray, _ = to_gray(_values(0, 100, 101, 102, 999), attributes, image=attributes)

    assert gray[0].tolist() == pytest.approx([0, 0, 0.2, 1, 1])


def test_a_windowed_image_lies_between_black_and_white():
    random = np.random.default_rng(0)
    values = random.normal(0, 1e4, (50, 50)).astype(np.float32)

    for function in WindowFunction:
        gray = apply_window(values.copy(), Window(30, 7000, function))
        assert gray.dtype == np.float32
        assert 0.0 <= gray.min() <= gray.max() <= 1.0
