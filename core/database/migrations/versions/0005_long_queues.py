"""Queues of ten thousand jobs cost what queues of ten do."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_RANKS = (
    "CASE priority WHEN 'stat' THEN 0 WHEN 'high' THEN 1 WHEN 'low' THEN 3 ELSE 2 END"
)


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.add_column("outbox", sa.Column("priority_rank", sa.Integer(), nullable=True))
    op.execute(
        f"UPDATE outbox SET priority_rank = "  # noqa: S608 - a constant
        f"(SELECT {_RANKS} FROM job WHERE job.id = outbox.job_id)"
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.alter_column(
            "priority_rank", existing_type=sa.Integer(), nullable=False
        )
        batch_op.drop_index("ix_outbox_published_at")
        batch_op.create_index(
            "ix_outbox_published_at_priority_rank",
            ["published_at", "priority_rank"],
            unique=False,
        )
    op.create_index(
        "ix_job_lease_token",
        "job",
        ["lease_token"],
        sqlite_where=sa.text("lease_token IS NOT NULL"),
        postgresql_where=sa.text("lease_token IS NOT NULL"),
    )
    op.drop_index("ix_delivery_state_due_at", "delivery")
    op.create_index(
        "ix_delivery_state_destination_due_at",
        "delivery",
        ["state", "destination", "due_at"],
    )
