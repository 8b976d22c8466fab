"""Alembic's entry: runs the migrations on the connection that `opencode.storage.engine` hands over."""

from alembic import context

from opencode.storage.schema import metadata, turns

for index in turns.indexes:
    if (where := index.dialect_kwargs.get("sqlite_where")) is not None:
        index.dialect_kwargs["postgresql_where"] = where

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
