"""The catalogue that queries read, and the tokens of machine clients."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "catalogue_study",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("study_date", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["study.id"],
            name=op.f("fk_catalogue_study_study_id_study"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_catalogue_study")),
        sa.UniqueConstraint(
            "study_instance_uid", name=op.f("uq_catalogue_study_study_instance_uid")
        ),
    )
    for column in ("patient_id", "study_date", "accession_number"):
        op.create_index(
            op.f(f"ix_catalogue_study_{column}"), "catalogue_study", [column]
        )
    op.create_table(
        "catalogue_series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["study.id"],
            name=op.f("fk_catalogue_series_study_id_study"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalogue_series")),
        sa.UniqueConstraint(
            "study_id",
            "series_instance_uid",
            name=op.f("uq_catalogue_series_study_id_series_instance_uid"),
        ),
    )
    op.create_index(
        op.f("ix_catalogue_series_series_instance_uid"),
        "catalogue_series",
        ["series_instance_uid"],
    )
    op.create_index(
        "ix_catalogue_series_modality_study_id",
        "catalogue_series",
        ["modality", "study_id"],
    )
    op.create_table(
        "access_token",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_token")),
        sa.UniqueConstraint("name", name=op.f("uq_access_token_name")),
        sa.UniqueConstraint("sha256", name=op.f("uq_access_token_sha256")),
    )
