"""Figures of volumes: what is drawn is what the records hold, in the truth's grey scale."""

import numpy as np
import pytest

from cryosip.records.schema import Choice, Config, Identity, Labels, Record
from cryosip.reports.sections import volumes_figures
from cryosip.reports.sections.volumes_figures import FRAMES, figures

SIZE = 5


def arrays(shift, own=True):
    """Volumes that grow along z, an estimate that is `shift` beside the truth, and the volumes of 50 images."""
    rng = np.random.default_rng(3)
    along = rng.normal(size=(200, 2)) + np.array([0.0, 5.0])
    mean = np.broadcast_to(np.arange(SIZE)[:, None, None], (SIZE,) * 3).ravel()
    ends = np.stack([mean - 1.0, mean, mean + 1.0])
    images = {"along_own": np.column_stack([along[:50], along[:50, 0]])} if own else {}
    return images | {
        "volumes_true": ends, "volumes_estimated": ends + shift, "along_true": along,
        "along_estimated": np.column_stack([along + shift, np.full(200, 1 / 200)]),
    }  # fmt: skip


def record(variant, problem, shift):
    return Record(
        run_id=variant,
        study="volumes",
        profile="small",
        labels=Labels(variant),
        config=Config(Choice(problem), Choice(variant), steps=10, every=10),
        replicate=0,
        seed=0,
        created="2025-11-20T12:00:00Z",
        identity=Identity(),
        metrics={"volume_w2": shift},
        arrays=arrays(shift, own=variant != "modes"),
    )


@pytest.fixture(scope="module")
def plots():
    records = [record("near", "adk-volumes", 0.5), record("far", "adk-volumes", 2.0), record("modes", "adk", 0.1)]
    return {plot.name: plot for plot in figures(records)["volumes"]}


def test_densities_are_those_of_the_same_bins(plots):
    plot = plots["volumes-densities"]
    assert plot.columns == ["centre", "truth", "modes: modes", "near", "far"]
    rows = np.array(plot.rows)
    width = rows[1, 0] - rows[0, 0]
    assert rows[:, 1].sum() * width == pytest.approx(1.0)
    # a shift of the points is one of their mean
    means = rows[:, 1:].T @ rows[:, 0] / rows[:, 1:].sum(0)
    assert means[2] - means[0] == pytest.approx(0.5, abs=width)
    assert "far</text>" in plot.svg


def test_volumes_of_images_are_coloured_by_the_truth(plots):
    assert "volumes-images-modes-modes" not in plots
    rows = np.array(plots["volumes-images-near"].rows)
    assert rows.shape == (50, 3)
    np.testing.assert_array_equal(rows[:, 0], rows[:, 2])
    assert "truth's first component" in plots["volumes-images-near"].svg


def test_maps_have_slices_and_sums_along_z(plots):
    rows = plots["volumes-slices-near"].rows
    assert [row[:2] for row in rows] == [[kind, i] for kind in ("slice", "projection") for i in range(3)]
    # the middle of 0 ... 4 is 2, their sum 10; the estimate is 0.5 above
    assert [row[4] for row in rows] == pytest.approx([1.5, 2.5, 3.5, 7.5, 12.5, 17.5])
    assert [row[4] for row in plots["volumes-slices-true"].rows] == pytest.approx([1, 2, 3, 5, 10, 15])


def test_grey_is_the_truths():
    true = np.array([2.0, 4.0])
    np.testing.assert_allclose(volumes_figures._grey(np.array([1.0, 2.0, 3.0, 5.0]), true), [0, 0, 0.5, 1])


def test_the_movie_is_of_the_nearest_that_looks_for_volumes_and_goes_from_end_to_end(plots):
    plot = plots["volumes-movie"]
    assert plot.title == "Along the first component: near"
    assert plot.movie.count("<image ") == FRAMES
    rows = [row for row in plot.rows if row[0] == "near"]
    assert [row[1] for row in rows[:: FRAMES // 2]] == [-2, 0, 2]
    assert "−2.0 std<animate" in plot.movie
    assert [row[4] for row in rows] == pytest.approx(np.linspace(1.5, 3.5, FRAMES).tolist())
