"""Forgetting a study: its rows go; the caller is told which files may go too."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, select

from core.database.schema import instance, report, study

__all__ = ["ForgottenStudy", "forget_study"]


@dataclass(frozen=True)
class ForgottenStudy:
    """What may be removed from the store, once the transaction is committed."""

    instances: int
    instance_sha256s: tuple[str, ...]
    """Of those that no other study has."""
    report_sha256s: tuple[str, ...]


def forget_study(connection: Connection, study_id: int) -> ForgottenStudy:
    """Delete a study with its series, instances, jobs, reports and timeline.

    Remove the files after the commit: a file without a row is swept away one day, a row
    without its file is an error that somebody has to look at.
    """
    hashes = list(
        connection.execute(
            select(instance.c.sha256).where(instance.c.study_id == study_id)
        ).scalars()
    )
    reports = list(
        connection.execute(
            select(report.c.sha256).where(report.c.study_id == study_id)
        ).scalars()
    )
    elsewhere = instance.alias("elsewhere")
    shared = set(
        connection.execute(
            select(instance.c.sha256).where(
                instance.c.study_id == study_id,
                exists(
                    select(elsewhere.c.id).where(
                        elsewhere.c.sha256 == instance.c.sha256,
                        elsewhere.c.study_id != study_id,
                    )
                ),
            )
        ).scalars()
    )
    # The foreign keys take every dependent row along.
    connection.execute(delete(study).where(study.c.id == study_id))
    return ForgottenStudy(
        instances=len(hashes),
        instance_sha256s=tuple(sorted(set(hashes) - shared)),
        report_sha256s=tuple(sorted(set(reports))),
    )
