"""How a forgotten study leaves the log, too.

What is done with stays in its segment until new records overwrite it. Whoever forgets a
study asks here, from any process, and the node overwrites it in its next pause; if no
node runs, the next one does.
"""

from pathlib import Path

from dicom_node.durable_files import storage_errors

__all__ = ["ask_for_scrubbing", "scrubbing_is_wanted"]

_REQUEST = "scrub.request"


def ask_for_scrubbing(data_dir: Path) -> None:
    """Ask for everything in the log that is done with to be overwritten.

    Raises
    ------
    StoreFull, StoreUnavailable
        If the request cannot be written.
    """
    folder = data_dir / "log"
    with storage_errors():
        if folder.is_dir():
            (folder / _REQUEST).touch(mode=0o600)


def scrubbing_is_wanted(folder: Path) -> bool:
    """Tell whether somebody asked, and take the request.

    Parameters
    ----------
    folder
        The log's.
    """
    with storage_errors():
        try:
            (folder / _REQUEST).unlink()
        except FileNotFoundError:
            return False
    return True
