"""A STOW-RS body on its way into the receiver: bytes in, one outcome an instance.

There is no HTTP here. `feed` runs in a thread, because it writes to the disk;
what it holds is the head of one file and nothing else, however large the body is.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError

from core.errors import InvalidInstance
from dicom_node.contexts import storage_sop_classes, transfer_syntaxes
from dicom_node.dicomweb.answers import Refused
from dicom_node.dicomweb.negotiation import parse_content_type
from dicom_node.dicomweb.part10 import HeaderReader, Part10Header
from dicom_node.file_meta import FileMeta
from dicom_node.receive import InstanceSink
from dicom_node.statuses import StorageAnswer, StorageOutcome, answer_for

__all__ = ["Begin", "Intake", "Limits", "MultipartIntake", "Outcome", "SingleIntake"]

_DICOM = "application/dicom"
_MOST_INSTANCES = 20_000
# PS3.4 Table B.2-1 and PS3.18 Table I.2-2.
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_SYNTAX_NOT_SUPPORTED = 0xC122
_LONGEST_PART_HEADER = 4096
_MOST_PART_HEADERS = 16

Begin = Callable[[FileMeta], InstanceSink]


@dataclass(frozen=True)
class Outcome:
    """What became of one instance."""

    sop_class_uid: str
    sop_instance_uid: str
    """Empty if the part did not say."""
    answer: StorageAnswer


@dataclass(frozen=True)
class Limits:
    """What one request may bring."""

    maximum_instance_bytes: int
    private_sop_classes: Collection[str]


class Intake(Protocol):
    """Takes a body in."""

    outcomes: list[Outcome]

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body.

        Raises
        ------
        Refused
            400 if the body breaks its own rules, 413 if it is too large. What came
            before is kept.
        """

    def finish(self) -> None:
        """End the body.

        Raises
        ------
        Refused
            400 if it is not complete.
        """

    def abandon(self) -> None:
        """Forget the instance that was not ended."""


class _Instance:
    """One part that is a Part 10 file."""

    def __init__(self, begin: Begin, limits: Limits, template: FileMeta) -> None:
        self._begin = begin
        self._limits = limits
        self._template = template
        self._reader = HeaderReader()
        self._header: Part10Header | None = None
        self._refusal: StorageAnswer | None = None
        self._sink: InstanceSink | None = None
        self._bytes = 0

    def write(self, data: memoryview) -> None:
        self._bytes += len(data)
        if self._bytes > self._limits.maximum_instance_bytes:
            self.abandon()
            raise Refused(
                413,
                f"an instance has more than {self._limits.maximum_instance_bytes} "
                "bytes (node.maximum_instance_bytes)",
            )
        if self._refusal is None and self._sink is None:
            data = self._head(data)
        if self._sink is not None and data:
            self._sink.write(data)

    def end(self) -> Outcome:
        header, sink, self._sink = self._header, self._sink, None
        if sink is not None:
            answer = sink.commit()
        else:
            answer = self._refusal or answer_for(
                InvalidInstance("a part ends within its File Meta Information")
            )
        if header is None:
            return Outcome("", "", answer)
        return Outcome(header.sop_class_uid, header.sop_instance_uid, answer)

    def abandon(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abandon()

    def _head(self, data: memoryview) -> memoryview:
        try:
            whole = self._reader.feed(data)
        except InvalidInstance as error:
            self._refusal = answer_for(error)
            return memoryview(b"")
        if whole is None:
            return memoryview(b"")
        self._header, rest = whole
        self._refusal = self._refuse(self._header)
        if self._refusal is None:
            self._sink = self._begin(self._meta(self._header))
        return rest

    def _refuse(self, header: Part10Header) -> StorageAnswer | None:
        """Refuse what no association would have negotiated."""
        known = {*storage_sop_classes(), *self._limits.private_sop_classes}
        if header.sop_class_uid not in known:
            return _refused(_SOP_CLASS_NOT_SUPPORTED, "SOP class is not accepted")
        if header.transfer_syntax_uid not in transfer_syntaxes():
            return _refused(_SYNTAX_NOT_SUPPORTED, "transfer syntax is not accepted")
        return None

    def _meta(self, header: Part10Header) -> FileMeta:
        return FileMeta(
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            calling_ae_title=self._template.calling_ae_title,
            called_ae_title=self._template.called_ae_title,
            peer_address=self._template.peer_address,
        )


class SingleIntake:
    """A body that is one instance.

    Parameters
    ----------
    begin
        Begins an instance at the receiver.
    limits
        What is refused.
    template
        Who sends, and to whom; its UIDs do not count.
    """

    def __init__(self, begin: Begin, limits: Limits, template: FileMeta) -> None:
        self.outcomes: list[Outcome] = []
        self._instance = _Instance(begin, limits, template)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._instance.write(memoryview(data))

    def finish(self) -> None:
        """End the body."""
        self.outcomes.append(self._instance.end())

    def abandon(self) -> None:
        """Forget the instance that was not ended."""
        self._instance.abandon()


class MultipartIntake:
    """A multipart body of instances.

    Parameters
    ----------
    boundary
        Of the body.
    begin, limits, template
        As for `SingleIntake`.

    Raises
    ------
    Refused
        400 if the boundary cannot be one.
    """

    def __init__(
        self, boundary: str, begin: Begin, limits: Limits, template: FileMeta
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._arguments = begin, limits, template
        self._instance: _Instance | None = None
        self._name, self._value = bytearray(), bytearray()
        self._media_type = _DICOM
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary.encode("ascii"),
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._takes(self._name),
                    "on_header_value": self._takes(self._value),
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_ends,
                    "on_end": self._body_ends,
                },
                max_header_count=_MOST_PART_HEADERS,
                max_header_size=_LONGEST_PART_HEADER,
            )
        except (FormParserError, UnicodeEncodeError) as error:
            raise Refused(400, "the boundary of this body cannot be one") from error

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            self.abandon()
            raise Refused(
                400,
                "the body is not multipart as its boundary and RFC 2046 say; "
                f"{len(self.outcomes)} instances before the fault were taken",
            ) from error

    def finish(self) -> None:
        """End the body."""
        if not self._ended:
            self.abandon()
            raise Refused(
                400,
                "the body ends before its closing boundary; "
                f"{len(self.outcomes)} whole instances were taken",
            )

    def abandon(self) -> None:
        """Forget the instance that was not ended."""
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.abandon()

    @staticmethod
    def _takes(into: bytearray) -> Callable[[bytes, int, int], None]:
        def take(data: bytes, start: int, end: int) -> None:
            into.extend(data[start:end])

        return take

    def _part_begins(self) -> None:
        self._media_type = _DICOM

    def _header_ends(self) -> None:
        if bytes(self._name).lower() == b"content-type":
            text = self._value.decode("ascii", errors="replace")
            self._media_type, _ = parse_content_type(text)
        self._name.clear()
        self._value.clear()

    def _headers_end(self) -> None:
        if self._media_type != _DICOM:
            raise Refused(
                415, "parts must be application/dicom; metadata with bulk data are not"
            )
        if len(self.outcomes) >= _MOST_INSTANCES:
            raise Refused(
                413, f"more than {_MOST_INSTANCES} instances; send the rest next"
            )
        self._instance = _Instance(*self._arguments)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._instance is not None:
            self._instance.write(memoryview(data)[start:end])

    def _part_ends(self) -> None:
        instance, self._instance = self._instance, None
        if instance is not None:
            self.outcomes.append(instance.end())

    def _body_ends(self) -> None:
        self._ended = True


def _refused(status: int, comment: str) -> StorageAnswer:
    return StorageAnswer(status, comment, StorageOutcome.REFUSED)
