"""Books, one of them in a partition, and a function that counts them."""

from alembic import op

revision = "shelf_0001"
down_revision = None
branch_labels = ("shelf",)
depends_on = "chassis_0001"


def upgrade() -> None:
    op.execute("CREATE TABLE book (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL)")
    op.execute("CREATE TABLE loan (id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at)")
    op.execute("CREATE TABLE loan_2026 PARTITION OF loan FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')")
    op.execute("CREATE FUNCTION books() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM book'")
