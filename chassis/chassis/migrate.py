"""Databases of services: made once (`provision`), brought to the current schema by each release (`upgrade`)."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from sqlalchemy import MetaData, NullPool, create_engine, make_url, text
from sqlalchemy.engine import URL, Engine

from chassis.schema import Xid8

if TYPE_CHECKING:
    # It takes a fifth of a service's start to import, and a service that serves doesn't migrate.
    from alembic.config import Config

# One migration waits this long for a table that a running version holds; longer would queue every request behind it.
LOCK_TIMEOUT = "5s"
# Two replicas that start at once migrate one after the other: any constant that nobody else uses will do.
MIGRATION_LOCK = 5_316_902_741

# The comment of a table of nothing but what was worked out of others, and that its service fills again by itself.
WORKED_OUT = "worked out of other tables: emptied by every upgrade that changes something"

# What was there before an upgrade may have been changed by it past everything that a service looks at, revisions too.
# Whoever is working something out has read the table before: TRUNCATE waits for him, which a DELETE wouldn't.
EMPTY_WORKED_OUT = """
DO $empty$
DECLARE
    thing record;
BEGIN
    FOR thing IN
        SELECT c.oid::regclass AS name
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
            AND obj_description(c.oid, 'pg_class') = current_setting('svyaz.worked_out')
    LOOP
        EXECUTE format('TRUNCATE %s', thing.name);
    END LOOP;
END
$empty$
"""

# Partitions are left out: a policy on the parent isn't asked when a partition is read by its own name.
GRANTS = """
DO $grants$
DECLARE
    role text := current_setting('svyaz.grantee');
    thing record;
BEGIN
    EXECUTE 'REVOKE ALL ON SCHEMA public FROM PUBLIC';
    EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', role);
    FOR thing IN
        SELECT c.oid::regclass AS name, c.relkind, c.relispartition, c.relname
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
            AND pg_has_role(c.relowner, 'USAGE')
    LOOP
        IF thing.relispartition THEN
            EXECUTE format('REVOKE ALL ON %s FROM %I', thing.name, role);
        ELSIF thing.relkind = 'S' THEN
            EXECUTE format('GRANT USAGE, SELECT ON SEQUENCE %s TO %I', thing.name, role);
        ELSIF thing.relname = 'alembic_version' THEN
            EXECUTE format('GRANT SELECT ON %s TO %I', thing.name, role);
        ELSIF thing.relname = 'event' THEN
            -- The log is only ever added to, whatever a statement of ours says.
            EXECUTE format('REVOKE ALL ON %s FROM %I', thing.name, role);
            EXECUTE format('GRANT SELECT, INSERT ON %s TO %I', thing.name, role);
        ELSE
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', thing.name, role);
        END IF;
    END LOOP;
    FOR thing IN
        SELECT p.oid::regprocedure AS name FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f' AND pg_has_role(p.proowner, 'USAGE')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', thing.name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', thing.name, role);
    END LOOP;
END
$grants$
"""


def owner_of(service: str) -> str:
    """The role that owns a service's database and migrates it."""
    return f"{service}_owner"


def login_url(admin_url: str, *, user: str, password: str, database: str) -> str:
    """The URL with which that user reaches that database of the same server."""
    # A user who is named in the query would be preferred to the one before the host.
    url = make_url(admin_url).difference_update_query(["user", "password", "dbname"])
    return _rendered(url.set(username=user, password=password, database=database))


def database_url(admin_url: str, database: str) -> str:
    """The URL with which the same user reaches another database of the same server."""
    return _rendered(make_url(admin_url).difference_update_query(["dbname"]).set(database=database))


def _rendered(url: URL) -> str:
    """The URL as both SQLAlchemy and libpq read it: the one knows no `postgres://`, the other no blank and no `+` for
    a blank."""
    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    place, mark, query = text.partition("?")
    return (place + mark + query.replace("+", "%20")).replace(" ", "%20")


class ProvisionError(Exception):
    """Somebody else's database or role has the name that one of ours should have."""


def provision(admin_url: str, service: str, *, password: str, owner_password: str, database: str = "") -> None:
    """Makes a service's two roles and its database (named like the service unless told otherwise), or renews the
    passwords where they exist; needs a superuser, or a role with CREATEDB and CREATEROLE.

    Raises ProvisionError, before it changes anything, when something else is called so.
    """
    database = database or service
    # The database that we enter by may be of any encoding; from one of none (SQL_ASCII) names would come as bytes.
    with psycopg.connect(admin_url, autocommit=True, client_encoding="utf8") as connection:
        # Several starters may provision one server at once, and CREATE ROLE has no IF NOT EXISTS.
        connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        _check_ours(connection, database, service)
        for role, secret in ((owner_of(service), owner_password), (service, password)):
            _role(connection, role, secret)
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner_of(service))))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone():
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(
                    sql.Identifier(database), sql.Identifier(owner_of(service))
                )
            )
        _only_for(connection, database, service)


def _check_ours(connection: psycopg.Connection[tuple[Any, ...]], database: str, service: str) -> None:
    owner = owner_of(service)
    found = connection.execute(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (database,)
    ).fetchone()
    if found and found[0] != owner:
        raise ProvisionError(f"the database {database!r} belongs to {found[0]!r}, not to {owner!r}")
    mighty = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND (rolsuper OR rolbypassrls)", ([owner, service],)
    ).fetchone()
    if mighty:
        raise ProvisionError(f"the role {mighty[0]!r} isn't bound by row-level security")


def _role(connection: psycopg.Connection[tuple[Any, ...]], role: str, password: str) -> None:
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    statement = (
        "ALTER ROLE {} PASSWORD {}"
        if known
        else "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD {}"
    )
    connection.execute(sql.SQL(statement).format(sql.Identifier(role), sql.Literal(password)))


def _only_for(connection: psycopg.Connection[tuple[Any, ...]], database: str, service: str) -> None:
    names = {"database": sql.Identifier(database), "role": sql.Identifier(service)}
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**names))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {database} TO {role}").format(**names))


def copy_database(admin_url: str, service: str, template: str, database: str) -> None:
    """Makes `database` a copy of `template`, to which nobody may be connected: the quick way to a migrated database."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                sql.Identifier(database), sql.Identifier(owner_of(service)), sql.Identifier(template)
            )
        )
        _only_for(connection, database, service)


def drop_database(admin_url: str, database: str) -> None:
    """Drops a database with whoever is connected to it."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


def upgrade(package: str, url: str, service_role: str) -> None:
    """Brings the database at `url` (as its owner) to the newest revisions of the chassis and of the package
    (`<package>/migrations/versions`), empties what was worked out of other tables if that changed anything, then gives
    `service_role` what it needs to read and write there, and nothing more; all in one transaction."""
    from alembic import command
    from alembic.migration import MigrationContext

    with _engine(url).begin() as connection:
        # Before the time-out is set: waiting for another replica's migration isn't waiting for a table.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.execute(text("SELECT set_config('lock_timeout', :timeout, true)"), {"timeout": LOCK_TIMEOUT})
        config = _configuration(package)
        config.attributes["connection"] = connection
        before = MigrationContext.configure(connection).get_current_heads()
        command.upgrade(config, "heads")
        if MigrationContext.configure(connection).get_current_heads() != before:
            connection.execute(text("SELECT set_config('svyaz.worked_out', :comment, true)"), {"comment": WORKED_OUT})
            connection.exec_driver_sql(EMPTY_WORKED_OUT.replace("%", "%%"))
        connection.execute(text("SELECT set_config('svyaz.grantee', :role, true)"), {"role": service_role})
        connection.exec_driver_sql(GRANTS.replace("%", "%%"))


def differences(url: str, metadata: MetaData) -> list[Any]:
    """What alembic would change to make the database at `url` equal to `metadata`; partitions don't count."""

    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def ours(_: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:
        return not (kind == "table" and reflected and compared is None and name in partitions)

    engine = _engine(url)
    engine.dialect.ischema_names = {**engine.dialect.ischema_names, "xid8": Xid8}  # type: ignore[attr-defined]
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT relname FROM pg_class WHERE relispartition AND relkind IN ('r', 'p')"))
        partitions = {row[0] for row in rows}
        context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
        return list(compare_metadata(context, metadata))


def _engine(url: str) -> Engine:
    return create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)


def _configuration(package: str) -> "Config":
    from alembic.config import Config

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{package} is not an installed package")
    chassis = Path(__file__).parent / "migrations"
    versions = [chassis / "versions", Path(spec.submodule_search_locations[0]) / "migrations" / "versions"]
    config = Config()
    options = {"script_location": str(chassis), "version_locations": "\n".join(str(folder) for folder in versions)}
    for name, value in options.items():
        # ConfigParser would take a per cent sign in a path for an interpolation.
        config.set_main_option(name, value.replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config
