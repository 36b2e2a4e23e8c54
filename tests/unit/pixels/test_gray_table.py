"""A table of all stored values gives bit for bit what mapping each pixel gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from worker.pixels import gray

LUT_LENGTH = 40


def look_up_table(draw, *, bits: int) -> Dataset:
    item = Dataset()
    first = draw(st.integers(0, 300))
    item.add_new("LUTDescriptor", "US", [LUT_LENGTH, first, bits])
    entries = draw(
        st.lists(st.integers(0, 2**bits - 1), min_size=LUT_LENGTH, max_size=LUT_LENGTH)
    )
    item.add_new("LUTData", "OW", np.array(entries, "<u2").tobytes())
    return item


@st.composite
def images(draw):
    signed = draw(st.booleans())
    dtype = np.dtype(draw(st.sampled_from(["i1", "i2"] if signed else ["u1", "u2"])))
    limits = np.iinfo(dtype)
    seed = draw(st.integers(0, 2**31))
    low, high = sorted(draw(st.tuples(*[st.integers(limits.min, limits.max)] * 2)))
    stored = np.random.default_rng(seed).integers(low, high, (9, 7), dtype, True)
    stored[0, 0], stored[-1, -1] = low, high
    image = Dataset()
    if draw(st.booleans()):
        image.RescaleSlope = draw(st.sampled_from([1, 0.25, -2, 3.7]))
        image.RescaleIntercept = draw(st.sampled_from([0, -1024, 0.1]))
    elif draw(st.booleans()):
        image.ModalityLUTSequence = [look_up_table(draw, bits=16)]
    if draw(st.booleans()):
        image.WindowCenter = draw(st.sampled_from([40, 127.5, -600, 2000]))
        image.WindowWidth = draw(st.sampled_from([0, 1, 2, 400, 4096]))
        image.VOILUTFunction = draw(
            st.sampled_from(["LINEAR", "SIGMOID", "LINEAR_EXACT"])
        )
    elif draw(st.booleans()):
        image.VOILUTSequence = [look_up_table(draw, bits=12)]
    if draw(st.booleans()):
        value = int(stored.ravel()[draw(st.integers(0, stored.size - 1))])
        image.add_new("PixelPaddingValue", "SS" if signed else "US", value)
    return stored, image, draw(st.booleans())


@settings(max_examples=150, deadline=None)
@given(images())
def test_the_table_changes_no_bit(case):
    stored, image, inverted = case
    if stored.min() == stored.max():
        return
    before = stored.copy()

    def mapped(*, table: bool):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gray, "_table_pays", lambda _: table)
            return gray.monochrome_to_gray(
                stored, image, image=image, inverted=inverted
            )

    by_table, notes = mapped(table=True)
    one_by_one, same_notes = mapped(table=False)

    assert np.array_equal(by_table, one_by_one)
    assert by_table.dtype == np.float32
    assert notes == same_notes
    assert np.array_equal(stored, before)


def test_a_frame_that_may_not_be_written_is_mapped_by_table():
    stored = np.arange(2**12, dtype="u2").reshape(64, 64).repeat(8, axis=0)
    stored.setflags(write=False)

    pixels, _ = gray.monochrome_to_gray(
        stored, Dataset(), image=Dataset(), inverted=True
    )

    assert pixels[0, 0] == 1.0
    assert pixels[-1, -1] == 0.0
