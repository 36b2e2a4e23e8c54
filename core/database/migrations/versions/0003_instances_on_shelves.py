"""Instances are found by shelf and hash of their UID; no index has random texts."""

import hashlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ROWS_OF_SHELF = 65536
_AT_ONCE = 10_000


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "shelf",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("filled", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shelf")),
    )
    op.add_column("instance", sa.Column("shelf", sa.Integer(), nullable=True))
    op.add_column("instance", sa.Column("uid_hash", sa.BigInteger(), nullable=True))
    _put_on_shelves(op.get_bind())
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_instance_sha256"))
        batch_op.drop_constraint(
            batch_op.f("uq_instance_sop_instance_uid"), type_="unique"
        )
        batch_op.alter_column("shelf", existing_type=sa.Integer(), nullable=False)
        batch_op.alter_column("uid_hash", existing_type=sa.BigInteger(), nullable=False)
        batch_op.create_index(
            "ix_instance_shelf_uid_hash", ["shelf", "uid_hash"], unique=False
        )


def _put_on_shelves(connection: sa.Connection) -> None:
    move = sa.text(
        "UPDATE instance SET shelf = :shelf, uid_hash = :hash WHERE id = :id"
    )
    count = 0
    for rows in _known(connection):
        places = [
            {
                "id": row.id,
                "shelf": (count + number) // _ROWS_OF_SHELF,
                "hash": _uid_hash(row.sop_instance_uid),
            }
            for number, row in enumerate(rows)
        ]
        connection.execute(move, places)
        count += len(rows)
    full, filled = divmod(count, _ROWS_OF_SHELF)
    shelves = [{"id": number, "filled": _ROWS_OF_SHELF} for number in range(full)]
    connection.execute(
        sa.text("INSERT INTO shelf (id, filled) VALUES (:id, :filled)"),
        [*shelves, {"id": full, "filled": filled}],
    )


def _known(connection: sa.Connection) -> Iterator[list[sa.Row[*tuple[Any, ...]]]]:
    last = 0
    query = sa.text(
        "SELECT id, sop_instance_uid FROM instance "
        "WHERE id > :last ORDER BY id LIMIT :limit"
    )
    while rows := list(connection.execute(query, {"last": last, "limit": _AT_ONCE})):
        yield rows
        last = rows[-1].id


def _uid_hash(uid: str) -> int:
    digest = hashlib.blake2b(uid.encode("ascii"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
