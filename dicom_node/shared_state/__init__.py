"""What the processes of one node know together, in memory that a fork shares.

Listeners decide about each instance within microseconds, so they do not ask a server:
they look into the same anonymous memory map, under a lock that the kernel takes from
whoever dies with it.
"""

from dicom_node.shared_state.claims import Claims, Found
from dicom_node.shared_state.counters import Counters
from dicom_node.shared_state.lock import SharedLock
from dicom_node.shared_state.places import Places

__all__ = ["Claims", "Counters", "Found", "Places", "SharedLock"]
