"""The wheel holds all that a user needs, and no more: every room, the schema, templates, and the marker of types."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("methods", "datasets", "records", "bench", "bench/studies", "bench/check", "bench/speed", "bench/recovery",
         "bench/app", "reports", "reports/sections")  # fmt: skip
DATA = {"records/record.schema.json", "bench/studies/tuned.json", "reports/page.css", "reports/page.js", "py.typed",
        "__init__.py", "reports/published/records.tar.zst"}  # fmt: skip


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The files of the wheel below cryosip."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests")
    shutil.copytree(ROOT, folder / "checkout", ignore=ignored)  # builds leave files behind
    words = ["pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "checkout")]
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        return {name.removeprefix("cryosip/") for name in files.namelist() if name.startswith("cryosip/")}


def test_every_module_and_every_template_is_in_the_wheel(names):
    sources = {path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).glob("*.py")}
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "reports").rglob("*.html")}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bench/app/templates").iterdir()}
    assert templates
    assert names == sources | pages | templates | DATA
