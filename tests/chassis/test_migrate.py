"""Databases: who may do what in them once they are provisioned and migrated."""

from collections.abc import Callable
from pathlib import Path
from typing import LiteralString
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import BigInteger, Column, Identity, MetaData, Table, Text, make_url

from chassis import migrate
from tests.conftest import ServiceDatabase

SHELF = "tests.chassis.shelf"


@pytest.fixture(scope="module")
def shelf(database_for: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    return database_for("shelf", SHELF)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO book (title) VALUES ('Manas')",
        "UPDATE book SET title = 'Semetey'",
        "DELETE FROM book",
        "SELECT books()",
        "SELECT * FROM loan",
        "SELECT * FROM alembic_version",
    ],
)
def test_the_service_role_reads_and_writes_its_tables(shelf: ServiceDatabase, statement: str) -> None:
    with psycopg.connect(shelf.url) as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "ALTER TABLE book ADD COLUMN x int",
        "DROP TABLE book",
        "TRUNCATE book",
        "UPDATE alembic_version SET version_num = '0'",
        "SELECT * FROM loan_2026",
        "SET ROLE shelf_owner",
        "CREATE ROLE other",
    ],
)
def test_the_service_role_changes_no_schema_and_reads_no_partition(shelf: ServiceDatabase, statement: str) -> None:
    with psycopg.connect(shelf.url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_the_service_role_cannot_bypass_policies_and_owns_nothing(shelf: ServiceDatabase) -> None:
    with psycopg.connect(shelf.admin_url) as connection:
        roles = connection.execute("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname LIKE 'shelf%'").fetchall()
        owned = connection.execute("SELECT 1 FROM pg_class WHERE relowner = 'shelf'::regrole").fetchall()
    assert roles == [(False, False), (False, False)]
    assert owned == []


def test_another_services_role_cannot_connect(
    shelf: ServiceDatabase, database_for: Callable[..., ServiceDatabase]
) -> None:
    stranger = database_for("stranger", "")
    url = migrate.login_url(stranger.admin_url, user="stranger", password="test", database=shelf.name)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(url)


def test_provisioning_and_upgrading_again_change_nothing(shelf: ServiceDatabase) -> None:
    migrate.provision(shelf.admin_url, "shelf", password="test", owner_password="test", database=shelf.name)
    migrate.upgrade(SHELF, shelf.owner_url, "shelf")
    with psycopg.connect(shelf.url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("shelf_0001",)]


def test_a_database_of_somebody_else_is_not_taken_over(shelf: ServiceDatabase) -> None:
    with psycopg.connect(shelf.admin_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE theirs")
        before = connection.execute("SELECT datacl FROM pg_database WHERE datname = 'theirs'").fetchone()
        with pytest.raises(migrate.ProvisionError, match="'theirs' belongs to 'postgres', not to 'theirs_owner'"):
            migrate.provision(shelf.admin_url, "theirs", password="test", owner_password="test")
        assert connection.execute("SELECT datacl FROM pg_database WHERE datname = 'theirs'").fetchone() == before
        assert connection.execute("SELECT 1 FROM pg_roles WHERE rolname LIKE 'theirs%'").fetchall() == []


@pytest.mark.parametrize("right", ["SUPERUSER", "BYPASSRLS"])
def test_a_role_that_no_policy_binds_is_not_used(shelf: ServiceDatabase, right: LiteralString) -> None:
    role = f"mighty_{right.lower()}"
    with psycopg.connect(shelf.admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(role), sql.SQL(right)))
    with pytest.raises(migrate.ProvisionError, match=f"'{role}' isn't bound by row-level security"):
        migrate.provision(shelf.admin_url, role, password="test", owner_password="test")


@pytest.mark.parametrize(
    "admin_url",
    [
        "postgres://chief:p%40ss@127.0.0.1:5433/postgres?sslmode=disable",
        "postgresql://127.0.0.1:5433/postgres?user=chief&password=p%40ss&sslmode=disable",
        "postgresql+psycopg://chief@127.0.0.1:5433?dbname=postgres&sslmode=disable",
    ],
)
def test_a_login_leads_to_the_same_server_however_its_url_is_spelled(admin_url: str) -> None:
    url = migrate.login_url(admin_url, user="shelf", password="a-b_c", database="shelf")
    assert url == "postgresql://shelf:a-b_c@127.0.0.1:5433/shelf?sslmode=disable"


def test_a_login_through_a_socket_in_a_folder_with_a_blank_is_understood_by_the_driver() -> None:
    url = migrate.login_url("postgresql:///postgres?host=/my folder&port=5433", user="u", password="p", database="d")
    assert conninfo_to_dict(url)["host"] == make_url(url).query["host"] == "/my folder"


def test_a_password_of_any_characters_survives_the_change_of_the_database() -> None:
    password = "p@ss/w:rd% +?ф"
    url = migrate.database_url(f"postgres://chief:{quote(password, safe='')}@127.0.0.1/postgres", "shelf")
    assert conninfo_to_dict(url)["password"] == make_url(url).password == password


def test_differences_name_what_the_metadata_has_and_the_database_has_not(shelf: ServiceDatabase) -> None:
    metadata = MetaData()
    Table("book", metadata, Column("id", BigInteger, Identity(always=True), primary_key=True), Column("isbn", Text))
    found = [(difference[0], difference[-1].name) for difference in migrate.differences(shelf.owner_url, metadata)]
    assert ("add_column", "isbn") in found
    assert ("remove_column", "title") in found
    assert ("remove_table", "loan_2026") not in found


def test_a_package_that_is_not_installed_is_named(shelf: ServiceDatabase) -> None:
    with pytest.raises(ValueError, match="nowhere is not an installed package"):
        migrate.upgrade("nowhere", shelf.owner_url, "shelf")


_REVISION = """
from alembic import op

revision, down_revision, branch_labels, depends_on = {revision!r}, {before!r}, None, None


def upgrade() -> None:
    op.execute({statement!r})
"""


def test_what_was_worked_out_of_other_tables_is_emptied_when_these_may_have_changed(
    database_for: Callable[..., ServiceDatabase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = database_for("shelf", "")
    versions = tmp_path / "reckoning" / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "reckoning" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def release(revision: str, before: str | None, statement: str) -> None:
        (versions / f"{revision}.py").write_text(
            _REVISION.format(revision=revision, before=before, statement=statement)
        )

    def rows() -> tuple[int, int] | None:
        with psycopg.connect(database.url) as connection:
            return connection.execute("SELECT (SELECT count(*) FROM price), (SELECT count(*) FROM total)").fetchone()

    release(
        "reckoning_0001",
        None,
        "CREATE TABLE price (amount int); CREATE TABLE total (amount int);"
        f" COMMENT ON TABLE total IS '{migrate.WORKED_OUT}'",
    )
    migrate.upgrade("reckoning", database.owner_url, "shelf")
    with psycopg.connect(database.url) as connection:
        connection.execute("INSERT INTO price VALUES (1)")
        connection.execute("INSERT INTO total VALUES (1)")
    # Nothing to do: the next start needn't work it out anew.
    migrate.upgrade("reckoning", database.owner_url, "shelf")
    assert rows() == (1, 1)
    release("reckoning_0002", "reckoning_0001", "UPDATE price SET amount = 2")
    migrate.upgrade("reckoning", database.owner_url, "shelf")
    assert rows() == (1, 0)
