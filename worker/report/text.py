"""A report as people read it: the content tree of any structured report as text.

This module knows the general form of content items only, no template, and does without
the libraries that write reports, so that looking at one is quick.

Source
------
PS3.3 C.17.3 (SR Document Content), C.18 (content item macros).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import UID

__all__ = ["TextNode", "report_lines", "report_tree"]


@dataclass(frozen=True)
class TextNode:
    """One content item: its concept name's meaning, its value, what hangs below."""

    label: str
    value: str | None
    """None for a container."""
    children: tuple["TextNode", ...] = ()


def report_tree(report: Dataset | bytes) -> TextNode:
    """Read the content tree of a structured report.

    Parameters
    ----------
    report
        The data set, or the bytes of a DICOM file.

    Returns
    -------
    The root; its value says how complete and how verified the document is.
    """
    dataset = dcmread(BytesIO(report)) if isinstance(report, bytes) else report
    flags = ("CompletionFlag", "CompletionFlagDescription", "VerificationFlag")
    state = [_printable(dataset.get(flag)) for flag in flags]
    return TextNode(
        label=_label(dataset),
        value=", ".join(text for text in state if text) or None,
        children=_children(dataset),
    )


def report_lines(report: TextNode | Dataset | bytes) -> tuple[str, ...]:
    """Render a report as indented lines, `label: value`, two spaces a level."""
    root = report if isinstance(report, TextNode) else report_tree(report)
    return tuple(_lines(root, 0))


def _lines(node: TextNode, depth: int) -> Iterator[str]:
    value = "" if node.value is None else f": {node.value}"
    yield f"{'  ' * depth}{node.label}{value}"
    for child in node.children:
        yield from _lines(child, depth + 1)


def _children(item: Dataset) -> tuple[TextNode, ...]:
    return tuple(
        TextNode(label=_label(child), value=_value(child), children=_children(child))
        for child in item.get("ContentSequence") or ()
    )


def _label(item: Dataset) -> str:
    meaning = _meaning(item.get("ConceptNameCodeSequence"))
    if meaning:
        return meaning
    # IMAGE and its like may come without a name; the relationship says what they are.
    relationship = _printable(item.get("RelationshipType")) or "item"
    return relationship.capitalize()


def _value(item: Dataset) -> str | None:
    value_type = item.get("ValueType")
    if value_type is None:
        # PS3.3 C.17.3.1: a by-reference relationship names its target by position.
        position = item.get("ReferencedContentItemIdentifier")
        return f"see item {position}"
    if value_type == "CONTAINER":
        return None
    reader = _READERS.get(value_type, _reference)
    return reader(item) or "(no value)"


def _meaning(sequence: Any) -> str:
    return _printable(sequence[0].get("CodeMeaning")) if sequence else ""


def _number(item: Dataset) -> str:
    measured = item.get("MeasuredValueSequence")
    if not measured:
        return _meaning(item.get("NumericValueQualifierCodeSequence"))
    number = measured[0].get("NumericValue")
    # Ten digits hold any value a person reads; 2048.0 pixels reads as a measurement.
    shown = f"{number:.10g}" if isinstance(number, float) else _printable(number)
    units = measured[0].get("MeasurementUnitsCodeSequence")
    unit = str(units[0].get("CodeValue", "")) if units else ""
    if unit.startswith("{"):
        # UCUM annotations such as {pixels}: the braces mean that it is no unit.
        unit = unit.strip("{}")
    return f"{shown} {unit}".strip() if unit != "1" else shown


def _reference(item: Dataset) -> str:
    references = item.get("ReferencedSOPSequence")
    if not references:
        return ""
    reference = references[0]
    name = UID(str(reference.get("ReferencedSOPClassUID", ""))).name
    frames = reference.get("ReferencedFrameNumber")
    suffix = "" if frames is None else f", frame {frames}"
    return f"{name} {reference.get('ReferencedSOPInstanceUID')}{suffix}"


def _outline(item: Dataset) -> str:
    numbers = item.get("GraphicData") or ()
    dimensions = 3 if item.get("ValueType") == "SCOORD3D" else 2
    return f"{item.get('GraphicType')}, {len(numbers) // dimensions} points"


def _text_of(keyword: str) -> Callable[[Dataset], str]:
    return lambda item: _printable(item.get(keyword))


def _printable(value: object) -> str:
    """Turn a value into one line that cannot steer a terminal."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else " " for c in text).strip()


_READERS: dict[str, Callable[[Dataset], str]] = {
    "CODE": lambda item: _meaning(item.get("ConceptCodeSequence")),
    "NUM": _number,
    "TEXT": _text_of("TextValue"),
    "UIDREF": _text_of("UID"),
    "PNAME": _text_of("PersonName"),
    "DATE": _text_of("Date"),
    "TIME": _text_of("Time"),
    "DATETIME": _text_of("DateTime"),
    "SCOORD": _outline,
    "SCOORD3D": _outline,
}
