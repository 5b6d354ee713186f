"""Two thousand records: the page is built while one waits, and opens."""

import subprocess
import sys

import pytest

from cryosip.records.select import read_records

# without the types checked at each call, and in seconds of one processor: what it takes where nothing else runs
BUILD = """import sys, time
from pathlib import Path
from cryosip.reports.page import build
began = time.process_time()
build(Path(sys.argv[1]), Path(sys.argv[2]))
print(time.process_time() - began)
"""
RECORDS, REPLICATES = 2_000, 100


@pytest.mark.slow
def test_a_page_of_two_thousand_records_is_built_in_half_a_minute(write_all, tmp_path):
    write_all(tmp_path / "results", REPLICATES)
    assert len(read_records(tmp_path / "results")[0]) >= RECORDS
    run = [sys.executable, "-c", BUILD, tmp_path / "results", tmp_path / "report"]
    seconds = float(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert (tmp_path / "report" / "index.html").stat().st_size < 15e6
    assert seconds < 30
