"""Alembic's environment: it runs on the connection that `ledger.migrate` opened, and reads no configuration file."""

from alembic import context

from avatar_pipeline.ledger import provider_schema, spend_schema

# Any table's metadata is everybody's, once the modules that declare tables are imported.
(metadata,) = {module.Base.metadata for module in (provider_schema, spend_schema)}

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
