"""A stack is a stack in whatever order its slices come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from worker.pixels.geometry import SlicePlane, stack_slices

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def _planes(*heights: float, orientation=AXIAL) -> list[SlicePlane]:
    return [SlicePlane((5.0, 6.0, z), orientation, (0.8, 0.7)) for z in heights]


def _reason(planes) -> str:
    with pytest.raises(UnsupportedImage) as refusal:
        stack_slices(planes)
    return refusal.value.reason


def test_slices_are_ordered_along_the_normal_with_their_spacing():
    stack = stack_slices(_planes(2.5, -2.5, 0.0))

    assert stack.order == (1, 2, 0)
    assert stack.spacing_mm == (2.5, 0.8, 0.7)


def test_the_affine_leads_from_indices_to_the_patient():
    stack = stack_slices(_planes(0.0, 2.5, 5.0))

    corner = stack.affine @ [2, 10, 20, 1]

    # x: 5 + 20 columns of 0.7; y: 6 + 10 rows of 0.8; z: 2 slices of 2.5
    assert corner[:3].tolist() == pytest.approx([19.0, 14.0, 5.0])


def test_sagittal_slices_run_along_the_patient_s_x():
    # rows to the back, columns to the feet: the normal is -x
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    planes = [SlicePlane((x, 0.0, 0.0), sagittal, (1.0, 1.0)) for x in (0.0, 3.0, 6.0)]

    stack = stack_slices(planes)

    assert stack.order == (2, 1, 0)
    assert stack.spacing_mm[0] == pytest.approx(3.0)
    assert stack.affine[:3, 3].tolist() == [6.0, 0.0, 0.0]


@settings(max_examples=50, deadline=None)
@given(
    order=st.permutations(range(7)),
    angles=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    step=st.floats(0.3, 9.0),
)
def test_any_order_and_any_orientation_give_the_same_stack(order, angles, step):
    turn = _rotation(*angles)
    orientation = tuple(float(x) for x in (*turn[:, 0], *turn[:, 1]))
    start = np.array([10.0, -20.0, 30.0])
    planes = [
        SlicePlane(
            tuple(float(x) for x in start + n * step * turn[:, 2]),
            orientation,
            (1.0, 1.0),
        )
        for n in order
    ]

    stack = stack_slices(planes)

    assert [order[i] for i in stack.order] == list(range(7))
    assert stack.spacing_mm[0] == pytest.approx(step, rel=1e-6)
    assert np.allclose(stack.affine[:3, 3], start)


def _rotation(a: float, b: float, c: float) -> np.ndarray:
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    )
    about_y = np.array(
        [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    )
    about_z = np.array(
        [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    )
    return about_z @ about_y @ about_x


def test_a_missing_slice_is_a_gap():
    assert _reason(_planes(0, 1, 2, 4, 5)) == NotAnalysedReason.SLICES_MISSING


def test_a_second_slice_at_one_place_is_a_duplicate():
    assert _reason(_planes(0, 1, 1, 2)) == NotAnalysedReason.SLICES_DUPLICATED


def test_irregular_distances_are_no_grid():
    assert _reason(_planes(0, 1, 2.3, 3.3)) == NotAnalysedReason.SLICES_MISSING


def test_positions_rounded_to_a_tenth_still_form_a_grid():
    stack = stack_slices(_planes(0.0, 1.3, 2.5, 3.8, 5.0))

    assert stack.spacing_mm[0] == pytest.approx(1.25)


def test_slices_shifted_against_their_normal_are_tilted():
    planes = [SlicePlane((0.0, n * 0.2, n * 1.0), AXIAL, (1, 1)) for n in range(5)]

    assert _reason(planes) == NotAnalysedReason.GANTRY_TILT


def test_slices_of_two_orientations_are_no_stack():
    coronal = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    planes = [*_planes(0, 1, 2), *_planes(3, orientation=coronal)]

    assert _reason(planes) == NotAnalysedReason.ORIENTATION_MIXED


@pytest.mark.parametrize(
    "orientation",
    [(0.0,) * 6, (1.0, 0.0, 0.0, 1.0, 0.0, 0.0), (np.nan,) * 6],
)
def test_an_orientation_that_is_none_is_missing_geometry(orientation):
    planes = _planes(0, 1, orientation=orientation)

    assert _reason(planes) == NotAnalysedReason.GEOMETRY_MISSING


def test_one_slice_is_no_volume():
    assert _reason(_planes(0)) == NotAnalysedReason.GEOMETRY_MISSING


def test_two_pixel_spacings_are_inconsistent():
    planes = [*_planes(0, 1), SlicePlane((5, 6, 2), AXIAL, (0.9, 0.7))]

    assert _reason(planes) == NotAnalysedReason.PIXELS_INCONSISTENT
