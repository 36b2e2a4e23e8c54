"""`python -m benchmarks.receiving.pynetdicom_handler PORT FOLDER`: decode and save.

What pynetdicom's guide shows for a storage SCP, with Explicit VR first and no log.
"""

import sys
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.events import Event

__all__ = ["main"]


def main() -> None:
    """Serve until killed."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])

    def save(event: Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        dataset.save_as(
            folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True
        )
        return 0x0000

    entity = AE()
    entity.maximum_pdu_size = 0
    for context in StoragePresentationContexts:
        entity.add_supported_context(
            context.abstract_syntax or "", ExplicitVRLittleEndian
        )
    entity.start_server(
        ("127.0.0.1", port), block=True, evt_handlers=[(evt.EVT_C_STORE, save)]
    )


if __name__ == "__main__":
    main()
