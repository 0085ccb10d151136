"""How often a customer without a contract will still buy, and for how much.

BG/NBD: purchases come at a rate λ that is gamma distributed over customers (r, α); after each purchase a customer
leaves for ever with a probability p that is beta distributed (a, b). P. S. Fader, B. G. S. Hardie and K. L. Lee,
"Counting Your Customers the Easy Way: An Alternative to the Pareto/NBD Model", Marketing Science 24 (2005), 275-284.

Gamma-gamma: what a customer spends at a time varies about a mean of his own, ν, which is gamma distributed (q, γ) over
customers. P. S. Fader, B. G. S. Hardie and K. L. Lee, "RFM and CLV: Using Iso-Value Curves for Customer Base
Analysis", Journal of Marketing Research 42 (2005), 415-430.

A customer's history is (x, t_x, T): so many repeat purchases, the last one t_x after the first, looked at T after the
first; all in one unit of time, the one that the model was fitted in.
"""

import math
from dataclasses import dataclass

from chassis.errors import InvalidArgument, Violation

# Terms of the hypergeometric series: it converges geometrically, by z, after its first few.
_MOST_TERMS = 20_000
_SMALL = 1e-14
# At a = 1 the formula is 0 / 0; so near it the value beside is as good.
_NEAR = 1e-7


@dataclass(frozen=True, kw_only=True, slots=True)
class PurchaseHistory:
    """So many repeat purchases (`frequency`), the last so long after the first (`recency`), seen so long (`age`)."""

    frequency: int
    recency: float
    age: float

    def check(self) -> None:
        """Raises InvalidArgument HISTORY_IMPOSSIBLE for one that nobody can have."""
        if not 0 <= self.recency <= self.age or self.frequency < 0 or (self.frequency == 0) != (self.recency == 0):
            why = f"{self.frequency} repeat purchases, the last at {self.recency} of {self.age}"
            raise InvalidArgument("HISTORY_IMPOSSIBLE", why, violations=[Violation("history", why)])


@dataclass(frozen=True, kw_only=True, slots=True)
class PurchaseModel:
    """The parameters of BG/NBD; all greater than 0."""

    r: float
    alpha: float
    a: float
    b: float

    def check(self) -> None:
        """Raises InvalidArgument PARAMETER_OUT_OF_RANGE."""
        wrong = [name for name in ("r", "alpha", "a", "b") if not 0 < getattr(self, name) < math.inf]
        if wrong:
            violations = [Violation(name, "not greater than 0") for name in wrong]
            raise InvalidArgument("PARAMETER_OUT_OF_RANGE", "BG/NBD has positive parameters", violations=violations)

    def alive(self, history: PurchaseHistory) -> float:
        """The probability that the customer hasn't left (Fader, Hardie 2008, "Computing P(alive) Using the BG/NBD
        Model"): 1 for somebody who hasn't bought again, since one leaves only after a purchase."""
        return 1.0 / (1.0 + self._gone(history))

    def expected(self, history: PurchaseHistory, ahead: float) -> float:
        """How often the customer will buy within the time ahead (Fader, Hardie, Lee 2005, equation 10).

        By Euler's transformation of ₂F₁, whose terms then fall, however often the customer has bought.
        """
        if ahead <= 0:
            return 0.0
        x, a = history.frequency, self.a if abs(self.a - 1) > _NEAR else 1 + _NEAR
        z = ahead / (self.alpha + history.age + ahead)
        series = _hypergeometric(a + self.b - 1 - self.r, a - 1, a + self.b + x - 1, z)
        bought = (a + self.b + x - 1) / (a - 1) * (1 - (1 - z) ** (a - 1) * series)
        return float(max(0.0, bought)) * self.alive(history)

    def _gone(self, history: PurchaseHistory) -> float:
        """The odds that the customer has left."""
        x = history.frequency
        if x == 0:
            return 0.0
        exponent = (self.r + x) * math.log((self.alpha + history.age) / (self.alpha + history.recency))
        return self.a / (self.b + x - 1) * math.exp(min(exponent, 700.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class SpendModel:
    """The parameters of gamma-gamma; all greater than 0, and q greater than 1, else the mean has no expectation."""

    p: float
    q: float
    gamma: float

    def check(self) -> None:
        """Raises InvalidArgument PARAMETER_OUT_OF_RANGE."""
        if not (0 < self.p < math.inf and 1 < self.q < math.inf and 0 < self.gamma < math.inf):
            violations = [Violation("spend", "p and gamma greater than 0, q greater than 1")]
            raise InvalidArgument("PARAMETER_OUT_OF_RANGE", "gamma-gamma has no such mean", violations=violations)

    def expected(self, purchases: int, mean: float) -> float:
        """What the customer spends at a time (Fader, Hardie, Lee 2005b, equation 5), given so many purchases of that
        mean; the mean of all customers for somebody without any."""
        return self.p * (self.gamma + purchases * mean) / (self.p * purchases + self.q - 1)


def _hypergeometric(a: float, b: float, c: float, z: float) -> float:
    """₂F₁(a, b; c; z) for 0 ≤ z < 1 by its series."""
    term = total = 1.0
    for n in range(_MOST_TERMS):
        term *= (a + n) * (b + n) / ((c + n) * (n + 1)) * z
        total += term
        if abs(term) <= _SMALL * abs(total) * (1 - z):
            break
    return total
