"""Whether two texts say the same but for the last digit of numbers, as pages made on two machines do."""

import base64
import io
import itertools
import re
from decimal import Decimal

import numpy as np
from PIL import Image

NUMBER = re.compile(
    r"""(?:(?<![\w.#&-])|(?<=[\d"\s][ML]))  # a word of its own, or a coordinate of a path
    (-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?)
    (?:(?!\w|\.\d)|(?=L[\d-]))""",
    re.VERBOSE,
)
PICTURE = re.compile(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")
# of a figure, what matplotlib names by the hash of its coordinates: markers, paths that clip, hatches and collections
IDENTITY = re.compile(r"([\w-]*-)([mph][0-9a-f]{10}|C[0-9a-f]+_[0-9a-f]+_[0-9a-f]{10})\b")
ROUNDING = 1e-9  # relative: sums of 1e6 terms in float64, where all 16 digits are printed
LEVELS = 1  # of 255, of a pixel


def difference(expected: str, found: str) -> str:
    """The first place where the texts differ by more than one in the last digit of a number, or ""."""
    (expected, *old), (found, *new) = _without_pictures(expected), _without_pictures(found)
    parts = [NUMBER.split(_without_identities(text)) for text in (expected, found)]
    for i, (a, b) in enumerate(itertools.zip_longest(*parts, fillvalue="")):
        if a != b and not (i % 2 and _near(a, b)):
            return f"{_place(parts[0], i)!r} became {_place(parts[1], i)!r}"
    for i, (a, b) in enumerate(zip(old, new, strict=True)):
        if not _alike(a, b):
            return f"picture {i + 1} differs"
    return ""


def _place(parts: list[str], i: int) -> str:
    return "".join([*(part[-60:] for part in parts[max(i - 1, 0) : i]), *(part[:60] for part in parts[i : i + 2])])


def _near(a: str, b: str) -> bool:
    """Within one of the last digit that the longer of the two prints, or within the rounding of float64."""
    x, y = (Decimal(text.replace(",", "")) for text in (a, b))
    unit = Decimal(1).scaleb(min(int(x.as_tuple().exponent), int(y.as_tuple().exponent)))
    return abs(x - y) <= max(unit, abs(x) * Decimal(ROUNDING))


def _without_identities(text: str) -> str:
    """Each id that hashes coordinates replaced by the place of its first mention in its figure."""
    known: dict[str, dict[str, str]] = {}

    def renamed(match: re.Match[str]) -> str:
        of_figure = known.setdefault(match[1], {})
        return match[1] + of_figure.setdefault(match[2], f"id_{len(of_figure)}")

    return IDENTITY.sub(renamed, text)


def _without_pictures(text: str) -> list[str]:
    """The text without its embedded pictures, then these."""
    return [PICTURE.sub("picture", text), *PICTURE.findall(text)]


def _alike(a: str, b: str) -> bool:
    x, y = (np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).astype(int) for text in (a, b))
    return x.shape == y.shape and bool((abs(x - y) <= LEVELS).all())
