"""What a check finds: a number, and the limits that it must keep."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

V = TypeVar("V")

ROUNDING, ROUNDING_64 = 1e-4, 1e-6  # of the largest component; the wider one leaves room for differences of float32


class Finding(NamedTuple):
    """A number, and what it must be: `least` <= number <= `most`; `error` where there is none.

    A name that the check has no formula for is `unchecked`.
    """

    what: str
    number: float
    least: float = -math.inf
    most: float = math.inf
    error: str = ""
    unchecked: bool = False

    @property
    def passed(self) -> bool:
        return self.unchecked or bool(self.least <= self.number <= self.most)  # never of NaN


def violation(what: str, violated: bool, found: str) -> Finding:
    """A rule that is kept or not: 0 or 1, and where it is not, what was found."""
    return Finding(what, float(violated), most=0, error=found if violated else "")


# the names that an area of the check goes over, and its check
Area = tuple[Iterable[str], Callable[[str], Iterator[Finding]]]


class Unknown(Exception):
    """What the check does not have for a name."""


def known(what: str, name: str, table: Mapping[str, V]) -> V:
    """The entry of a table of formulas. Raises Unknown where it has none."""
    if name not in table:
        raise Unknown(what)
    return table[name]
