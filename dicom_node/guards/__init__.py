"""What stands between a network and pynetdicom: limits, deadlines and refusals.

`server` accepts connections, `connection` reads them, `messages` looks at what passes,
`admission` decides who may associate, `requests` answers what pynetdicom would ignore.
All of them use public hooks; together they are what lets a node face a hostile peer.
"""

from dicom_node.guards.admission import Admission, Refusal
from dicom_node.guards.connection import guard_connection
from dicom_node.guards.quiet import quiet_pynetdicom
from dicom_node.guards.requests import answer_unusable_request
from dicom_node.guards.server import GuardedServer

__all__ = [
    "Admission",
    "GuardedServer",
    "Refusal",
    "answer_unusable_request",
    "guard_connection",
    "quiet_pynetdicom",
]
