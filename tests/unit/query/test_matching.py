"""Keys are compared with values as PS3.4 C.2.2.2 says."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.query.matching import InvalidQuery, compile_key, fold_name

NAME, PATIENT_ID, DATE, TIME = 0x00100010, 0x00100020, 0x00080020, 0x00080030
STUDY, MODALITIES, DESCRIPTION = 0x0020000D, 0x00080061, 0x00081030
NUMBER, REQUEST, STEP = 0x00200013, 0x00400275, 0x00400009


def holds(tag: int | tuple[int, ...], asked: str, *values: Any, vr: str = "LO") -> bool:
    path = tag if isinstance(tag, tuple) else (tag,)
    key = compile_key(path, asked)
    model: dict[str, Any] = {f"{path[-1]:08X}": {"vr": vr, "Value": list(values)}}
    for outer in reversed(path[:-1]):
        model = {f"{outer:08X}": {"vr": "SQ", "Value": [model]}}
    return key is None or key.holds(model)


def named(
    asked: str, alphabetic: str, ideographic: str = "", phonetic: str = ""
) -> bool:
    groups = {
        "Alphabetic": alphabetic,
        "Ideographic": ideographic,
        "Phonetic": phonetic,
    }
    return holds(NAME, asked, {k: v for k, v in groups.items() if v}, vr="PN")


@pytest.mark.parametrize("asked", ["", "*", "**", " "])
def test_an_empty_key_and_a_star_match_everything(asked: str) -> None:
    assert compile_key((PATIENT_ID,), asked) is None


def test_names_match_without_regard_to_case_and_trailing_delimiters() -> None:
    assert named("smith^john", "Smith^John^^")
    assert named("SMITH^JOHN^^^", "Smith^John")
    assert not named("smith", "Smith^John")


def test_names_match_by_wildcards() -> None:
    assert named("smi*", "Smith^John")
    assert named("*john", "Smith^John")
    assert named("sm?th^*", "Smith^John")
    assert not named("sm?th^*", "Smyyth^John")


def test_a_key_of_one_group_matches_any_group_of_a_name() -> None:
    assert named("山田*", "Yamada^Tarou", "山田^太郎", "やまだ^たろう")
    assert named("やまだ^たろう", "Yamada^Tarou", "山田^太郎", "やまだ^たろう")


def test_a_key_of_several_groups_matches_group_by_group() -> None:
    assert named("yamada*=山田*", "Yamada^Tarou", "山田^太郎")
    assert named("=山田*", "Yamada^Tarou", "山田^太郎")
    assert not named("山田*=yamada*", "Yamada^Tarou", "山田^太郎")


def test_markup_in_a_name_is_text() -> None:
    assert named("<script>*", "<script>alert(1)</script>")
    assert not named("[a-z]*", "abc")


def test_other_text_matches_with_regard_to_case() -> None:
    assert holds(PATIENT_ID, "AB1", "AB1")
    assert not holds(PATIENT_ID, "ab1", "AB1")
    assert holds(DESCRIPTION, "*est", "Chest")
    assert not holds(DESCRIPTION, "*EST", "Chest")


def test_dates_match_by_range_open_range_and_single_value() -> None:
    assert holds(DATE, "20260101-20260131", "20260115", vr="DA")
    assert holds(DATE, "-20260131", "20260115", vr="DA")
    assert holds(DATE, "20260101-", "20260115", vr="DA")
    assert holds(DATE, "20260115", "2026.01.15", vr="DA")
    assert not holds(DATE, "20260116-", "20260115", vr="DA")
    assert not holds(DATE, "20260101-20260131", vr="DA")


def test_times_match_to_the_precision_that_was_asked() -> None:
    assert holds(TIME, "1015", "101559.5", vr="TM")
    assert holds(TIME, "10-11", "115959", vr="TM")
    assert not holds(TIME, "1016-", "101559", vr="TM")


@pytest.mark.parametrize("asked", ["1.2\\1.3", "1.2,1.3", "1.3"])
def test_a_list_of_uids_matches_each_of_them(asked: str) -> None:
    assert holds(STUDY, asked, "1.3", vr="UI")
    assert not holds(STUDY, asked, "1.33", vr="UI")


def test_modalities_match_if_one_of_them_does() -> None:
    assert holds(MODALITIES, "MR,CT", "SR", "CT", vr="CS")
    assert holds(MODALITIES, "C?", "SR", "CT", vr="CS")
    assert not holds(MODALITIES, "MR", "SR", "CT", vr="CS")


def test_numbers_match_by_value() -> None:
    assert holds(NUMBER, "007", 7, vr="IS")
    assert not holds(NUMBER, "8", 7, vr="IS")


def test_an_attribute_within_a_sequence_matches_in_any_item() -> None:
    assert holds((REQUEST, STEP), "SPS1", "SPS1", vr="SH")
    assert not holds((REQUEST, STEP), "SPS2", "SPS1", vr="SH")


def test_two_quotes_match_what_has_no_value() -> None:
    assert holds(DESCRIPTION, '""')
    assert not holds(DESCRIPTION, '""', "Chest")


@pytest.mark.parametrize(
    ("tag", "asked"),
    [
        (DATE, "yesterday"),
        (DATE, "2026-01-01"),
        (TIME, "noon"),
        (NUMBER, "one"),
        (REQUEST, "x"),
        (DESCRIPTION, "x" * 2000),
        (STUDY, ",".join(f"1.{n}" for n in range(1200))),
    ],
)
def test_a_value_that_cannot_be_compared_is_refused_without_being_quoted(
    tag: int, asked: str
) -> None:
    with pytest.raises(InvalidQuery) as refused:
        compile_key((tag,), asked)

    assert asked not in str(refused.value)


def test_many_wildcards_cost_little() -> None:
    key = compile_key((DESCRIPTION,), "*a" * 300 + "*b")
    assert key is not None
    began = time.process_time()

    assert not key.holds({"00081030": {"vr": "LO", "Value": ["a" * 2000]}})

    assert time.process_time() - began < 2


@given(st.text(max_size=30))
def test_folding_a_name_twice_changes_nothing(text: str) -> None:
    assert fold_name(fold_name(text)) == fold_name(text)


@given(st.text(min_size=1, max_size=20).filter(lambda t: not set(t) & set('*?\\="\0')))
def test_every_name_matches_itself(name: str) -> None:
    assert named(name, name)
