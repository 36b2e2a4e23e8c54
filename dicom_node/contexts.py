"""What the node offers: SOP classes and transfer syntaxes.

An acceptor may know any number of contexts; the limit of 128 is the requestor's.
"""

from collections.abc import Iterable
from functools import lru_cache

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import (
    NonPatientObjectStorageServiceClass,
    StorageServiceClass,
)
from pynetdicom.sop_class import (
    _STORAGE_CLASSES,
    register_uid,
    uid_to_service_class,
)

__all__ = [
    "QUERY_RETRIEVE_CLASSES",
    "VERIFICATION",
    "storage_sop_classes",
    "supported_contexts",
    "transfer_syntaxes",
]

VERIFICATION = "1.2.840.10008.1.1"
# PS3.4 C.6: Patient Root and Study Root, each FIND, MOVE and GET.
QUERY_RETRIEVE_CLASSES = (
    "1.2.840.10008.5.1.4.1.2.1.1",
    "1.2.840.10008.5.1.4.1.2.1.2",
    "1.2.840.10008.5.1.4.1.2.1.3",
    "1.2.840.10008.5.1.4.1.2.2.1",
    "1.2.840.10008.5.1.4.1.2.2.2",
    "1.2.840.10008.5.1.4.1.2.2.3",
)

# The acceptor takes the first of its own list that the peer proposes. Explicit VR is
# first: it says what its elements are. Uncompressed before compressed: who offers both
# holds the uncompressed one, or would not offer it.
_FIRST = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
)
_NOT_OFFERED = frozenset(
    {
        # Deflated: 254 KiB may become 256 MiB.
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.4.205",
        "1.2.840.10008.1.2.8.1",
        # No data sets: MIME and XML encapsulation, Papyrus, real-time video streams.
        "1.2.840.10008.1.2.6.1",
        "1.2.840.10008.1.2.6.2",
        "1.2.840.10008.1.20",
        "1.2.840.10008.1.2.7.1",
        "1.2.840.10008.1.2.7.2",
        "1.2.840.10008.1.2.7.3",
    }
)


@lru_cache(maxsize=1)
def transfer_syntaxes() -> tuple[str, ...]:
    """List every transfer syntax of the standard's dictionary that is accepted.

    Source
    ------
    PS3.6 Annex A; PS3.5 Annex A.
    """
    known = (
        uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"
    )
    return (*_FIRST, *(uid for uid in known if uid not in {*_FIRST, *_NOT_OFFERED}))


@lru_cache(maxsize=1)
def storage_sop_classes() -> tuple[str, ...]:
    """List every SOP class of the Storage Service Class, the retired ones included.

    Objects without a patient (hanging protocols, color palettes, implant templates …)
    belong to a service class of their own and to no study, so they are not among them.

    Source
    ------
    PS3.6 Annex A; PS3.4 B.5 and GG.3.
    """
    in_dictionary = (
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class"
        and "Storage" in name
        and not name.startswith(("Storage Commitment", "Media Storage Directory"))
        and uid_to_service_class(uid) is not NonPatientObjectStorageServiceClass
    )
    # Either library knows classes that the other one does not know yet.
    return tuple(dict.fromkeys((*in_dictionary, *_STORAGE_CLASSES.values())))


class _SharedContexts(list[PresentationContext]):
    """Contexts that pynetdicom copies for each association; nobody changes them.

    Copying two hundred of them with fifty syntaxes each takes longer than all else
    that an association needs.
    """

    def __deepcopy__(self, _memo: dict[int, object]) -> "_SharedContexts":
        return self


def supported_contexts(private_sop_classes: Iterable[str]) -> list[PresentationContext]:
    """Build what an acceptor supports: verification, storage, query and retrieve.

    In storage contexts either role may be taken: a peer that asks for a C-GET wants to
    be the SCP of what it gets (PS3.4 C.4.3).

    Parameters
    ----------
    private_sop_classes
        UIDs of further storage classes, a vendor's own.
    """
    syntaxes: list[str | UID] = [UID(uid) for uid in transfer_syntaxes()]
    classes = dict.fromkeys((*storage_sop_classes(), *private_sop_classes))
    for uid in classes:
        if not issubclass(uid_to_service_class(uid), StorageServiceClass):
            # Retired and private classes that pynetdicom does not know.
            register_uid(uid, f"Storage_{uid.replace('.', '_')}", StorageServiceClass)
    return _SharedContexts(
        [
            build_context(VERIFICATION, syntaxes[:3]),
            *(build_context(uid, syntaxes[:3]) for uid in QUERY_RETRIEVE_CLASSES),
            *(_in_either_role(build_context(uid, syntaxes)) for uid in classes),
        ]
    )


def _in_either_role(context: PresentationContext) -> PresentationContext:
    context.scu_role = context.scp_role = True
    return context
