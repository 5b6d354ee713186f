"""All records as one tidy table, as CSV and as Parquet."""

import io
from collections.abc import Iterable

from cryosip.records.schema import Record
from cryosip.records.table import tidy
from cryosip.reports.csv_text import csv_text


def as_csv(records: Iterable[Record]) -> bytes:
    """The table as CSV in UTF-8, a header first; what is missing is empty."""
    table = tidy(records)
    cells = table.astype(object).where(table.notna(), "")
    return csv_text([list(table), *cells.itertuples(index=False, name=None)]).encode(errors="backslashreplace")


def as_parquet(records: Iterable[Record]) -> bytes:
    """The table as Parquet, missing numbers null. Raises ValueError where pyarrow is not installed."""
    buffer = io.BytesIO()
    try:
        tidy(records).to_parquet(buffer, index=False)
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow, which is not installed: pip install pyarrow, or export CSV") from error
    return buffer.getvalue()
