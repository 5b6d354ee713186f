"""A campaign drops what it compiled before the system would end it."""

import jax
import jax.numpy as jnp
import pytest

from cryosip.bench.app import work


@pytest.mark.parametrize(("most", "kept"), [("65530", 1), ("10", 0)])
def test_programs_are_dropped_where_they_take_half_of_the_memory_areas(monkeypatch, tmp_path, most, kept):
    program = jax.jit(lambda x: x + 1)
    program(jnp.zeros(()))
    maps, limit = tmp_path / "maps", tmp_path / "max_map_count"
    maps.write_text("an area\n" * 6)
    limit.write_text(f"{most}\n")
    monkeypatch.setattr(work, "MAPS", maps)
    monkeypatch.setattr(work, "MOST_MAPS", limit)
    work.forget_programs()
    assert program._cache_size() == kept
    assert program(jnp.ones(())) == 2


def test_a_system_without_that_limit_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(work, "MAPS", tmp_path / "nothing")
    work.forget_programs()
