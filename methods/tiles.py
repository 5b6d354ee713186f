"""How much is held at a time where sums over pairs or images are taken tile by tile; less where memory is short."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SHARE = ContextVar("share", default=1.0)


def tile(size: int) -> int:
    """As many of `size` as may be held at a time in what is being compiled."""
    return max(1, int(size * _SHARE.get()))


@contextmanager
def shared(share: float) -> Iterator[None]:
    """Whatever is compiled in this block takes tiles of that share of their size; sums differ by their rounding."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)
