"""Deliveries: one report on its way to one destination, as states that last."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.database import events
from core.database.schema import delivery, report
from core.errors import IllegalTransition
from core.lifecycle import DELIVERY_TRANSITIONS, DeliveryEvent, DeliveryState

__all__ = [
    "DeliveryRow",
    "accepted",
    "add",
    "deliveries_of_study",
    "due",
    "failed",
    "give_up",
    "hold",
    "interrupted",
    "postpone",
    "release",
    "retry",
    "start",
    "waiting_destinations",
]


@dataclass(frozen=True)
class DeliveryRow:
    """One row of the table `delivery`."""

    id: int
    report_id: int
    destination: str
    state: DeliveryState
    attempts: int
    refusals: int
    due_at: float
    created_at: float
    delivered_at: float | None
    last_answer: str | None


def add(
    connection: Connection,
    report_id: int,
    destinations: Sequence[str],
    *,
    due_at: float | None = None,
    held: bool = False,
) -> None:
    """Make a report due at each of `destinations`; a second time adds nothing.

    Parameters
    ----------
    connection
        A writing transaction.
    report_id, destinations
        What goes where.
    due_at
        Seconds since 1970, UTC, before which it does not leave; None is now.
    held
        Whether it waits for `release`.
    """
    now = time.time()
    state = DeliveryState.HELD if held else DeliveryState.WAITING
    for name in destinations:
        try:
            with connection.begin_nested():
                connection.execute(
                    insert(delivery).values(
                        report_id=report_id,
                        destination=name,
                        state=state.value,
                        attempts=0,
                        refusals=0,
                        due_at=now if due_at is None else due_at,
                        created_at=now,
                    )
                )
        except IntegrityError:
            continue  # asked for before


def due(
    connection: Connection,
    *,
    now: float,
    destination: str | None = None,
    limit: int = 100,
) -> list[DeliveryRow]:
    """Return the deliveries whose time has come, oldest first.

    Parameters
    ----------
    connection
        Where to look.
    now
        Seconds since 1970, UTC.
    destination
        Only those to this destination, so that a dead one's backlog hides no other's.
    limit
        At most so many.
    """
    conditions = [
        delivery.c.state == DeliveryState.WAITING.value,
        delivery.c.due_at <= now,
    ]
    if destination is not None:
        conditions.append(delivery.c.destination == destination)
    rows = connection.execute(
        select(delivery).where(*conditions).order_by(delivery.c.due_at).limit(limit)
    )
    return [_delivery_row(row._mapping) for row in rows]


def waiting_destinations(connection: Connection) -> set[str]:
    """Return the names that waiting deliveries go to, configured or not."""
    rows = connection.execute(
        select(delivery.c.destination)
        .where(delivery.c.state == DeliveryState.WAITING.value)
        .distinct()
    )
    return set(rows.scalars())


def deliveries_of_study(connection: Connection, study_id: int) -> list[DeliveryRow]:
    """Return the deliveries of a study's reports, oldest first."""
    rows = connection.execute(
        select(delivery)
        .join(report, report.c.id == delivery.c.report_id)
        .where(report.c.study_id == study_id)
        .order_by(delivery.c.id)
    )
    return [_delivery_row(row._mapping) for row in rows]


def start(connection: Connection, delivery_id: int) -> bool:
    """Take a delivery, counting the attempt before it is made."""
    return _apply(
        connection,
        delivery_id,
        DeliveryEvent.START,
        attempts=delivery.c.attempts + 1,
    )


def accepted(connection: Connection, delivery_id: int, *, answer: str) -> bool:
    """Note that the destination said it has the report."""
    changed = _apply(
        connection,
        delivery_id,
        DeliveryEvent.ACCEPTED,
        delivered_at=time.time(),
        last_answer=answer,
    )
    if changed:
        _note(connection, delivery_id, "delivered")
    return changed


def postpone(
    connection: Connection,
    delivery_id: int,
    *,
    due_at: float,
    answer: str,
    refused: bool = False,
) -> bool:
    """Try again at `due_at`."""
    return _apply(
        connection,
        delivery_id,
        DeliveryEvent.POSTPONE,
        due_at=due_at,
        last_answer=answer,
        refusals=delivery.c.refusals + int(refused),
    )


def failed(connection: Connection, delivery_id: int, *, answer: str) -> bool:
    """Stop trying, in sight, with the destination's last words."""
    changed = _apply(connection, delivery_id, DeliveryEvent.FAIL, last_answer=answer)
    if changed:
        _note(connection, delivery_id, "delivery failed")
    return changed


def interrupted(connection: Connection) -> int:
    """At start-up: whatever was being sent when the node died waits again."""
    result = connection.execute(
        update(delivery)
        .where(delivery.c.state == DeliveryState.SENDING.value)
        .values(
            state=DELIVERY_TRANSITIONS[
                DeliveryState.SENDING, DeliveryEvent.POSTPONE
            ].value,
            due_at=time.time(),
        )
    )
    return result.rowcount


def retry(connection: Connection, delivery_id: int) -> None:
    """Try a failed or given-up delivery again, from the beginning.

    Raises
    ------
    IllegalTransition
        If the delivery is unknown or in another state.
    """
    now = time.time()
    _must_apply(
        connection,
        delivery_id,
        DeliveryEvent.RETRY,
        due_at=now,
        created_at=now,
        attempts=0,
        refusals=0,
    )
    _note(connection, delivery_id, "delivery retried")


def give_up(connection: Connection, delivery_id: int) -> None:
    """Stop trying on an operator's word.

    Raises
    ------
    IllegalTransition
        If the delivery is unknown or in another state.
    """
    _must_apply(connection, delivery_id, DeliveryEvent.GIVE_UP)
    _note(connection, delivery_id, "delivery given up")


def release(connection: Connection, delivery_id: int, *, due_at: float) -> bool:
    """Let a held delivery leave at `due_at`."""
    return _apply(connection, delivery_id, DeliveryEvent.RELEASE, due_at=due_at)


def hold(connection: Connection, delivery_id: int) -> bool:
    """Hold a released delivery again; False if it has left."""
    return _apply(connection, delivery_id, DeliveryEvent.HOLD)


def _delivery_row(mapping: Mapping[Any, Any]) -> DeliveryRow:
    values = dict(mapping)
    values["state"] = DeliveryState(values["state"])
    return DeliveryRow(**values)


def _apply(
    connection: Connection, delivery_id: int, event: DeliveryEvent, **values: object
) -> bool:
    for (before, known), after in DELIVERY_TRANSITIONS.items():
        if known is not event:
            continue
        result = connection.execute(
            update(delivery)
            .where(delivery.c.id == delivery_id, delivery.c.state == before.value)
            .values(state=after.value, **values)
        )
        if result.rowcount == 1:
            return True
    return False


def _must_apply(
    connection: Connection, delivery_id: int, event: DeliveryEvent, **values: object
) -> None:
    if _apply(connection, delivery_id, event, **values):
        return
    state = connection.execute(
        select(delivery.c.state).where(delivery.c.id == delivery_id)
    ).scalar()
    raise IllegalTransition(
        f"delivery {delivery_id} {f'is {state}' if state else 'does not exist'}; "
        f"{event.value!r} is not possible and nothing was changed"
    )


def _note(connection: Connection, delivery_id: int, name: str) -> None:
    row = connection.execute(
        select(report.c.study_id, report.c.job_id, delivery.c.destination)
        .join(report, report.c.id == delivery.c.report_id)
        .where(delivery.c.id == delivery_id)
    ).one()
    events.record(
        connection, row.study_id, name, job_id=row.job_id, detail=row.destination
    )
