"""What stands between a network and pynetdicom: limits, deadlines and refusals.

`server` accepts connections, `connection` reads them until they are associations,
`admission` decides who may associate, `requests` refuses what cannot be served. They
use public hooks; with the limits of `data_transfer` a node can face a hostile peer.
"""

from dicom_node.guards.admission import Admission, Refusal
from dicom_node.guards.connection import guard_connection
from dicom_node.guards.quiet import quiet_pynetdicom
from dicom_node.guards.server import GuardedServer

__all__ = [
    "Admission",
    "GuardedServer",
    "Refusal",
    "guard_connection",
    "quiet_pynetdicom",
]
