"""Alembic's environment: it runs on the connection that `ledger.migrate` opened, and reads no configuration file."""

from alembic import context

from avatar_pipeline.ledger.schema import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
