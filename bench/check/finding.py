"""What a check finds: a number, and the limits that it must keep."""

import math
from typing import NamedTuple

ROUNDING, ROUNDING_64 = 1e-4, 1e-6  # of the largest component; the wider one leaves room for differences of float32


class Finding(NamedTuple):
    """A number, and what it must be: `least` <= number <= `most`; `error` where there is none."""

    what: str
    number: float
    least: float = -math.inf
    most: float = math.inf
    error: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.least <= self.number <= self.most)  # never of NaN
