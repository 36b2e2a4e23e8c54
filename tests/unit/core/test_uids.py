import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.uids import IMPLEMENTATION_CLASS_UID, derived_uid, is_valid_uid


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_a_derived_uid_is_valid_and_the_same_each_time(parts):
    first, second = derived_uid(*parts), derived_uid(*parts)

    assert first == second
    assert is_valid_uid(first)
    assert first.startswith("2.25.")


def test_parts_are_kept_apart():
    assert derived_uid("ab", "c") != derived_uid("a", "bc")


def test_a_derived_uid_never_changes_between_releases():
    # A change would make a second report of every job that is retried after an upgrade.
    assert IMPLEMENTATION_CLASS_UID == "2.25.268619067326963111605740751771636894521"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.",
        ".1",
        "1..2",
        "1.02",
        "1.2/../3",
        "1.2 ",
        "a.b",
        "1.2\n",
        "1." * 40,
    ],
)
def test_what_breaks_the_uid_rule_is_refused(text):
    assert not is_valid_uid(text)


@pytest.mark.parametrize("text", ["1.2", "0.0", "2.25.0", "1." * 31 + "10"])
def test_what_obeys_the_uid_rule_is_accepted(text):
    assert is_valid_uid(text)
