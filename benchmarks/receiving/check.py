"""A run counts only if all that was answered is kept, and kept as it was sent."""

import random
import time
from io import BytesIO

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.harness.instances import Studies
from benchmarks.receiving.peers import Kept, Receiver
from benchmarks.receiving.wire import data_set_of

__all__ = ["check_kept"]

_SAMPLE = 5


def check_kept(receiver: Receiver, studies: Studies, *, within_s: float = 60.0) -> None:
    """Compare what a receiver keeps with what it was sent.

    All instances are counted; some are compared with their source: the transfer syntax,
    and each byte or each element of the data set.

    Raises
    ------
    RuntimeError
        If something is missing, too much or different.
    """
    kept = _when_complete(receiver, studies.count, within_s)
    for read in random.sample(kept, min(_SAMPLE, len(kept))):
        _compare(read(), studies, exact=receiver.exact)


def _when_complete(receiver: Receiver, count: int, within_s: float) -> list[Kept]:
    """Wait for what is written behind the answers."""
    deadline = time.monotonic() + within_s
    while True:
        kept = receiver.kept()
        if len(kept) == count:
            return kept
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{count} instances were answered Success and {len(kept)} are kept; "
                f"see {receiver.program.log}"
            )
        time.sleep(0.2)


def _compare(file: bytes, studies: Studies, *, exact: bool) -> None:
    found = dcmread(BytesIO(file))
    uid, syntax = found.SOPInstanceUID, found.file_meta.TransferSyntaxUID
    if syntax != ExplicitVRLittleEndian:
        raise RuntimeError(f"instance {uid} came in {syntax}, not in Explicit VR")
    source = studies.sources[str(uid)].read_bytes()
    if data_set_of(file) == data_set_of(source):
        return
    if exact or found != dcmread(BytesIO(source)):
        raise RuntimeError(f"instance {uid} is not kept as it was sent")
