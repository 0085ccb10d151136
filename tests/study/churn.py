"""How well leavers are told, out of sample: `python -m tests.study.churn [--seeds 5]` prints a JSON line for each
seed and set.

Each customer is scored by a model that has seen neither him nor anything learnt from him; the mean of the seeds counts.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from svyaz_cli.training import churn
from svyaz_cli.training.table import Table, of_file

SHARED = Path(os.environ.get("SVYAZ_SHARED", Path(__file__).parents[2].parent / "shared"))
GOALS: Mapping[str, Mapping[str, float]] = {
    "churn_ibm_telco": {"auc": 0.845, "top_20_percent": 0.505},
    "churn_bigml": {"auc": 0.915},
}


def table_of(name: str, shared: Path = SHARED) -> Table:
    """The set's examples; the bill of the second is what its four charges make together."""
    if name == "churn_ibm_telco":
        path = shared / "data" / name / "WA_Fn-UseC_-Telco-Customer-Churn.csv"
        return of_file(path, "Churn", texts=["SeniorCitizen"], sums={})
    charges = [f"total_{part}_charge" for part in ("day", "eve", "night", "intl")]
    path = shared / "data" / name / "train.csv"
    return of_file(path, "churn", texts=["area_code"], sums={"bill": charges})


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", choices=GOALS, action="append", help="only this one; may be repeated")
    given = parser.parse_args(arguments)
    seeds = given.seeds
    for name in given.set or GOALS:
        goals = GOALS[name]
        table = table_of(name)
        judged = []
        for seed in range(seeds):
            one = churn.judge(table, seed)
            judged.append(one)
            print(json.dumps({"set": name, "seed": seed, "auc": one.auc, "top_20_percent": one.top}), flush=True)
        figures = {
            "set": name,
            "customers": len(table),
            "left_out": dict(table.left_out),
            "auc": round(float(np.mean([one.auc for one in judged])), 4),
            "auc_by_seed": [round(one.auc, 4) for one in judged],
            "top_20_percent": round(float(np.mean([one.top for one in judged])), 4),
            "brier": round(float(np.mean([one.brier for one in judged])), 4),
            "shuffled_auc": round(churn.shuffled(table, 0), 4),
            "goals": goals,
        }
        figures["met"] = all(figures[goal] >= least for goal, least in goals.items())  # type: ignore[operator]
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
