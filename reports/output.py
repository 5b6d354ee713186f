"""A page as one self-contained HTML text, and folders that are written whole or not at all."""

import base64
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from cryosip.reports import tables

HERE = Path(__file__).parent


FILTERS: dict[str, Any] = {
    "number": tables.number,
    "interval": tables.interval,
    "svg": Markup,
    "cell": lambda value: tables.number(value) if isinstance(value, float) else str(value),
    "range": tables.interval_of,
}


def environment(**filters: Callable[..., Any]) -> jinja2.Environment:
    """The templates of this folder and of its sections, with style and script of all pages; every value is escaped."""
    loader = jinja2.FileSystemLoader([HERE, HERE / "sections"])
    env = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                             lstrip_blocks=True)  # fmt: skip
    env.filters |= FILTERS | filters
    css, js = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    js_hash = base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()  # the one script that a browser may run
    env.globals |= {"css": Markup(css), "js": Markup(js), "js_hash": js_hash}
    return env


def write(out: Path, files: dict[str, str | bytes]) -> None:
    """Write all files into a temporary sibling of `out`, then move them into place in order.

    Raises OSError where `out` cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            for name, content in files.items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                with open(staging / name, "wb") as stream:
                    stream.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
                    stream.flush()
                    os.fsync(stream.fileno())
            for name in files:
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / name, out / name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot write the report to {out}: {error.strerror or error}") from error
