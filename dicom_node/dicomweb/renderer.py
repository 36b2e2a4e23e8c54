"""Decodes pixels in a process of its own, which may die without harm.

The process is started with the first order and kept; one that dies, or takes too long,
costs its own order and is replaced with the next. What it runs is handed in as a
command, because decoding lives in another room.
"""

import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from core.domain import NotAnalysedReason
from core.errors import InvalidInstance, UnsupportedImage
from core.log import get_log
from dicom_node.query.frames import frame_count, is_encapsulated, native_frame
from dicom_node.query.stored_files import StoredHeader, read_header, read_range

__all__ = ["Renderer"]

_TIME_LIMIT_S = 60.0
_LONGEST_ANSWER = 2**31
_LONGEST_LENGTH = 0xFFFFFFFE
_PIECE = 1 << 20


class Renderer:
    """Decodes and renders frames; safe to share between threads.

    Parameters
    ----------
    command
        Starts a process that serves orders, see `worker.rendering_main`.
    time_limit_s
        Longest time for one order.
    """

    def __init__(
        self, command: Sequence[str], time_limit_s: float = _TIME_LIMIT_S
    ) -> None:
        self._command = list(command)
        self._time_limit_s = time_limit_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def picture(
        self,
        path: Path,
        frame_number: int,
        *,
        media_type: str,
        window: tuple[float, float, str] | None,
        size: tuple[int, int] | None,
        quality: int,
    ) -> bytes:
        """Render one frame.

        Raises
        ------
        UnsupportedImage
            If it cannot be shown.
        """
        return self._ordered(
            {
                "action": "picture",
                "path": str(path),
                "frame": frame_number,
                "media_type": media_type,
                "window": window,
                "size": size,
                "quality": quality,
            }
        )

    def decoded_frame(self, header: StoredHeader, frame_number: int) -> bytes:
        """Decode one frame to native pixel data in little endian.

        Raises
        ------
        UnsupportedImage
            If it cannot be decoded.
        """
        return self._ordered(
            {"action": "frame", "path": str(header.path), "frame": frame_number}
        )

    def transcoded(self, path: Path) -> Iterator[bytes]:
        """Write an instance in Explicit VR Little Endian, a frame at a time.

        What follows the pixel data (trailing padding, signatures over other bytes) is
        left out.

        Raises
        ------
        InvalidInstance, UnsupportedImage
            If it cannot be decoded.
        """
        header = read_header(path)
        frames = frame_count(header)
        first = next(self._frames(header), b"") if frames else b""
        yield _file_without_pixels(header)
        if header.pixels is None:
            return
        length = len(first) * frames
        if not is_encapsulated(header):
            length = header.pixels.length or 0
        padding = length % 2
        if length + padding > _LONGEST_LENGTH:
            raise InvalidInstance(
                "decoded, this image is longer than an element can be"
            )
        yield _element_head(header, length + padding)
        yield from self._frames(header)
        yield b"\0" * padding

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _frames(self, header: StoredHeader) -> Iterator[bytes]:
        pixels = header.pixels
        if pixels is None:
            return
        if is_encapsulated(header):
            for number in range(1, frame_count(header) + 1):
                yield self.decoded_frame(header, number)
        elif header.transfer_syntax_uid == "1.2.840.10008.1.2.2":
            for number in range(1, frame_count(header) + 1):
                yield from native_frame(header, number)
        else:
            yield from read_range(header.path, pixels.position, pixels.length)

    def _ordered(self, order: dict[str, Any]) -> bytes:
        with self._lock:
            try:
                return self._serve(order)
            except (OSError, ValueError, TimeoutError) as error:
                self._end()
                get_log().error("renderer_died", error=type(error).__name__)
                raise UnsupportedImage(
                    NotAnalysedReason.PIXELS_INCONSISTENT,
                    "the image could not be decoded: the process that tried ended",
                ) from error

    def _serve(self, order: dict[str, Any]) -> bytes:
        process = self._process
        if process is None or process.poll() is not None:
            # The command is ours, with nothing of a client in it.
            process = self._process = subprocess.Popen(  # noqa: S603
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        line = _Line(process.stdout.fileno(), time.monotonic() + self._time_limit_s)
        answer = json.loads(line.read_line())
        size = int(answer["bytes"])
        if not 0 <= size <= _LONGEST_ANSWER:
            raise ValueError("an answer of no possible size")
        if "error" in answer:
            raise UnsupportedImage(
                NotAnalysedReason.PIXELS_INCONSISTENT, str(answer["error"])
            )
        return line.read(size)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


class _Line:
    """Reads a pipe until a deadline."""

    def __init__(self, descriptor: int, deadline: float) -> None:
        self._descriptor = descriptor
        self._deadline = deadline
        self._held = b""

    def read_line(self) -> bytes:
        while b"\n" not in self._held:
            self._held += self._piece(4096)
        line, _, self._held = self._held.partition(b"\n")
        return line

    def read(self, size: int) -> bytes:
        content = bytearray(self._held)
        while len(content) < size:
            content += self._piece(min(_PIECE, size - len(content)))
        return bytes(content)

    def _piece(self, size: int) -> bytes:
        remaining = self._deadline - time.monotonic()
        ready = (
            remaining > 0 and select.select([self._descriptor], [], [], remaining)[0]
        )
        if not ready:
            raise TimeoutError
        piece = os.read(self._descriptor, size)
        if not piece:
            raise OSError("the process ended")
        return piece


def _file_without_pixels(header: StoredHeader) -> bytes:
    dataset = Dataset(header.dataset)
    if is_encapsulated(header):
        if str(dataset.get("PhotometricInterpretation", "")).startswith("YBR"):
            dataset.PhotometricInterpretation = "RGB"
        if "PlanarConfiguration" in dataset:
            dataset.PlanarConfiguration = 0
        for tag in (0x7FE00001, 0x7FE00002):  # where encapsulated frames were
            if tag in dataset:
                del dataset[tag]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    buffer = BytesIO()
    dcmwrite(
        buffer, dataset, enforce_file_format=True, implicit_vr=False, little_endian=True
    )
    return buffer.getvalue()


def _element_head(header: StoredHeader, length: int) -> bytes:
    assert header.pixels is not None
    tag = header.pixels.tag
    vr = {0x7FE00008: b"OF", 0x7FE00009: b"OD"}.get(tag, b"OW")
    return (
        (tag >> 16).to_bytes(2, "little")
        + (tag & 0xFFFF).to_bytes(2, "little")
        + vr
        + b"\0\0"
        + length.to_bytes(4, "little")
    )
