"""Look through an HDF5 file of weights before a network is filled with it.

HDF5 can point at other files (external links, external storage, virtual data sets) and
can claim arrays far larger than the file; neither belongs in weights.
"""

import io
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np

from core.errors import InvalidBundle

__all__ = ["LARGEST_WEIGHTS_BYTES", "check_weights"]

LARGEST_WEIGHTS_BYTES = 2 * 2**30
# Real weights hardly compress; a small array may be all zeros.
_SMALL_BYTES, _LARGEST_RATIO = 65536, 1000


def check_weights(name: str, weights: bytes) -> None:
    """Refuse weights that are not plain, finite arrays within the file itself.

    Parameters
    ----------
    name
        How the file is called in a message.
    weights
        The bytes of the HDF5 file.

    Raises
    ------
    InvalidBundle
        With what was found and what to do.
    """
    try:
        with h5py.File(io.BytesIO(weights), "r") as root:
            _check_groups(name, root)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise InvalidBundle(
            f"{name} is not a readable HDF5 file ({error}). Save the network again or "
            "restore the file."
        ) from error


def _check_groups(name: str, root: Any) -> None:
    waiting = [root]
    while waiting:
        group = waiting.pop()
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise InvalidBundle(
                    f"{name} links elsewhere at {group.name}/{key}; weights must "
                    "lie in the file itself. Save the network again."
                )
            member = group[key]
            if isinstance(member, h5py.Group):
                waiting.append(member)
            else:
                _check_array(name, member)


def _check_array(name: str, member: Any) -> None:
    if member.external or member.is_virtual or member.dtype.kind not in "fiub":
        raise InvalidBundle(
            f"{name} holds {member.name}, which is not a plain array of numbers stored "
            "in the file. Save the network again."
        )
    stored = member.id.get_storage_size()
    inflated = member.nbytes > max(_SMALL_BYTES, _LARGEST_RATIO * stored)
    if inflated or member.nbytes > LARGEST_WEIGHTS_BYTES:
        raise InvalidBundle(
            f"{name} claims {member.nbytes} bytes for {member.name} and holds "
            f"{stored}. Save the network again or restore the file."
        )
    if member.dtype.kind == "f" and not np.isfinite(member[()]).all():
        raise InvalidBundle(
            f"{name} has values in {member.name} that are not finite (NaN or "
            "infinity). Such a network cannot answer; train it again."
        )
