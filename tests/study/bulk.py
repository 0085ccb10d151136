"""As the mass sale of `test_chaos`, with 10,000 rows: `python -m tests.study.bulk`.

Kills orders, NATS and PostgreSQL of a platform of its own, three times each, and fails unless each row is exactly one
order and one product."""

import argparse
import tempfile
from pathlib import Path

from tests.e2e.branch import Branch
from tests.e2e.mass_sale import sell
from tests.platforms import running_platform

VICTIMS = ("orders", "nats", "postgres")


def main() -> None:
    """Prints what has come of the sale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=3, help="of each of orders, nats and postgres")
    parser.add_argument("--rate", type=int, default=200, help="orders per second at most")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="svyaz-bulk-") as directory,
        running_platform(Path(directory) / "platform") as platform,
    ):
        branch = Branch(platform)
        kills = VICTIMS * arguments.kills
        sold = sell(platform, branch, rows=arguments.rows, kills=kills, rate=arguments.rate, seconds=3600)
        branch.close()
    speed = sold.rows / sold.ordering
    print(
        f"{sold.rows:,} rows: {sold.ordered:,} ordered, {sold.orders:,} orders, {sold.products:,} products; "
        f"killed {', '.join(sold.killed)}; ordered in {sold.ordering:.0f} s ({speed:.0f} a second), "
        f"carried out {sold.fulfilling:.0f} s later"
    )
    assert sold.rows == sold.ordered == sold.orders == sold.products


if __name__ == "__main__":
    main()
