"""The page of a recovery says what the numbers say, shows all parts that there are, and names those that are not."""

import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import recovery_sample as sample
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from cryosip.records.recovery import Between, MethodOutcome
from cryosip.reports import movies, recovery_belief, recovery_figures
from cryosip.reports.recovery_figures import CAUTION, axis_of, smoothed
from cryosip.reports.recovery_page import SECTIONS, build, figures_of, render
from cryosip.reports.recovery_sentences import gains, listed, sentences, separated_peaks
from cryosip.reports.style import Drawing

PARTS = ("distribution", "landscape", "structures", "halves", "predictive")
HOSTILE = 'a"><script>alert(1)</script>.star'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One built page of two modes, whose texts are hostile; its eleven figures take over a second of a core."""
    made = sample.recovery(particles=HOSTILE, notes=["<script>note</script>"], options={"<script>": "<b>"})
    folder = sample.put(tmp_path_factory.mktemp("recovery"), made, sample.arrays())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasPdf, "print_pdf", lambda *_, **__: None)
        return build(folder, folder / "page")


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Axes]:
    """The axes of each figure by its name: they are painted, and no file is made of them."""
    axes: dict[str, Axes] = {}

    def draw(name: str, paint, size=(5.0, 3.8)) -> Drawing:
        axes[name] = Figure(figsize=size).add_subplot()
        paint(axes[name])
        return Drawing(f"<svg>{axes[name].get_title()}</svg>", b"")

    for module in (recovery_figures, recovery_belief, movies):
        monkeypatch.setattr(module, "draw", draw)
    monkeypatch.setattr(movies, "moving", lambda *_: "<svg></svg>")
    return axes


def text_of(made, arrays) -> str:
    """The page without its figures."""
    return render(made, arrays, {part: [] for part in PARTS})


def test_sentences_of_a_distribution_that_can_be_told() -> None:
    said = sentences(sample.recovery(), sample.arrays())
    assert said == [
        "The images tell something of the distribution: on images not seen before, reweighting gains 0.12 ± 0.005 nats "
        "an image over equal weights, that is 480 nats over 4,000 images.",
        "The distribution shown is that of reweighting. Its spread, the root mean square distance from its mean, is "
        "2.71 [2.6, 2.8]. Peaks that are separated by more than their 5–95 % bands: at least 2 along mode 1 and at "
        "least 2 along mode 2.",
        "The best method by held-out likelihood is mixture; posterior-npmle and reweighting are not significantly "
        "worse.",
        "The estimates from two halves of the images differ by W2 = 0.35: as resampling explains (0.28 to 0.47).",
        "Details finer than about 0.83 (0.594 Å) along mode 1 and 1.17 (0.838 Å) along mode 2 cannot be told apart: "
        "one image alone leaves that much open.",
        "Noise alone explains 12.3 % of the images [11 %, 13.5 %] better than any structure; 3.1 % are further from "
        "all structures than noise takes them.",
        "On images simulated from the distribution, 90 % intervals held 88 % of the time along mode 1 and 74 % of the "
        "time along mode 2 (90 % is wanted); the recovered std over the true one was 0.932 along mode 1 and 0.7 along "
        "mode 2 (too narrow). The bands on this page are too narrow.",
        "Images simulated from the distribution look like the observed ones, in power and in distance.",
    ]


def test_images_that_do_not_look_like_simulated_ones_are_named() -> None:
    arrays = sample.arrays()
    arrays["power"][0] *= 1.5
    n = arrays["power"].shape[1]
    far = sample.outcome("reweighting", image_distance=Between(0.05, 0.01, 0.04))
    said = sentences(sample.recovery(methods=[far]), arrays)[-1]
    assert said.startswith("Observed images do not look like those simulated from the distribution: ")
    assert f"their power is outside of the 5–95 % band at {n} of {n} frequencies and their distance" in said
    one = sample.arrays()
    one["power"][0, 3] *= 1.5  # by chance
    assert "look like the observed ones" in sentences(sample.recovery(), one)[-1]


def test_sentences_of_noise_describe_no_distribution() -> None:
    first, *rest = sentences(sample.noise(), sample.arrays())
    assert first.startswith("Nothing can be told of the distribution from these images: ")
    assert "reweighting gains 1.0e-04 ± 0.001 nats an image" in first
    assert "0.4 nats over 4,000 images" in first
    assert len(rest) == 1
    assert rest[0].startswith("Noise alone explains 97 %")


@pytest.mark.parametrize("d", [1, 3])
def test_sentences_name_each_mode(d: int) -> None:
    said = " ".join(sentences(sample.recovery(d), sample.arrays(d)))
    assert [f"along mode {k}" in said for k in (1, 2, 3, 4)] == [k <= d for k in (1, 2, 3, 4)]


def test_a_failed_method_is_named() -> None:
    assert any(s.endswith("flow failed.") for s in sentences(sample.failed(), sample.arrays()))
    alone = sample.recovery(methods=[MethodOutcome("reweighting", {}, "error", "no memory")])
    assert "is not known" in sentences(alone, sample.arrays())[0]
    assert "is not known" in sentences(sample.recovery(methods=[]), sample.arrays())[0]


@pytest.mark.parametrize(
    ("gain", "error", "n_images", "said"),
    [(0.01, 0.004, 1_000, True), (0.01, 0.0051, 1_000, False), (0.01, 0.004, 299, False), (-0.1, 0.01, 1_000, False)],
)
def test_a_gain_counts_beyond_two_standard_errors_and_three_nats(gain, error, n_images, said) -> None:
    method = sample.outcome("reweighting", held_out=gain, held_out_error=error, n_images=n_images)
    assert gains(method) == said
    made = sample.recovery(methods=[method, sample.outcome("flow")])
    first = sentences(made, sample.arrays())[0]
    assert first.startswith("Nothing can be told") != said
    assert ("By the same measure flow does gain." in first) != said


def test_halves_that_differ_by_more_than_chance() -> None:
    made = sample.recovery(methods=[sample.outcome("reweighting", halves=0.9)], resampling=Between(0.3, 0.2, 0.5))
    said = " ".join(sentences(made, {}))
    assert "0.9: more than resampling explains (0.2 to 0.5)." in said
    assert "too few images" not in said


def test_without_arrays_nothing_is_said_of_them() -> None:
    said = " ".join(sentences(sample.recovery(), {}))
    assert "about 0.83 along mode 1 and 1.17 along mode 2" in said
    assert "simulated" not in said
    assert "eaks" not in said


@pytest.mark.parametrize(
    ("heights", "error", "peaks"),
    [
        ([0, 3, 0, 3, 0], 0.5, 2), ([0, 3, 0, 3, 0], 1.6, 1), ([3, 0, 3], 0.5, 2), ([0, 3, 2.5, 3, 0], 0.5, 1),
        ([0, 2, 0, 4, 0], 1.2, 1),
        ([0, 4, 0, 2, 0], 1.2, 1), ([0, 1, 3, 1, 0], 0.1, 1), ([0, 3, 1, 2, 1, 3, 0], 0.2, 3), ([1, 1, 1], 0.0, 1),
    ],
)  # fmt: skip
def test_peaks_are_separated_beyond_their_bands(heights, error, peaks) -> None:
    assert separated_peaks(np.array(heights) - error, np.array(heights) + error) == peaks


def test_words_are_listed() -> None:
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_the_page_has_all_sections_and_numbers(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'<section id="([^"]*)">', text) == list(SECTIONS)
    assert re.findall(r'<a href="#([^"]*)">', text)[: len(SECTIONS)] == list(SECTIONS)
    assert 'class="missing"' not in text
    assert CAUTION not in text
    for number in ("4,321 images of 64 × 64 pixels of 2.62 Å", "0.122</b> ± 0.005", "0.01 to 0.04", ">0.932<",
                   "12.3 %", "3.1 %", "0.594 Å", "n_components [1, 2, 4]"):  # fmt: skip
        assert number in text
    for sentence in sentences(sample.recovery(), sample.arrays()):
        assert sentence in text
    representatives = text[text.index('<section id="structures">') :]
    assert (
        '<tr><th scope="row">1</th><td>60 %<small>[55 %, 65 %]</small></td><td>-2.5</td><td>-1</td></tr>'
        in representatives
    )


def test_nothing_of_a_record_is_markup(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == 1  # that of all pages
    assert text.count("&lt;script&gt;") >= 4  # the file's name in the title and in the header, the note, the option
    assert "<b>" in text
    assert "&lt;b&gt;" in text


def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = {unquote(link) for link in re.findall(r'href="((?!#|http|data:)[^"]*)"', text)}
    figures = {link for link in links if link.startswith("figures/")}
    assert links - figures == {"./structures.pdb", "./weights of images.csv"}
    assert all((page.parent / link).is_file() for link in figures)
    assert {"figures/density-1.csv", "figures/free-energy.svg", "figures/motion-2.pdb"} <= figures
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert len(re.findall(r'<div class="moving"><svg', text)) == 2


def test_each_figure_of_a_distribution_warns_where_nothing_can_be_told(painted) -> None:
    figures = figures_of(sample.noise(), sample.arrays())
    text = render(sample.noise(), sample.arrays(), figures)
    of_it = [*figures["distribution"], *figures["landscape"], figures["structures"][0]]
    assert [plot.name for plot in of_it] == ["density-1", "cumulative-1", "density-2", "cumulative-2", "free-energy",
                                             "free-energy-std", "representatives"]  # fmt: skip
    for plot in of_it:
        assert CAUTION in plot.svg
        assert plot.caption.startswith(CAUTION)
    for name in ("distribution", "landscape", "structures"):
        section = text[text.index(f'<section id="{name}">') :]
        assert f'<span class="verdict fails">caution</span> <b>{CAUTION}</b>' in section[: section.index("</section>")]
    assert CAUTION not in "".join(plot.caption + plot.svg for plot in figures["predictive"] + figures["halves"])


def test_a_failed_method_is_shown_with_its_message() -> None:
    text = text_of(sample.failed(), sample.arrays())
    row = text[text.index("</i>flow</th>") :]
    row = row[: row.index("</tr>")]
    assert '<span class="verdict fails">failed</span> it diverged before step 200' in row
    assert row.count("<td>—</td>") == 3


def test_a_gain_of_chance_and_images_beyond_their_interval_are_marked() -> None:
    far = sample.outcome("flow", held_out=0.001, image_distance=Between(0.05, 0.01, 0.04))
    text = text_of(sample.recovery(methods=[far]), {})
    assert "<small>no more than chance</small>" in text
    assert "<small>0.01 to 0.04: more than chance</small>" in text
    assert "no more than chance" not in text_of(sample.recovery(), {})
    assert ": beyond" not in text_of(sample.recovery(), {})


def test_what_is_missing_is_said() -> None:
    text = text_of(sample.recovery(methods=[], files=[]), {})
    assert re.findall(r'<p class="missing">([^<]*)</p>', text) == [
        "There are no densities in the arrays of this run.",
        "There is no free energy in the arrays of this run.",
        "No representative structures were chosen.",
        "The molecule and its motions are not in the arrays of this run.",
        "No method was run.",
        "No method has estimates from both halves of the images.",
        "No images were simulated from the distribution.",
        "No distribution was recovered from simulated images.",
        "None but the figures.",
    ]
    made = sample.recovery(methods=[])
    assert not any(figures_of(made, {}).values())


def test_one_mode_has_a_free_energy_with_its_band(painted) -> None:
    made, arrays = sample.recovery(1), sample.arrays(1)
    (plot,) = figures_of(made, arrays)["landscape"]
    theta, energy, lower, upper = np.array(plot.rows).T
    known = np.isfinite(energy)
    assert 40 < known.sum() < len(theta)
    density = arrays["density"][0]
    np.testing.assert_allclose(energy[known], -np.log(density / density.max())[known], atol=1e-12)
    assert (lower[known] <= energy[known]).all()
    assert (upper[known] >= energy[known]).all()
    assert np.isnan(energy[np.argmin(density)])


def test_three_modes_have_six_distributions_and_the_landscape_of_two(painted) -> None:
    figures = figures_of(sample.failed(3), sample.arrays(3))
    assert len(figures["distribution"]) == 6
    assert [plot.name for plot in figures["structures"]] == ["representatives", "motion-1", "motion-2", "motion-3"]
    text = render(sample.failed(3), sample.arrays(3), figures)
    assert "the first two of 3 modes" in text
    assert "<td>2</td><td>1.5</td><td>-0.5</td>" in text


def test_the_first_mode_of_a_landscape_goes_to_the_right(painted) -> None:
    arrays = sample.arrays()
    (energy, _) = recovery_figures.landscape(sample.recovery(), arrays)
    ax = painted["free-energy"]
    (image,) = ax.get_images()
    np.testing.assert_array_equal(image.get_array().filled(np.nan), arrays["free_energy"].T)
    assert image.get_extent() == pytest.approx([-6 - 3 / 14, 6 + 3 / 14] * 2)
    assert [t.get_position() for t in ax.texts] == [(-2.5, -1.0), (2.0, 1.5)]
    lowest = min((row for row in energy.rows if np.isfinite(row[2])), key=lambda row: row[2])
    assert np.hypot(lowest[0] - 2.0, lowest[1] - 1.5) < 0.5  # the narrower peak is the higher one


def test_places_are_the_points_of_the_grid() -> None:
    axis = axis_of(sample.recovery(), 0, 13)
    np.testing.assert_allclose(axis.points, np.arange(-6, 7))
    np.testing.assert_allclose(axis.edges, np.arange(-6.5, 7))


def test_other_methods_are_lines_of_mass_one_and_few_points_are_marks(painted) -> None:
    plot = recovery_figures.distributions(sample.recovery(), sample.arrays())[0]
    assert list(plot.columns) == ["θ₁", "reweighting", "5 %", "95 %", "posterior-npmle", "flow"]
    rows = np.array(plot.rows)
    np.testing.assert_allclose(rows[:, 4:].sum(0) * (rows[1, 0] - rows[0, 0]), 1, atol=0.01)
    labels = painted["density-1"].get_legend_handles_labels()[1]
    assert sorted(labels) == ["flow", "mixture", "posterior-npmle", "reweighting, 5–95 %"]
    marks = painted["density-1"].collections[-1].get_offsets()
    assert len(marks) == 8
    assert (marks[:, 1] < 0).all()


def test_a_cumulative_ends_at_one(painted) -> None:
    plot = recovery_figures.distributions(sample.recovery(), sample.arrays())[1]
    np.testing.assert_allclose(np.array(plot.rows)[-1, [1, 4, 5, 6]], 1, atol=1e-3)
    half = np.interp(-0.5, *np.array(plot.rows)[:, [0, 6]].T)
    theta, weights = (sample.arrays()[f"{part}_flow"] for part in ("theta", "weights"))
    assert half == pytest.approx(weights[theta[:, 0] < -0.5].sum() / weights.sum(), abs=0.02)


@pytest.mark.parametrize(("n", "std"), [(13, 0.7), (113, 113 / 40)])
def test_smoothing_keeps_the_mass_and_has_its_width(n: int, std: float) -> None:
    point = np.eye(n)[n // 2]
    after, steps = smoothed(point), np.arange(n) - n // 2
    assert after.sum() == pytest.approx(1)
    assert np.sqrt(after @ steps**2) == pytest.approx(std, rel=0.03)  # cut at three stds


def test_representatives_and_motions_are_where_the_coordinates_put_them(painted) -> None:
    arrays = sample.arrays()
    shown, motion, _ = recovery_figures.structures(sample.recovery(), arrays)
    shapes = np.array(shown.rows).reshape(2, sample.BEADS, 5)[:, :, 2:]
    moves = arrays["motions"].reshape(2, sample.BEADS, 3)
    np.testing.assert_allclose(shapes[1], arrays["beads"] + 2.0 * moves[0] + 1.5 * moves[1])
    assert shown.pdb.count("MODEL ") == 2
    assert motion.pdb.count("MODEL ") == 5
    first = float(painted["motion-1"].texts[0].get_text().removeprefix("z = "))
    edges = axis_of(sample.recovery(), 0, 29).edges[1:]
    assert np.interp(first, edges, arrays["cumulative"][0]) == pytest.approx(0.01, abs=0.002)


def test_observed_power_is_counted_outside_of_its_band(painted) -> None:
    arrays = sample.arrays()
    arrays["power"][0, :4] *= 1.2
    power = recovery_belief.predictive(sample.recovery(), arrays)[0]
    assert "outside of the band at 4 of 31 frequencies; about 3 are expected" in power.caption
    assert power.rows[0][0] == pytest.approx(1 / (64 * 2.62))


def test_views_stand_above_those_that_are_simulated(painted) -> None:
    observed, simulated = np.zeros((7, 4, 4)), np.ones((7, 4, 4))
    observed[0, 0] = 5.0  # the first row, at the bottom
    recovery_belief.predictive(sample.recovery(), {"view_observed": observed, "view_simulated": simulated})
    (image,) = painted["views"].get_images()
    picture = image.get_array().filled(np.nan)
    assert picture.shape == (4 * 5 - 1, 6 * 5 - 1)  # two pairs of rows, six in each
    assert picture[3, 0] == 5.0
    assert picture[5, 0] == 1.0
    assert picture[10, 0] == 0.0
    assert np.isnan(picture[10, 6])


def test_a_folder_without_a_recovery_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no recovery"):
        build(tmp_path, tmp_path / "page")
    assert not (tmp_path / "page").exists()
