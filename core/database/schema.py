"""The tables of the index.

Times are seconds since 1970 (UTC); they are shown, never compared
between hosts to decide who owns a job (that is what `lease_token` and `heartbeat` do).
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

__all__ = [
    "account",
    "assessment",
    "audit",
    "conflict",
    "content_set_instance",
    "delivery",
    "event",
    "instance",
    "invitation",
    "job",
    "metadata",
    "outbox",
    "report",
    "series",
    "session",
    "shelf",
    "study",
    "worklist",
]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_UID = String(64)
_AE_TITLE = String(16)
_SHA256 = String(64)

study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_instance_uid", _UID, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("settle_reason", String(200)),
    # Hash over the instances that the last settling found (content_set_instance).
    Column("content_set", _SHA256),
    Column("order_priority", String(16), nullable=False),
    Column("calling_ae_title", _AE_TITLE, nullable=False),
    Column("called_ae_title", _AE_TITLE, nullable=False),
    Column("peer_address", String(64), nullable=False),
    Column("instance_count", Integer, nullable=False),
    Column("first_instance_at", Double, nullable=False),
    Column("last_instance_at", Double, nullable=False),
    Column("settled_at", Double),
    # Why no job was made for a settled study, if none was.
    Column("no_job_reason", String(200)),
    Index("ix_study_state", "state"),
    Index("ix_study_last_instance_at", "last_instance_at"),
)

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("series_instance_uid", _UID, nullable=False),
    Column("modality", String(16), nullable=False),
    UniqueConstraint("study_id", "series_instance_uid"),
)

instance = Table(
    "instance",
    metadata,
    Column("id", Integer, primary_key=True),
    Column(
        "study_id",
        ForeignKey("study.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column(
        "series_id",
        ForeignKey("series.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    # Once in the table, and found by shelf and hash: see core.database.shelves.
    Column("sop_instance_uid", _UID, nullable=False),
    Column("shelf", Integer, nullable=False),
    Column("uid_hash", BigInteger, nullable=False),
    Column("sop_class_uid", _UID, nullable=False),
    Column("transfer_syntax_uid", _UID, nullable=False),
    # Of the data set as the peer sent it; also its place in the store.
    Column("sha256", _SHA256, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("is_image", Boolean, nullable=False),
    # A report of ours that came back: never a reason to read again.
    Column("own_result", Boolean, nullable=False, server_default=false()),
    Column("received_at", Double, nullable=False),
    Index("ix_instance_shelf_uid_hash", "shelf", "uid_hash"),
)

# Instances in the order of arrival, so many to a shelf.
shelf = Table(
    "shelf",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # Rows that were put on it, forgotten ones too.
    Column("filled", Integer, nullable=False),
)

conflict = Table(
    "conflict",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sop_instance_uid", _UID, nullable=False, index=True),
    Column("kept_sha256", _SHA256, nullable=False),
    Column("refused_sha256", _SHA256, nullable=False),
    Column("calling_ae_title", _AE_TITLE, nullable=False),
    Column("peer_address", String(64), nullable=False),
    Column("at", Double, nullable=False),
    UniqueConstraint("sop_instance_uid", "refused_sha256"),
)

content_set_instance = Table(
    "content_set_instance",
    metadata,
    Column("content_set", _SHA256, primary_key=True),
    Column(
        "instance_id", ForeignKey("instance.id", ondelete="CASCADE"), primary_key=True
    ),
)

job = Table(
    "job",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("model", String(64), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("bundle_sha256", _SHA256, nullable=False),
    Column("content_set", _SHA256, nullable=False),
    Column("rule", String(200), nullable=False),
    Column("destinations", JSON, nullable=False),
    Column("priority", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_token", String(32)),
    Column("heartbeat", Integer, nullable=False),
    Column("worker", String(200)),
    Column("child_pid", Integer),
    # Why the last attempt ended without a reading.
    Column("reason", String(64)),
    Column("explanation", Text),
    # core.domain.Reading as JSON, committed once.
    Column("reading", Text),
    Column("outcome", String(16)),
    Column("timings", JSON),
    # How far the report that tells of a failure is (core.lifecycle.FailureReport).
    Column("failure_report", String(16)),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("inferred_at", Double),
    Column("finished_at", Double),
    UniqueConstraint("study_id", "bundle_sha256", "content_set"),
    Index("ix_job_state", "state"),
    # Of all the jobs there ever were, the few that somebody holds. The migration says
    # the same to PostgreSQL; here it would import that dialect into every command.
    Index(
        "ix_job_lease_token",
        "lease_token",
        sqlite_where=text("lease_token IS NOT NULL"),
    ),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column(
        "job_id", ForeignKey("job.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    # `Priority.rank` of the job: urgent ones are announced first.
    Column("priority_rank", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("published_at", Double),
    Index("ix_outbox_published_at_priority_rank", "published_at", "priority_rank"),
)

report = Table(
    "report",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("document_kind", String(16), nullable=False),
    Column("sop_class_uid", _UID, nullable=False),
    Column("sop_instance_uid", _UID, nullable=False, unique=True),
    Column("series_instance_uid", _UID, nullable=False),
    # Of the whole file: these bytes are sent, each time.
    Column("sha256", _SHA256, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("predecessor_id", ForeignKey("report.id", ondelete="SET NULL")),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("job_id", "document_kind", "sop_class_uid"),
    Index("ix_report_study_id", "study_id"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("report_id", ForeignKey("report.id", ondelete="CASCADE"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("refusals", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("delivered_at", Double),
    # The peer's own words or the error of the last attempt.
    Column("last_answer", Text),
    UniqueConstraint("report_id", "destination"),
    # A destination that is away for days must not hold up looking for the others.
    Index("ix_delivery_state_destination_due_at", "state", "destination", "due_at"),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column(
        "study_id",
        ForeignKey("study.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE")),
    Column("name", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("detail", Text),
)

assessment = Table(
    "assessment",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    # From 1 for each job. The unique pair is what keeps two readers apart: both would
    # write the same next number, and only one of them can.
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("reader", String(64), nullable=False),
    # core.assessment.Assessment as JSON.
    Column("assessment", Text, nullable=False),
    Column("decided_at", Double, nullable=False),
    # Nothing of it leaves before.
    Column("undo_until", Double, nullable=False),
    UniqueConstraint("job_id", "number"),
    Index("ix_assessment_study_id", "study_id"),
)

# Who looked at what and who did what. Rows are only ever added: triggers refuse the
# rest. It outlives the study it speaks of, so it names it by UID.
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("who", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("study_instance_uid", _UID),
    Column("detail", String(200)),
    Index("ix_audit_at", "at"),
    Index("ix_audit_study_instance_uid", "study_instance_uid"),
)

account = Table(
    "account",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("login", String(64), nullable=False, unique=True),
    Column("family_name", String(64), nullable=False),
    Column("given_name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    # argon2id, with its salt and parameters in it.
    Column("password_hash", String(200), nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("created_at", Double, nullable=False),
)

# A link that makes one account, once. Only its hash is kept, as of every secret here.
invitation = Table(
    "invitation",
    metadata,
    Column("token_sha256", _SHA256, primary_key=True),
    Column("role", String(16), nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("used_at", Double),
)

session = Table(
    "session",
    metadata,
    Column("token_sha256", _SHA256, primary_key=True),
    Column(
        "account_id",
        ForeignKey("account.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("csrf_token", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    # What the worklist is narrowed to, as JSON. A name that was searched for must not
    # stand in a URL, so it stands here, until the session ends.
    Column("worklist_filter", Text),
)

# One row a study, made behind the index from its rows and from one header of the
# study; it can be made again at any time. Patient data is in it: it shows people what
# to read next. A study that is forgotten takes its row with it.
worklist = Table(
    "worklist",
    metadata,
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), primary_key=True),
    Column("study_instance_uid", _UID, nullable=False),
    Column("patient_name", Text, nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("patient_birth_date", String(16), nullable=False),
    Column("patient_sex", String(16), nullable=False),
    Column("study_date", String(16), nullable=False),
    Column("study_description", Text, nullable=False),
    Column("accession_number", Text, nullable=False),
    Column("modalities", String(64), nullable=False),
    # Everything a search looks into, folded.
    Column("search_text", Text, nullable=False),
    Column("received_at", Double, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("why", String(300), nullable=False),
    # What to read first: lower comes first.
    Column("urgency", Integer, nullable=False),
    Column("priority", String(16), nullable=False),
    Column("model", String(130), nullable=False),
    Column("finding", String(64), nullable=False),
    Column("presence", String(16), nullable=False),
    # Of the finding that counts; -1 where there is none, so that it sorts last.
    Column("probability", Double, nullable=False),
    Column("last_event_id", Integer, nullable=False),
    Index("ix_worklist_urgency_received_at", "urgency", "received_at"),
    Index("ix_worklist_received_at", "received_at"),
    Index("ix_worklist_probability", "probability"),
    Index("ix_worklist_patient_name", "patient_name"),
    Index("ix_worklist_patient_id", "patient_id"),
    Index("ix_worklist_state_urgency", "state", "urgency", "received_at"),
    # All that a search reads.
    Index("ix_worklist_search", "state", "modalities", "search_text"),
)
