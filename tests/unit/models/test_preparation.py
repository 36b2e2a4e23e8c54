import cv2
import numpy as np
import pytest

from core.errors import InternalError, UnsupportedImage
from models.preparation import normalise, prepare, resize
from models.specification import Aspect, InputSpecification, Normalisation


def test_shrinking_averages_the_area_it_covers():
    image = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 0]], "f4")

    shrunk = resize(image, InputSpecification(rows=2, columns=2))

    np.testing.assert_allclose(shrunk, [[0.5, 0.0], [1.0, 0.5]])


def test_a_fine_stripe_pattern_becomes_grey_and_not_moire():
    stripes = np.tile(np.array([0, 1], "f4"), (64, 512))

    shrunk = resize(stripes, InputSpecification(rows=8, columns=100))

    assert np.abs(shrunk - 0.5).max() < 0.06


def test_an_image_that_shrinks_on_one_axis_and_grows_on_the_other_keeps_its_values():
    image = np.repeat(np.linspace(0, 1, 40, dtype="f4")[:, np.newaxis], 4, axis=1)

    resized = resize(image, InputSpecification(rows=10, columns=8))

    assert resized.shape == (10, 8)
    np.testing.assert_allclose(resized, resized[:, :1].repeat(8, 1), atol=1e-6)
    np.testing.assert_allclose(resized[0, 0], image[:4, 0].mean(), atol=1e-6)


def test_padding_centres_the_image_and_fills_with_black():
    image = np.ones((10, 20), "f4")
    specification = InputSpecification(rows=8, columns=8, aspect=Aspect.PAD)

    padded = resize(image, specification)

    np.testing.assert_array_equal(padded[2:6], 1)
    np.testing.assert_array_equal(padded[[0, 1, 6, 7]], 0)


def test_values_are_mapped_to_the_range_and_repeated_over_channels():
    specification = InputSpecification(
        rows=1, columns=2, channels=3, value_range=(-1.0, 1.0)
    )

    prepared = prepare(np.array([[0.0, 0.75]], "f4"), specification)

    assert prepared.shape == (1, 2, 3)
    np.testing.assert_allclose(prepared[0, :, 2], [-1.0, 0.5])


def test_normalisation_by_image_does_not_see_brightness_and_contrast():
    random = np.random.default_rng(1)
    image = random.random((30, 20), "f4")
    specification = InputSpecification(
        rows=8, columns=8, normalisation=Normalisation.IMAGE
    )

    plain = prepare(image, specification)
    flat = prepare(image * np.float32(0.5) + np.float32(0.25), specification)

    np.testing.assert_allclose(plain, flat, atol=1e-4)
    assert abs(plain.mean()) < 1e-5
    assert abs(plain.std() - 1) < 1e-5


def test_an_even_image_stays_finite_under_normalisation():
    specification = InputSpecification(
        rows=4, columns=4, normalisation=Normalisation.IMAGE
    )

    prepared = normalise(np.full((4, 4), 0.3, "f4"), specification)

    assert np.isfinite(prepared).all()


def test_the_image_given_is_not_changed():
    image = np.random.default_rng(0).random((9, 9), "f4")
    before = image.copy()
    image.setflags(write=False)

    prepared = prepare(image, InputSpecification(rows=9, columns=9))
    prepared[:] = 7

    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((0, 5), "f4"), "pixels-empty"),
        (np.full((5, 5), np.nan, "f4"), "pixels-inconsistent"),
    ],
)
def test_an_image_without_usable_pixels_is_refused(image, reason):
    with pytest.raises(UnsupportedImage) as caught:
        prepare(image, InputSpecification(rows=4, columns=4))

    assert caught.value.reason == reason


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 1), "f4")])
def test_anything_but_a_plane_of_float32_is_a_bug_of_the_caller(image):
    with pytest.raises(InternalError, match="float32"):
        prepare(image, InputSpecification(rows=4, columns=4))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((1500, 1100), (224, 224)), ((1999, 733), (97, 211)), ((1031, 1029), (515, 64))],
)
def test_a_large_image_shrinks_to_what_area_averaging_in_double_precision_gives(
    shape, wanted
):
    image = np.random.default_rng(3).random(shape, "f4")

    shrunk = resize(image, InputSpecification(rows=wanted[0], columns=wanted[1]))

    exact = cv2.resize(image.astype("f8"), wanted[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk - exact).max() < 1e-6


def test_one_value_that_is_not_finite_refuses_a_large_image():
    image = np.zeros((1500, 1100), "f4")
    image[1499, 0] = np.inf

    with pytest.raises(UnsupportedImage):
        resize(image, InputSpecification(rows=224, columns=224))
