"""Runs the migrations on the connection that `core.database.engine` hands over."""

from alembic import context

import core.database.access_tokens
import core.database.catalogue  # noqa: F401 - their tables belong to the metadata
from core.database.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
