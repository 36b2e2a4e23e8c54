"""How a key is compared with a value: PS3.4 C.2.2.2 on the DICOM JSON Model.

A key is compiled once and asked of many values. No regular expression is built from
what a peer sent: wildcards are compared by a loop whose cost is the product of two
lengths.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR

from core.errors import SenderError
from dicom_node.query.json_model import JsonModel

__all__ = ["InvalidQuery", "Key", "Path", "compile_key", "fold_name", "vr_of"]

Path = tuple[int, ...]
"""Tags from the outermost sequence to the attribute."""

_LONGEST_KEY = 1024
_MOST_VALUES = 1000
_MOST_FRAGMENTS = 4
_EMPTY = '""'
_LIST_SEPARATORS = re.compile(r"[\\,]")
_RANGE_VRS = frozenset({"DA", "TM", "DT"})
_NUMBER_VRS = frozenset({"DS", "IS", "FL", "FD", "SL", "SS", "SV", "UL", "US", "UV"})
# PS3.4 C.2.2.2.4: wildcards are for these.
_WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_PARTIAL_TIME = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_PARTIAL_DATE_TIME = re.compile(r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?")
_DATE = re.compile(r"\d{8}")


class InvalidQuery(SenderError):
    """A query that cannot be answered; its text quotes no value of it."""


@dataclass(frozen=True)
class Key:
    """One compiled key."""

    path: Path
    vr: str
    matches: Callable[[list[str]], bool]
    """Asked of all values of the attribute, as text; empty if it has none."""
    one_of: tuple[str, ...] = ()
    """The exact values that match, if the key is such a list; folded for names."""
    fragments: tuple[str, ...] = ()
    """Texts that each matching value holds; folded for names."""
    least: str = ""
    most: str = ""
    """Ends of a range of dates; empty is open."""

    def holds(self, model: JsonModel) -> bool:
        """Tell whether a data set matches."""
        return self.matches(_values(model, self.path))


def vr_of(path: Path) -> str:
    """Return the VR of an attribute by the dictionary; LO for one it does not know."""
    try:
        return dictionary_VR(path[-1]).split(" ")[0]
    except KeyError:
        return "LO"


def fold_name(text: str) -> str:
    """Bring a person's name into the form in which names are compared.

    Case does not count, nor do trailing delimiters and the spaces around components.

    Source
    ------
    PS3.4 C.2.2.2.1 (case-insensitive matching of PN); PS3.5 6.2.1.
    """
    groups = []
    for group in unicodedata.normalize("NFC", text).casefold().split("="):
        components = [component.strip() for component in group.split("^")]
        groups.append("^".join(components).rstrip("^"))
    return "=".join(groups).rstrip("=")


def compile_key(path: Path, text: str, vr: str | None = None) -> Key | None:
    """Compile a key.

    Parameters
    ----------
    path
        Which attribute.
    text
        What was asked for, several values separated by backslashes.
    vr
        None: as the dictionary says.

    Returns
    -------
    None for universal matching: the attribute is only asked back.

    Raises
    ------
    InvalidQuery
        If the value breaks the rules of its VR.

    Source
    ------
    PS3.4 C.2.2.2.1 to C.2.2.2.6.
    """
    vr = vr or vr_of(path)
    text = text.strip(" \0")
    if len(text) > _LONGEST_KEY * (_MOST_VALUES if vr == "UI" else 1):
        raise _invalid(path, "is too long")
    if not text or (vr in _WILDCARD_VRS and not text.strip("*")):
        return None
    if text == _EMPTY:
        return Key(path, vr, lambda values: not any(values))
    if vr == "SQ":
        raise _invalid(path, "is a sequence; name an attribute within it")
    return _compiled_by(vr, text)(path, vr, text)


def _compiled_by(vr: str, text: str) -> Callable[[Path, str, str], Key]:
    if vr == "UI" or (vr == "CS" and _LIST_SEPARATORS.search(text)):
        return _list_key
    if vr in _RANGE_VRS:
        return _range_key
    if vr in _NUMBER_VRS:
        return _number_key
    return _name_key if vr == "PN" else _text_key


def _list_key(path: Path, vr: str, text: str) -> Key:
    wanted = tuple(dict.fromkeys(part.strip() for part in _LIST_SEPARATORS.split(text)))
    if len(wanted) > _MOST_VALUES:
        raise _invalid(path, f"lists more than {_MOST_VALUES} values")
    if vr == "CS" and any(_is_pattern(part) for part in wanted):
        return Key(
            path, vr,
            lambda values: any(_glob(p, v) for p in wanted for v in values),
        )  # fmt: skip
    chosen = frozenset(wanted)
    return Key(path, vr, lambda values: not chosen.isdisjoint(values), one_of=wanted)


def _text_key(path: Path, vr: str, text: str) -> Key:
    if vr not in _WILDCARD_VRS or not _is_pattern(text):
        return Key(path, vr, lambda values: text in values, one_of=(text,))
    return Key(
        path,
        vr,
        lambda values: any(_glob(text, value) for value in values),
        fragments=_literals(text),
    )


def _name_key(path: Path, vr: str, text: str) -> Key:
    folded = fold_name(text)
    fragments = _literals(folded.replace("=", "*"))
    if "=" in folded:
        asked = folded.split("=")

        def matches_groups(values: list[str]) -> bool:
            return any(_groups_match(asked, fold_name(value)) for value in values)

        return Key(path, vr, matches_groups, fragments=fragments)

    def matches_any_group(values: list[str]) -> bool:
        return any(
            _glob(folded, group)
            for value in values
            for group in fold_name(value).split("=")
        )

    return Key(path, vr, matches_any_group, fragments=fragments)


def _groups_match(asked: list[str], value: str) -> bool:
    groups = value.split("=")
    return all(
        not pattern or (number < len(groups) and _glob(pattern, groups[number]))
        for number, pattern in enumerate(asked)
    )


def _number_key(path: Path, vr: str, text: str) -> Key:
    wanted = _number(text)
    if wanted is None:
        raise _invalid(path, "is no number")
    return Key(path, vr, lambda values: any(_number(v) == wanted for v in values))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _range_key(path: Path, vr: str, text: str) -> Key:
    form = {"DA": _DATE, "TM": _PARTIAL_TIME, "DT": _PARTIAL_DATE_TIME}[vr]
    text = text.replace(" ", "")
    if vr == "DA":
        text = text.replace(".", "")  # ACR-NEMA's form
    if vr == "TM":
        text = text.replace(":", "")
    first, dash, last = text.partition("-")
    if not dash or (vr == "DT" and form.fullmatch(text)):
        first = last = text
    for part in (first, last):
        if part and not form.fullmatch(part):
            raise _invalid(path, f"is no {vr} and no range of them")
    least, most = _padded(first, vr, "0"), _padded(last, vr, "9")

    def within(values: list[str]) -> bool:
        return any(
            (not least or least <= value) and (not most or value <= most)
            for value in (_padded(_digits(one, vr), vr, "0") for one in values)
            if value
        )

    return Key(path, vr, within, least=least, most=most)


def _digits(text: str, vr: str) -> str:
    text = text.strip()
    if vr == "DA":
        return text.replace(".", "")
    return text.replace(":", "") if vr == "TM" else text


def _padded(text: str, vr: str, filler: str) -> str:
    """Write a time of less precision as the first or last moment that it names."""
    if not text or vr == "DA":
        return text
    whole, _, fraction = re.sub(r"[+-]\d{4}$", "", text).partition(".")
    length = 6 if vr == "TM" else 14
    return f"{whole.ljust(length, filler)}.{fraction.ljust(6, filler)}"


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text


def _literals(text: str) -> tuple[str, ...]:
    """Return the longest texts between wildcards, not more than a database likes."""
    pieces = sorted(filter(None, re.split(r"[*?]", text)), key=len)
    return tuple(pieces[-_MOST_FRAGMENTS:])


def _glob(pattern: str, text: str) -> bool:
    """Compare with `*` for any text and `?` for one character."""
    at, place, star, after_star = 0, 0, -1, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, after_star = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[place]):
            at += 1
            place += 1
        elif star >= 0:
            at, after_star = star + 1, after_star + 1
            place = after_star
        else:
            return False
    return not pattern[at:].strip("*")


def _values(model: JsonModel, path: Path) -> list[str]:
    element = model.get(f"{path[0]:08X}")
    values: Iterable[Any] = (element or {}).get("Value") or ()
    if len(path) > 1:
        return [
            text
            for item in values
            if isinstance(item, dict)
            for text in _values(item, path[1:])
        ]
    return [_text(value) for value in values if value is not None]


def _text(value: object) -> str:
    if isinstance(value, dict):  # PN, PS3.18 F.2.2
        groups = (value.get(name, "") for name in _NAME_GROUPS)
        return "=".join(groups).rstrip("=")
    return str(value).strip(" \0") if not isinstance(value, float) else f"{value:.15g}"


_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def _invalid(path: Path, what: str) -> InvalidQuery:
    name = ".".join(f"{tag:08X}" for tag in path)
    return InvalidQuery(f"the value of {name} {what}")
