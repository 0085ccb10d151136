"""What alembic runs for every service: its connection comes from `chassis.migrate`, its revisions from the service."""

from alembic import context
from sqlalchemy import Connection


def run() -> None:
    """Runs the wanted revisions in the transaction that the caller opened."""
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise RuntimeError("migrations are run by chassis.migrate.upgrade, not by the alembic command")
    context.configure(connection=connection, target_metadata=None, transaction_per_migration=False)
    context.run_migrations()


run()
