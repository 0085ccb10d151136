"""Tables of templates, and of which offering each cell of a template's grid has become."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from catalog.generation.domain import GenerationState, TariffTemplate
from catalog.product.store import any_of
from catalog.schema import metadata
from chassis.connections import Conflict
from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from svyaz.catalog.v1 import generation_pb2

tariff_template = aggregate_table(metadata, "tariff_template", TariffTemplate)
generated_offering = sa.Table(
    "generated_offering",
    metadata,
    sa.Column("template_id", sa.Text, primary_key=True),
    sa.Column("cell", sa.Text, primary_key=True),
    # The newest version.
    sa.Column("offering_id", sa.Text, nullable=False),
    # Index of the template's price → id.
    sa.Column("price", JSONB, nullable=False),
    # Of what the template said of the cell.
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("retirement_proposed", sa.Boolean, nullable=False),
)

# How far a family is that is written by steps: the latest time of each template.
tariff_generation = sa.Table(
    "tariff_generation",
    metadata,
    sa.Column("template_id", sa.Text, primary_key=True),
    # Of the template that it follows from.
    sa.Column("template_revision", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    # Cells, in the order of `plan.order`.
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("done", sa.BigInteger, nullable=False),
    sa.Column("error", sa.Text),
)

# The catalog is common to all branches.
RESOURCES: Mapping[type[Aggregate], Resource] = {
    TariffTemplate: Resource(generation_pb2.TariffTemplate, tariff_template, common=True),
}


@dataclass(slots=True)
class Member:
    """What a cell has become."""

    offering_id: str
    digest: str
    prices: dict[int, str] = field(default_factory=dict)
    retirement_proposed: bool = False


@dataclass(slots=True)
class Generation:
    """How far a family is that is written by steps."""

    template_id: str
    revision: int
    state: GenerationState
    requested_by: str
    total: int
    done: int = 0
    error: str | None = None


def generation(unit: Unit, template_id: str) -> Generation | None:
    """The latest of the template; None: none was written by steps."""
    table = tariff_generation
    row = unit.session.execute(sa.select(table).where(table.c.template_id == template_id)).one_or_none()
    if row is None:
        return None
    return Generation(
        row.template_id,
        row.template_revision,
        GenerationState(row.state),
        row.requested_by,
        row.total,
        row.done,
        row.error,
    )


def keep_generation(unit: Unit, made: Generation) -> None:
    """Keeps how far it is, with the unit's next flush."""
    unit.later(
        """
        INSERT INTO tariff_generation (template_id, template_revision, state, requested_by, total, done, error)
        VALUES (%(template_id)s, %(revision)s, %(state)s, %(requested_by)s, %(total)s, %(done)s, %(error)s)
        ON CONFLICT (template_id) DO UPDATE SET template_revision = excluded.template_revision,
            state = excluded.state, requested_by = excluded.requested_by, total = excluded.total,
            done = excluded.done, error = excluded.error
        """,
        {**asdict(made), "state": str(made.state)},
    )


def keys(unit: Unit, template_id: str) -> list[str]:
    """The cells that have become something, in order."""
    table = generated_offering
    return list(
        unit.session.scalars(sa.select(table.c.cell).where(table.c.template_id == template_id).order_by(table.c.cell))
    )


def members(unit: Unit, template_id: str, cells: Sequence[str] | None = None) -> dict[str, Member]:
    """Cell → what it has become; None: all of them."""
    table = generated_offering
    wanted = [table.c.template_id == template_id]
    if cells is not None:
        wanted.append(table.c.cell == any_of(cells))
    rows = unit.session.execute(sa.select(table).where(*wanted).order_by(table.c.cell))
    return {
        row.cell: Member(
            row.offering_id,
            row.digest,
            {int(index): key for index, key in json.loads(row.price).items()},
            row.retirement_proposed,
        )
        for row in rows
    }


def keep(unit: Unit, template_id: str, cells: Mapping[str, Member]) -> None:
    """Remembers what the cells have become."""
    if not cells:
        return
    table = generated_offering
    statement = insert(table)
    changed = {name: statement.excluded[name] for name in ("offering_id", "price", "digest", "retirement_proposed")}
    unit.session.execute(
        statement.on_conflict_do_update(index_elements=["template_id", "cell"], set_=changed),
        [
            {
                "template_id": template_id,
                "cell": cell,
                "offering_id": member.offering_id,
                "price": json.dumps({str(index): key for index, key in member.prices.items()}),
                "digest": member.digest,
                "retirement_proposed": member.retirement_proposed,
            }
            for cell, member in cells.items()
        ],
    )


def check_unchanged(unit: Unit, template: TariffTemplate) -> None:
    """Raises Conflict when somebody has changed the template since the unit has loaded it; nobody will before the end
    of the transaction, nor delete it."""
    table = tariff_template
    current = sa.select(table.c.revision).where(table.c.id == template.id).with_for_update(read=True)
    revision = unit.session.scalar(current)
    if revision != template.revision:
        raise Conflict


def forget(unit: Unit, template_id: str) -> None:
    """Forgets the family of a template that is going to be deleted; its offerings stay what they are."""
    template = tariff_template
    # Whoever is writing some of it holds the template, and is waited for.
    unit.session.execute(sa.select(template.c.id).where(template.c.id == template_id).with_for_update())
    for table in (generated_offering, tariff_generation):
        unit.session.execute(sa.delete(table).where(table.c.template_id == template_id))
