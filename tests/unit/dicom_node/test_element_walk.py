"""Promises of the walk over raw element headers."""

import mmap
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InvalidInstance
from core.settings import Priority
from dicom_node.element_walk import MAXIMUM_DEPTH, Encoding, walk
from tests.data_sets import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    INSTANCE,
    SERIES,
    STUDY,
    UNDEFINED,
    Sample,
    element,
    item,
    sequence,
)

LITTLE = Encoding.of(EXPLICIT)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_the_filing_attributes_are_found_in_every_encoding(syntax: str) -> None:
    sample = Sample(transfer_syntax_uid=syntax)

    facts = walk(sample.data_set, sample.encoding)

    assert facts.sop_instance_uid == INSTANCE
    assert facts.study_instance_uid == STUDY
    assert facts.series_instance_uid == SERIES
    assert facts.modality == "CT"
    assert facts.manufacturer == "ACME"
    assert facts.is_image


def test_an_object_without_rows_and_pixels_is_no_image() -> None:
    facts = walk(element(0x00080060, "CS", "SR"), LITTLE)

    assert not facts.is_image


def test_rows_inside_a_sequence_make_no_image() -> None:
    icon = item(element(0x00280010, "US", b"\x08\x00"))

    facts = walk(sequence(0x00880200, [icon]), LITTLE)

    assert not facts.is_image


def test_a_study_uid_inside_a_sequence_is_another_study_s() -> None:
    other = item(element(0x0020000D, "UI", "9.9.9"))

    facts = walk(sequence(0x00081115, [other]), LITTLE)

    assert facts.study_instance_uid == ""


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_the_order_s_priority_is_found_in_the_request(
    undefined: bool, syntax: str
) -> None:
    encoding = Encoding.of(syntax)
    request = item(
        element(0x00401003, "SH", "STAT", encoding=encoding), undefined=undefined
    )
    data = sequence(0x00400275, [request], undefined=undefined, encoding=encoding)

    facts = walk(data, encoding)

    assert facts.order_priority is Priority.STAT


def test_the_retired_study_priority_counts_and_the_more_urgent_wins() -> None:
    data = element(0x0032000C, "CS", "HIGH") + element(0x00401003, "SH", "LOW")

    assert walk(data, LITTLE).order_priority is Priority.HIGH


def test_encapsulated_pixel_data_are_walked_by_their_fragments() -> None:
    fragments = item(b"") + item(b"\xff\xd8\xff\xd9")
    data = (
        element(0x7FE00010, "OB", b"", length=UNDEFINED)
        + fragments
        + element(0xFFFEE0DD, "")
    )

    assert walk(data, LITTLE).is_image


def test_unknown_content_of_undefined_length_is_an_implicit_sequence() -> None:
    implicit = Encoding.of(IMPLICIT)
    inner = item(element(0x00091001, "LO", "x", encoding=implicit), undefined=True)
    data = (
        element(0x00091010, "UN", b"", length=UNDEFINED)
        + inner
        + element(0xFFFEE0DD, "")
    )

    walk(data, LITTLE)


def test_a_vr_of_a_later_edition_has_the_long_form() -> None:
    data = b"\x09\x00\x10\x10ZZ\0\0" + (4).to_bytes(4, "little") + b"abcd"

    walk(data, LITTLE)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x08\x00", "within an element's header"),
        (element(0x00080060, "CS", "CT", length=4), "beyond its container"),
        (element(0x00090010, "OB", b"", length=0xFFFFFFF0), "beyond its container"),
        (element(0x00080060, "CS", "CT").replace(b"CS", b"\0\0"), "VR that is none"),
        (element(0x00080060, "LO", "CT") + b"\0" * 7, "within an element's header"),
        (element(0xFFFEE00D, ""), "out of place"),
        (element(0xFFFEE0DD, ""), "out of place"),
        (element(0x00400275, "SQ", b"", length=UNDEFINED), "within an element's"),
        (sequence(0x00400275, [element(0x00080060, "CS", "CT")]), "no item"),
        (sequence(0x00400275, [item(b"\0\0")]), "within an element's header"),
        (element(0x00020010, "UI", "1.2"), "group 0002"),
        (element(0x00000002, "UI", "1.2"), "group 0000"),
        (element(0x00080018, "UI", "1.2") * 2, "twice"),
        (element(0x00090010, "LO", b"", length=0xFFFF), "beyond its container"),
    ],
)
def test_a_lie_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInstance, match=reason):
        walk(data, LITTLE)


def test_an_item_may_not_reach_beyond_its_sequence() -> None:
    lying = element(0xFFFEE000, "", b"", length=64)
    data = sequence(0x00400275, [lying]) + element(0x00400280, "ST", "x" * 80)

    with pytest.raises(InvalidInstance, match="beyond its sequence"):
        walk(data, LITTLE)


def test_a_text_of_undefined_length_is_refused() -> None:
    data = b"\x08\x00\x60\x00UT\0\0\xff\xff\xff\xff"

    with pytest.raises(InvalidInstance, match="undefined length"):
        walk(data, LITTLE)


@pytest.mark.parametrize("undefined", [True, False])
def test_nesting_up_to_the_limit_is_walked(undefined: bool) -> None:
    walk(_nested(MAXIMUM_DEPTH, undefined=undefined), LITTLE)


@pytest.mark.parametrize("undefined", [True, False])
def test_nesting_beyond_the_limit_is_refused(undefined: bool) -> None:
    with pytest.raises(InvalidInstance, match="deeper"):
        walk(_nested(MAXIMUM_DEPTH + 1, undefined=undefined), LITTLE)


def test_a_hundred_thousand_nested_sequences_cost_no_memory() -> None:
    opening = element(0x00400275, "SQ", b"", length=UNDEFINED) + element(
        0xFFFEE000, "", b"", length=UNDEFINED
    )
    bomb = opening * 100_000
    tracemalloc.start()

    with pytest.raises(InvalidInstance, match="deeper"):
        walk(bomb, LITTLE)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_walk_may_begin_within_a_mapped_file(tmp_path: Path) -> None:
    sample = Sample()
    path = tmp_path / "file"
    path.write_bytes(b"header" + sample.data_set)

    with path.open("rb") as file:
        buffer = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        facts = walk(buffer, LITTLE, start=6)
        buffer.close()

    assert facts.sop_instance_uid == INSTANCE


def _nested(depth: int, *, undefined: bool) -> bytes:
    data = b""
    for _ in range(depth):
        data = sequence(
            0x00400275, [item(data, undefined=undefined)], undefined=undefined
        )
    return data


TAGS = st.integers(0x0009, 0x7FDF).map(lambda group: (group | 1) << 16 | 0x1010)


def _data_sets(encoding: Encoding) -> st.SearchStrategy[bytes]:
    leaf = st.builds(
        lambda tag, vr, value: element(tag, vr, value, encoding=encoding),
        TAGS,
        st.sampled_from(["LO", "UI", "US", "OB", "UN", "UT"]),
        st.binary(max_size=12).map(lambda value: value + b"\0" * (len(value) % 2)),
    )
    private_sequence = 0x00400275  # its VR is known, so Implicit VR descends, too

    def nest(children: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        return st.builds(
            lambda contents, undefined: sequence(
                private_sequence,
                [
                    item(content, undefined=undefined, encoding=encoding)
                    for content in contents
                ],
                undefined=undefined,
                encoding=encoding,
            ),
            st.lists(children, max_size=3),
            st.booleans(),
        )

    elements = st.recursive(leaf, nest, max_leaves=8)
    return st.lists(elements, min_size=1, max_size=5).map(b"".join)


ENCODINGS = [Encoding.of(syntax) for syntax in (EXPLICIT, IMPLICIT, BIG_ENDIAN)]
ANY = st.sampled_from(ENCODINGS).flatmap(
    lambda encoding: st.tuples(st.just(encoding), _data_sets(encoding))
)


@given(ANY)
@settings(max_examples=60, deadline=None)
def test_every_sound_data_set_is_walked(sample: tuple[Encoding, bytes]) -> None:
    encoding, data = sample

    walk(data, encoding)


@given(ANY, st.data())
@settings(max_examples=60, deadline=None)
def test_a_data_set_that_is_cut_inside_an_element_is_refused(
    sample: tuple[Encoding, bytes], choice: st.DataObject
) -> None:
    encoding, data = sample
    last = element(0x7FE11010, "OB", b"abcdefgh", encoding=encoding)
    cut = choice.draw(st.integers(1, len(last) - 1))

    with pytest.raises(InvalidInstance):
        walk((data + last)[:-cut], encoding)


@given(st.binary(max_size=400), st.sampled_from(ENCODINGS))
@settings(max_examples=150, deadline=None)
def test_random_bytes_raise_nothing_but_invalid_instance(
    data: bytes, encoding: Encoding
) -> None:
    assert len(_reason(data, encoding)) <= 64


@given(ANY, st.data())
@settings(max_examples=80, deadline=None)
def test_one_changed_byte_raises_nothing_but_invalid_instance(
    sample: tuple[Encoding, bytes], choice: st.DataObject
) -> None:
    encoding, data = sample
    changed = bytearray(data)
    place = choice.draw(st.integers(0, len(data) - 1))
    changed[place] = choice.draw(st.integers(0, 255))

    assert len(_reason(bytes(changed), encoding)) <= 64


def _reason(data: bytes, encoding: Encoding) -> str:
    try:
        walk(data, encoding)
    except InvalidInstance as error:
        return str(error)
    return ""
