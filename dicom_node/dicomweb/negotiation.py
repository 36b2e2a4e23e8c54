"""What a client accepts, and the choice among what we have."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from dicom_node.dicomweb.answers import Refused

__all__ = [
    "EXPLICIT_LITTLE_ENDIAN",
    "MediaRange",
    "Representation",
    "accepted",
    "choose_frames",
    "choose_json",
    "choose_objects",
    "choose_picture",
    "media_type_of_syntax",
    "parse_content_type",
]

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_UNCOMPRESSED = frozenset(
    {EXPLICIT_LITTLE_ENDIAN, "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"}
)
_OCTETS = "application/octet-stream"
_DICOM = "application/dicom"
_MULTIPART = "multipart/related"
_LONGEST_HEADER = 4096
_PART = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_PARAMETER = re.compile(r'([^=;\s]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)')
# PS3.18 Tables 8.7.3-2, 8.7.3-4 and 8.7.3-5.
_MEDIA_TYPES: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51",
            "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
        ),
        "image/jpeg",
    ),
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "image/jls"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"), "image/jp2"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93"), "image/jpx"),
    **dict.fromkeys(
        tuple(f"1.2.840.10008.1.2.4.20{number}" for number in (1, 2, 3)), "image/jphc"
    ),
    "1.2.840.10008.1.2.4.100": "video/mpeg2",
    "1.2.840.10008.1.2.4.101": "video/mpeg2",
    **dict.fromkeys(
        tuple(f"1.2.840.10008.1.2.4.10{number}" for number in range(2, 7)), "video/mp4"
    ),
    "1.2.840.10008.1.2.4.107": "video/H265",
    "1.2.840.10008.1.2.4.108": "video/H265",
}  # fmt: skip


@dataclass(frozen=True)
class MediaRange:
    """One entry of an `Accept` header."""

    media_type: str
    """Lower case, `*/*` and `image/*` included."""
    parameters: Mapping[str, str]

    @property
    def quality(self) -> float:
        """Weight from 0 (not acceptable) to 1."""
        try:
            return min(1.0, max(0.0, float(self.parameters.get("q", "1"))))
        except ValueError:
            return 0.0

    @property
    def part_type(self) -> str:
        """What is wanted: of a multipart message the type of its parts."""
        if self.media_type == _MULTIPART:
            return self.parameters.get("type", "*/*").lower()
        return self.media_type

    @property
    def multipart(self) -> bool:
        """Whether a multipart message is wanted; anything may be one."""
        return self.media_type in (_MULTIPART, "multipart/*", "*/*")

    @property
    def transfer_syntax(self) -> str:
        """The transfer syntax that is wanted, `*` for any, empty for none named."""
        return self.parameters.get("transfer-syntax", "")

    def covers(self, media_type: str) -> bool:
        """Tell whether this range has a media type in it."""
        main, _, minor = self.part_type.partition("/")
        if main == "*":
            return True
        wanted_main, _, wanted_minor = media_type.lower().partition("/")
        return main == wanted_main and minor in ("*", wanted_minor)


@dataclass(frozen=True)
class Representation:
    """How something is sent."""

    media_type: str
    transfer_syntax_uid: str
    """Empty for as stored."""
    multipart: bool


def parse_content_type(header: str) -> tuple[str, dict[str, str]]:
    """Split a media type from its parameters.

    Returns
    -------
    The type in lower case and its parameters, names in lower case, without quotes.
    """
    media_type, _, rest = header.partition(";")
    parameters = {
        name.lower(): re.sub(r"\\(.)", r"\1", value[1:-1])
        if value.startswith('"')
        else value
        for name, value in _PARAMETER.findall(rest)
    }
    return media_type.strip().lower(), parameters


def accepted(request: Request) -> list[MediaRange]:
    """Read what the client accepts, the most wanted first.

    The query parameter `accept` counts before the header, PS3.18 8.3.3.1.

    Raises
    ------
    Refused
        400 if the header is too long.
    """
    text = request.query_params.get("accept") or request.headers.get("accept") or "*/*"
    if len(text) > _LONGEST_HEADER:
        raise Refused(400, f"an Accept of more than {_LONGEST_HEADER} characters")
    ranges = [
        MediaRange(*parse_content_type(part))
        for part in _PART.findall(text)
        if part.strip()
    ]
    wanted = [entry for entry in ranges if entry.quality > 0]
    return sorted(wanted, key=lambda entry: -entry.quality)


def media_type_of_syntax(transfer_syntax_uid: str) -> str:
    """Return the media type of frames in this transfer syntax."""
    return _MEDIA_TYPES.get(transfer_syntax_uid, _OCTETS)


def choose_json(request: Request) -> str:
    """Choose the media type of metadata and search results.

    Raises
    ------
    Refused
        406 for XML and everything else.
    """
    for entry in accepted(request):
        if entry.media_type == "application/json":
            return "application/json"
        if entry.media_type != _MULTIPART and entry.covers("application/dicom+json"):
            return "application/dicom+json"
    raise Refused(406, "only application/dicom+json is offered here")


def choose_objects(request: Request, *, single: bool) -> Representation:
    """Choose how whole instances are sent.

    Parameters
    ----------
    request
        Whose `Accept` counts.
    single
        Whether there is exactly one, so that `application/dicom` will do.

    Returns
    -------
    Its transfer syntax is empty for "as stored", which is what a client gets that names
    none or `*`.

    Raises
    ------
    Refused
        406 if nothing fits.
    """
    for entry in accepted(request):
        if not entry.covers(_DICOM) or not (entry.multipart or single):
            continue
        syntax = entry.transfer_syntax
        return Representation(
            _DICOM, "" if syntax == "*" else syntax, multipart=entry.multipart
        )
    raise Refused(
        406, 'only multipart/related; type="application/dicom" is offered here'
    )


def choose_frames(
    request: Request, stored_syntax: str, *, single: bool
) -> Representation:
    """Choose how frames are sent: as they are stored, or decoded.

    Raises
    ------
    Refused
        406 if nothing fits.

    Source
    ------
    PS3.18 8.7.3.5 and 10.4.4.
    """
    stored_type = media_type_of_syntax(stored_syntax)
    compressed = stored_syntax not in _UNCOMPRESSED
    for entry in accepted(request):
        if not (entry.multipart or single):
            continue
        asked = entry.transfer_syntax
        as_stored = Representation(stored_type, "", multipart=entry.multipart)
        decoded = Representation(_OCTETS, EXPLICIT_LITTLE_ENDIAN, entry.multipart)
        if asked == "*" or (compressed and asked == stored_syntax):
            # A viewer asks for octets in any syntax and takes what is stored.
            if entry.covers(stored_type) or entry.covers(_OCTETS):
                return as_stored if compressed else decoded
        elif compressed and not asked and entry.covers(stored_type):
            return as_stored
        elif asked in ("", EXPLICIT_LITTLE_ENDIAN) and entry.covers(_OCTETS):
            return decoded
    raise Refused(
        406,
        f"frames are offered as {stored_type} (transfer-syntax={stored_syntax}) and "
        f"as {_OCTETS} (transfer-syntax={EXPLICIT_LITTLE_ENDIAN})",
    )


def choose_picture(request: Request) -> str:
    """Choose the media type of a rendered image.

    Raises
    ------
    Refused
        406 if neither JPEG nor PNG fits.
    """
    for entry in accepted(request):
        for offered in ("image/jpeg", "image/png"):
            if entry.covers(offered):
                return offered
    raise Refused(406, "images are rendered as image/jpeg and image/png")
