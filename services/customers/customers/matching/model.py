"""What is known of one branch's records by learning, as JSON; and what entries are judged by until it is known."""

import json
from collections.abc import Mapping

import numpy as np

from customers.matching.comparison import COMPARISONS, SWAPPED
from customers.matching.linkage import REVISION, Model

# Different, related, near, the same: of one person written down twice, and of two persons drawn by lot among many.
# Set by judgement, not learned: what a branch is judged by until a search has learned its own.
_OF_ONE = (0.03, 0.02, 0.10, 0.85)
_OF_TWO: Mapping[str, tuple[float, ...]] = {
    "given_name": (0.92, 0.06, 0.008, 0.012),
    "family_name": (0.949, 0.045, 0.004, 0.002),
    "middle_name": (0.92, 0.06, 0.008, 0.012),
    "birth_date": (0.9979, 0.0015, 0.00055, 0.00005),
    "document": (0.999989, 0.000008, 0.000002, 0.000001),
    "phone": (0.999989, 0.000008, 0.000002, 0.000001),
    "email": (0.99, 0.009, 0.000999, 0.000001),
    "house": (0.97, 0.0, 0.02, 0.01),
    "street": (0.95, 0.04, 0.005, 0.005),
    "street_2": (0.95, 0.04, 0.005, 0.005),
    "city": (0.7, 0.09, 0.01, 0.2),
    "post_code": (0.9, 0.05, 0.04, 0.01),
    "state": (0.6, 0.08, 0.02, 0.3),
}
# Telephones and addresses change; names and birth dates are mended.
_CHANGING = frozenset({"phone", "email", "house", "street", "street_2", "city", "post_code", "document"})
_OF_ONE_CHANGING = (0.45, 0.02, 0.08, 0.45)
_SMALLEST = 1e-9
DEFAULT = Model(
    m={
        **{one.name: np.array(_OF_ONE_CHANGING if one.name in _CHANGING else _OF_ONE) for one in COMPARISONS},
        **{name: np.array((0.98, 0.02)) for name in SWAPPED},
    },
    u={
        **{one.name: np.array(_OF_TWO[one.name]).clip(_SMALLEST) for one in COMPARISONS},
        **{name: np.array((0.9995, 0.0005)) for name in SWAPPED},
    },
    same=1e-6,
    household=3e-6,
)


def written(model: Model) -> str:
    """The model as JSON."""
    return json.dumps(
        {
            "revision": REVISION,
            "same": model.same,
            "household": model.household,
            "m": {name: some.tolist() for name, some in model.m.items()},
            "u": {name: some.tolist() for name, some in model.u.items()},
        }
    )


def read(text: str) -> Model | None:
    """What `written` wrote; None where it was of another revision of the engine."""
    data = json.loads(text)
    if data["revision"] != REVISION:
        return None
    return Model(
        m={name: np.array(some) for name, some in data["m"].items()},
        u={name: np.array(some) for name, some in data["u"].items()},
        same=data["same"],
        household=data["household"],
    )
