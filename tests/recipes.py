"""Follows docs/extending.md to the letter: its marked blocks become files and lines of a checkout."""

import re
from pathlib import Path

BLOCK = re.compile(
    r"^<!-- (file|add to): ([^,\n]+?)(?:, (after|before): (.+?))? -->\n```python\n(.*?)^```", re.M | re.S
)


def follow(document: Path, checkout: Path) -> list[str]:
    """Applies every marked block to a checkout; the names of the files that it changed."""
    changed = []
    for kind, name, side, anchor, block in BLOCK.findall(document.read_text(encoding="utf-8")):
        file = checkout / name
        if kind == "file":
            assert not file.exists(), file
            file.write_text(block, encoding="utf-8")
        else:
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            (at,) = (i for i, line in enumerate(lines) if line.strip().startswith(anchor))
            lines.insert(at + (side == "after"), block)
            file.write_text("".join(lines), encoding="utf-8")
        changed.append(name)
    return changed
