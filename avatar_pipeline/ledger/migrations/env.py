"""Alembic's environment: it runs on the connection that `ledger.migrate` opened, and reads no configuration file."""

from alembic import context

# Any table's metadata is everybody's; this module imports all that declare any.
from avatar_pipeline.ledger.provider_schema import LeaseRow

context.configure(
    connection=context.config.attributes["connection"], target_metadata=LeaseRow.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
