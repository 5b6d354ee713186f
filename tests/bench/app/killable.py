"""The command line with the study of short_runs.py."""

import short_runs

from cryosip.bench.app import cli
from cryosip.bench.studies.registry import STUDIES

STUDIES["killable"] = short_runs.killable  # at the top, so that processes that import this file have it too

if __name__ == "__main__":
    cli.main()
