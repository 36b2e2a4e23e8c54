"""Conditions of rules: what may stand in `when`, and what each says of one series.

Everything that can be wrong with a condition is found when it is built, so that judging
a series cannot fail. Three sentences hold for all conditions: an attribute without a
value counts as absent; a condition on an absent attribute is false, under `not` too
(the exception is `present = false`); of several values any may fulfil it.
"""

import datetime
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.tag import Tag

from core.errors import InvalidSettings
from dicom_node.series_header import OPAQUE_VRS, SeriesHeader

__all__ = ["Condition", "Judgement", "build_conditions"]

_NUMERIC_VRS = frozenset(
    {"AS", "DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"}
)
_TIME_VRS = frozenset({"DA", "DT", "TM"})
_TAG = re.compile(r"\(([0-9A-Fa-f]{4}),\s?([0-9A-Fa-f]{4})\)")
# PS3.5 6.2 (AS): three digits and a unit, here in years.
_AGE = re.compile(r"([0-9]{3})([DWMY])")
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}

Test = Callable[[str], bool]


@dataclass(frozen=True)
class Judgement:
    """What one condition says of one series."""

    condition: str
    """In words, e.g. `Modality is CR or DX`."""
    holds: bool
    found: str
    """The values that were found. Maybe a patient's: to be shown, never logged."""


@dataclass(frozen=True)
class Condition:
    """One condition, ready to be judged."""

    words: str
    judge: Callable[[SeriesHeader], Judgement]


@dataclass(frozen=True)
class _Subject:
    """What a condition is about: an attribute, or an AE title of the association."""

    name: str
    vr: str
    tag: int | None

    def values(self, header: SeriesHeader) -> tuple[str, ...]:
        if self.tag is not None:
            return header.values(self.tag)
        title: str = getattr(header, self.name)
        return (title,) if title else ()

    def has_value(self, header: SeriesHeader) -> bool:
        if self.tag is not None:
            return header.has_value(self.tag)
        return bool(self.values(header))


def build_conditions(where: str, when: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Build the conditions of one `when` table, which must all hold.

    Parameters
    ----------
    where
        Whose conditions these are, for the message: `rule 'chest'`.
    when
        The table as it stands in the settings.

    Raises
    ------
    InvalidSettings
        Naming `where` and the condition: an unknown keyword, a regular expression that
        does not compile, a range without numbers, an operation that does not exist.
    """
    return tuple(_build(where, name, value) for name, value in when.items())


def _build(where: str, name: str, value: object) -> Condition:
    place = f"{where}, condition {name!r}"
    if name == "any_of":
        return _any_of(where, value)
    subject = _subject(place, name)
    if isinstance(value, Mapping) and "present" in value:
        return _presence(place, subject, value)
    if subject.vr in OPAQUE_VRS:
        raise InvalidSettings(
            f"{place}: values of {subject.vr} cannot be compared; "
            "only {present = true} or {present = false} is possible"
        )
    words, test = _test(place, subject, value)
    negated = isinstance(value, Mapping) and "not" in value

    def judge(header: SeriesHeader) -> Judgement:
        values = subject.values(header)
        # `not X`: there is a value, and none of the values is X.
        met = any(test(item) for item in values) != negated
        return Judgement(
            f"{name} {words}", bool(values) and met, _shown(values) or "absent"
        )

    return Condition(f"{name} {words}", judge)


def _subject(place: str, name: str) -> _Subject:
    if name in ("calling_ae_title", "called_ae_title"):
        return _Subject(name, "AE", None)
    written = _TAG.fullmatch(name)
    tag = int(written[1] + written[2], 16) if written else tag_for_keyword(name)
    if tag is None:
        raise InvalidSettings(
            f"{place}: no such attribute; a keyword of PS3.6 (`StudyDescription`), a "
            "tag (`(0008,1030)`), `calling_ae_title`, `called_ae_title` or `any_of` "
            "was expected"
        )
    try:
        vr = dictionary_VR(Tag(tag))
    except KeyError:
        vr = "UN"  # a private attribute: its VR is known when it comes
    return _Subject(name, vr.split(" ")[0], tag)


def _any_of(where: str, value: object) -> Condition:
    place = f"{where}, condition 'any_of'"
    if not isinstance(value, list | tuple) or not value:
        raise InvalidSettings(f"{place}: a list of tables was expected")
    groups: list[tuple[Condition, ...]] = []
    for table in value:
        if not isinstance(table, Mapping) or not table:
            raise InvalidSettings(f"{place}: each entry must be a table of conditions")
        groups.append(build_conditions(where, table))
    words = " or ".join(
        "(" + " and ".join(item.words for item in group) + ")" for group in groups
    )

    def judge(header: SeriesHeader) -> Judgement:
        judged = [[item.judge(header) for item in group] for group in groups]
        holds = any(all(item.holds for item in group) for group in judged)
        found = "; ".join(
            f"{item.condition}: {'yes' if item.holds else 'no'}, {item.found}"
            for group in judged
            for item in group
        )
        return Judgement(words, holds, found)

    return Condition(words, judge)


def _presence(
    place: str, subject: _Subject, value: Mapping[object, object]
) -> Condition:
    wanted = value.get("present")
    if not isinstance(wanted, bool) or len(value) > 1:
        raise InvalidSettings(
            f"{place}: `present` stands alone and is true or false; "
            "for `not present` write {present = false}"
        )
    words = f"{subject.name} is {'present' if wanted else 'absent'}"

    def judge(header: SeriesHeader) -> Judgement:
        there = subject.has_value(header)
        found = (_shown(subject.values(header)) or "present") if there else "absent"
        return Judgement(words, there == wanted, found)

    return Condition(words, judge)


def _test(place: str, subject: _Subject, value: object) -> tuple[str, Test]:
    """Build the test of one value, without a `not` around it."""
    if isinstance(value, Mapping):
        return _operation(place, subject, value)
    if isinstance(value, list | tuple):
        if not value:
            raise InvalidSettings(f"{place}: the set is empty and can never hold")
        tests = [_equality(place, subject, item) for item in value]
        words = " or ".join(str(item) for item in value)
        return f"is {words}", lambda text: any(test(text) for test in tests)
    return f"is {value}", _equality(place, subject, value)


def _operation(
    place: str, subject: _Subject, value: Mapping[Any, Any]
) -> tuple[str, Test]:
    names = set(value)
    if names == {"matches"}:
        return _matching(place, value["matches"])
    if names and names <= {"min", "max"}:
        return _range(place, subject, value)
    if names == {"not"}:
        inner = value["not"]
        if isinstance(inner, Mapping) and ("not" in inner or "present" in inner):
            raise InvalidSettings(
                f"{place}: `not` takes a value, a set, `matches` or `min`/`max`; "
                "for absence write {present = false}"
            )
        words, test = _test(place, subject, inner)
        return f"not: {words}", test
    raise InvalidSettings(
        f"{place}: {{{', '.join(sorted(map(str, names)))}}} is no condition; "
        "`matches`, `min`, `max`, `present` or `not` was expected"
    )


def _matching(place: str, pattern: object) -> tuple[str, Test]:
    if not isinstance(pattern, str):
        raise InvalidSettings(f"{place}: `matches` takes a regular expression as text")
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidSettings(
            f"{place}: {pattern!r} is no regular expression: {error}"
        ) from error
    return f"matches {pattern}", lambda text: compiled.search(text) is not None


def _equality(place: str, subject: _Subject, value: object) -> Test:
    if isinstance(value, bool) or not isinstance(
        value, str | int | float | datetime.date | datetime.time
    ):
        raise InvalidSettings(
            f"{place}: {value!r} cannot be compared; text, a number or a date was "
            "expected"
        )
    if isinstance(value, int | float):
        wanted = float(value)
        return lambda text: _number(subject.vr, text) == wanted
    expected = _as_text(value).strip()
    return lambda text: text == expected


def _range(
    place: str, subject: _Subject, value: Mapping[str, object]
) -> tuple[str, Test]:
    words = " and ".join(f"{name} {bound}" for name, bound in value.items())
    bounds = list(value.values())
    if all(_is_number(bound) for bound in bounds):
        if subject.vr not in _NUMERIC_VRS | {"UN", "LO", "SH"}:
            raise InvalidSettings(
                f"{place}: {subject.vr} holds no numbers; `min` and `max` compare "
                "numbers, ages, dates and times"
            )
        low = float(value.get("min", -math.inf))  # type: ignore[arg-type]
        high = float(value.get("max", math.inf))  # type: ignore[arg-type]
        return words, lambda text: low <= _number(subject.vr, text) <= high
    is_time = all(isinstance(b, str | datetime.date | datetime.time) for b in bounds)
    if not is_time or subject.vr not in _TIME_VRS | {"UN"}:
        raise InvalidSettings(
            f"{place}: `min` and `max` are both numbers (ages in years), or both dates "
            "or times as DICOM writes them for an attribute of VR DA, TM or DT"
        )
    texts = {name: _as_text(bound) for name, bound in value.items()}
    return words, lambda text: _within(text, texts.get("min"), texts.get("max"))


def _within(text: str, low: str | None, high: str | None) -> bool:
    # PS3.5 6.2: DA, TM and DT sort as text; a shorter bound means all that begins so.
    above = low is None or text[: len(low)] >= low
    return above and (high is None or text[: len(high)] <= high)


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _number(vr: str, text: str) -> float:
    """Read a value as a number; one that is none is NaN, which equals nothing."""
    age = _AGE.fullmatch(text) if vr in ("AS", "UN") else None
    if age:
        return int(age[1]) * _YEARS[age[2]]
    try:
        return float(text)
    except ValueError:
        return math.nan


def _as_text(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y%m%d%H%M%S")
    if isinstance(value, datetime.date):
        return value.strftime("%Y%m%d")
    if isinstance(value, datetime.time):
        return value.strftime("%H%M%S")
    return str(value)


def _shown(values: Sequence[str]) -> str:
    return " \\ ".join(values)
