"""At start-up: every row has its file, and every file its row."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import select

from core.database.engine import Database
from core.database.schema import instance, report
from core.database.studies import Recorded, record_instances
from core.errors import InvalidInstance
from core.log import get_log
from core.received import ReceivedInstance
from dicom_node.inbox import read_entry
from dicom_node.instance_store import InstanceStore

__all__ = ["Reconciliation", "reconcile"]

_BATCH = 500


@dataclass(frozen=True)
class Reconciliation:
    """What was found. Each tuple holds SHA-256s."""

    adopted: tuple[str, ...]
    """Instances without a row that have one now."""
    removed: tuple[str, ...]
    """Objects whose instance is kept with other content."""
    unreadable: tuple[str, ...]
    """Objects without a row that could not be read; they stay where they are."""
    missing: tuple[str, ...]
    """Instances with a row and without a file: restore them from a backup."""
    missing_reports: tuple[str, ...]
    """Reports with a row and without a file."""


def reconcile(
    database: Database, store: InstanceStore, *, passing: Collection[str] = ()
) -> Reconciliation:
    """Compare the index with the store, repair what can be repaired, tell the rest.

    Must run while nobody writes instances.

    Parameters
    ----------
    database, store
        What is compared.
    passing
        SHA-256s of instances that are on their way to both.

    Raises
    ------
    StoreUnavailable
        If index or store cannot be read.
    """
    with database.read() as connection:
        rows = set(connection.execute(select(instance.c.sha256)).scalars())
        reports = set(connection.execute(select(report.c.sha256)).scalars())
    files = set(store.objects())
    rows -= set(passing)
    files -= set(passing)
    adopted, removed, unreadable = _adopt(database, store, sorted(files - rows))
    found = Reconciliation(
        adopted=adopted,
        removed=removed,
        unreadable=unreadable,
        missing=tuple(sorted(rows - files)),
        missing_reports=tuple(
            sorted(name for name in reports if not store.report_path(name).exists())
        ),
    )
    for event, names in vars(found).items():
        if names:
            get_log().error(
                "store_reconciled", action=event, count=len(names), name=names[0]
            )
    return found


def _adopt(
    database: Database, store: InstanceStore, names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    outcomes: dict[str, Recorded | None] = {}
    for start in range(0, len(names), _BATCH):
        readable: dict[str, ReceivedInstance] = {}
        for name in names[start : start + _BATCH]:
            outcomes[name] = None
            with suppress(InvalidInstance):
                readable[name] = read_entry(store.path_of(name)).instance
        with database.write() as connection:
            recorded = record_instances(connection, list(readable.values()))
        outcomes |= zip(readable, recorded, strict=True)
    removed = tuple(n for n, o in outcomes.items() if o is Recorded.CONFLICT)
    store.remove(removed)
    return (
        tuple(
            n for n, o in outcomes.items() if o in (Recorded.NEW, Recorded.DUPLICATE)
        ),
        removed,
        tuple(n for n, o in outcomes.items() if o is None),
    )
