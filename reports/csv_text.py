"""Tables as comma-separated text, safe to open in a spreadsheet."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@")  # a spreadsheet runs text that begins so


def csv_text(table: Iterable[Sequence[Any]]) -> str:
    """Comma-separated text; a number that is not available is empty, one that was never reached "inf".

    Text that a spreadsheet would run as a formula has an apostrophe before it; numbers stay as they are. Lines within
    a text end with a line feed, for the writer leaves a lone carriage return unquoted.
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([[_cell(value) for value in row] for row in table])
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return ""
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
