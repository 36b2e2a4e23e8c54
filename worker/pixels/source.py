"""A file or data set as an image to decode: read tolerantly, but not without bounds."""

import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread, uid
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.tag import BaseTag

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from worker.pixels.limits import PixelLimits
from worker.pixels.pixel_element import attach_pixels
from worker.pixels.quiet import quiet
from worker.pixels.refusal import refused

__all__ = ["is_big_endian", "open_image", "transfer_syntax_uid"]


def open_image(
    source: Path | Dataset, limits: PixelLimits, *, header_only: bool = False
) -> Dataset:
    """Read a file, or take a data set as it is.

    Parameters
    ----------
    source
        A PS3.10 file, with or without preamble; or a data set with its `file_meta`.
    header_only
        Leave the pixels of a file where they are.

    Raises
    ------
    UnsupportedImage
        `pixels-too-large` if the file is, `pixels-unreadable` if it is no DICOM file,
        `pixels-inconsistent` if an attribute that describes the image is malformed.
    """
    if isinstance(source, Dataset):
        dataset = source
    else:
        dataset = _read(source, limits, header_only=header_only)
    _require_parsable(dataset)
    return dataset


def _read(source: Path, limits: PixelLimits, *, header_only: bool) -> Dataset:
    # pydicom may raise nearly anything on a damaged file, and all of it means the same:
    # these bytes cannot be read.
    try:
        size = source.stat().st_size
        if size > limits.maximum_bytes:
            raise refused(
                None,
                NotAnalysedReason.PIXELS_TOO_LARGE,
                f"the file has {size} bytes, at most {limits.maximum_bytes} are read",
            )
        if _is_deflated(source):
            return _read_deflated(source, limits)
        if header_only:
            return dcmread(source, force=True, stop_before_pixels=True)
        return _read_up_to_pixels(source)
    except UnsupportedImage:
        raise
    except Exception as error:
        raise refused(
            None,
            NotAnalysedReason.PIXELS_UNREADABLE,
            f"the file cannot be read as DICOM ({type(error).__name__})",
        ) from error


def _read_up_to_pixels(path: Path) -> Dataset:
    """Read a file and leave its pixels there, behind a window (`pixel_element`)."""
    with path.open("rb") as file:
        dataset = dcmread(file, force=True, stop_before_pixels=True)
        if attach_pixels(dataset, file, path):
            return dataset
    return dcmread(path, force=True)


IMAGE_GROUPS = frozenset({0x0008, 0x0018, 0x0020, 0x0028, 0x5200, 0x7FE0})
"""Groups in which everything stands that the pixel stages ask for."""
NESTED_GROUPS = frozenset({0x0028, 0x5200})
"""Those whose sequences they ask for: look-up tables and functional groups."""


def _require_parsable(dataset: Dataset) -> None:
    """Parse every attribute that may be asked for later.

    pydicom parses a value when it is first asked for, and what it raises then depends
    on the VR; asked for here, once, no later stage has to expect it.
    """
    with quiet():  # values that only break a rule of form are read
        for tag in list(dataset.keys()):
            if tag.group in IMAGE_GROUPS:
                _parse(dataset, tag)


def _parse(dataset: Dataset, tag: BaseTag) -> None:
    try:
        element = dataset[tag]
        items = list(element.value or ()) if element.VR == "SQ" else []
        if tag.group in NESTED_GROUPS:
            for item in items:
                for nested in list(item.keys()):
                    _parse(item, nested)
    except UnsupportedImage:
        raise
    except Exception as error:
        is_sequence = dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"
        if tag.is_private or (is_sequence and tag.group not in NESTED_GROUPS):
            return
        raise refused(
            None,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            f"attribute {tag} cannot be parsed ({type(error).__name__})",
        ) from error


def transfer_syntax_uid(dataset: Dataset) -> str:
    """Tell in which transfer syntax a data set's pixels are.

    Raises
    ------
    UnsupportedImage
        `transfer-syntax-unsupported` if it does not say.
    """
    meta = getattr(dataset, "file_meta", None)
    value = None if meta is None else meta.get("TransferSyntaxUID")
    if not value:
        raise refused(
            dataset,
            NotAnalysedReason.TRANSFER_SYNTAX_UNSUPPORTED,
            "the file meta information names no Transfer Syntax UID (0002,0010)",
        )
    return str(value)


def is_big_endian(dataset: Dataset) -> bool:
    """Tell whether numbers in a data set's OW values are big endian (PS3.5 A.3)."""
    meta = getattr(dataset, "file_meta", None)
    syntax = None if meta is None else meta.get("TransferSyntaxUID")
    return bool(syntax == uid.ExplicitVRBigEndian)


_DEFLATED = uid.DeflatedExplicitVRLittleEndian.encode("ascii")
# Transfer Syntax UID (0002,0010) stands before anything that may be long (PS3.10 7.1).
_META_BYTES = 1024


def _is_deflated(path: Path) -> bool:
    # Files without preamble or meta are no deflated ones that anybody could recognise.
    with path.open("rb") as file:
        head = file.read(_META_BYTES)
    if head[128:132] != b"DICM":
        return False
    if len(head) == _META_BYTES and _DEFLATED not in head:
        return False
    syntax = read_file_meta_info(path).get("TransferSyntaxUID")
    return bool(syntax == uid.DeflatedExplicitVRLittleEndian)


def _read_deflated(path: Path, limits: PixelLimits) -> Dataset:
    """Inflate no more than the limit; pydicom would inflate whatever comes."""
    meta = read_file_meta_info(path)
    with path.open("rb") as file:
        file.seek(132)
        # PS3.10 7.1: group length counts from behind its own 12 bytes.
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        inflated = _inflate(file, limits.maximum_bytes)
    dataset = read_dataset(
        BytesIO(inflated), is_implicit_VR=False, is_little_endian=True
    )
    dataset.file_meta = meta
    return dataset


def _inflate(file: BinaryIO, maximum_bytes: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(file.read(), maximum_bytes)
    if inflater.unconsumed_tail:
        raise refused(
            None,
            NotAnalysedReason.PIXELS_TOO_LARGE,
            f"the data set inflates to more than {maximum_bytes} bytes",
        )
    return inflated
