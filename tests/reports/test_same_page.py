"""The comparison of pages lets the last digit of a number pass, and nothing else."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from same_page import difference


def picture(level: int) -> str:
    file = io.BytesIO()
    Image.fromarray(np.full((2, 3), level, np.uint8)).save(file, "png")
    return f'<image href="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"/>'


PAGE = (
    '<h1>W2 of flow</h1><p>1.84 [1.27, 3.08], 12,345 runs, 2.5e-07.</p><td class="shade-3">7</td>'
    '<path d="M 1.234567 -20.5 \nL 3 4"/><animate values="M106.3 173.3L110.8 -159.9"/><use href="#f-m0123456789"/>'
)


def test_a_page_is_the_same_as_itself():
    assert difference(PAGE + picture(90), PAGE + picture(90)) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.84", "1.85"), ("3.08", "3.081"), ("12,345", "12,344"), ("2.5e-07", "2.4e-07"), ("1.234567", "1.234568"),
        ("-20.5", "-20.6"), ("173.3", "173.2"), ("110.8", "110.9"), ("-159.9", "-159.8"),
        ("m0123456789", "m9876543210"),
    ],
)  # fmt: skip
def test_one_in_the_last_digit_passes_and_so_does_the_hash_of_coordinates(old, new):
    assert difference(PAGE, PAGE.replace(old, new)) == ""


def test_a_last_digit_of_0_that_is_not_printed_passes():
    assert difference("W2 1.81", "W2 1.8") == ""
    assert difference("W2 1.82", "W2 1.8")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.84", "1.86"), ("1.27", "1.2"), ("12,345", "12,347"), ("2.5e-07", "2.5e-06"), ("1.234567", "1.234569"),
        ("-20.5", "20.5"), ("173.3", "173.5"), ("110.8", "110.6"), ("-159.9", "-159.7"), ("runs", "run"),
        ("W2", "W1"), ("shade-3", "shade-4"), ("<h1>", "<h2>"), ("3.08]", ""), ('<td class="shade-3">7</td>', ""),
        ("[1.27, 3.08]", "—"),
    ],
)  # fmt: skip
def test_two_in_the_last_digit_another_word_and_what_is_missing_are_seen(old, new):
    told = difference(PAGE, PAGE.replace(old, new))
    assert told
    assert difference(PAGE.replace(old, new), PAGE)


def test_all_digits_of_float64_may_differ_by_rounding_alone():
    assert difference("a,-0.08188025288757432", "a,-0.08188025288757555") == ""
    assert difference("a,-0.08188025288757432", "a,-0.08188025388757432")


def test_pictures_may_differ_by_one_level():
    assert difference(picture(90), picture(91)) == ""
    assert difference(picture(90), picture(92)) == "picture 1 differs"
    assert difference(picture(90), "")


def test_the_place_is_told():
    assert re.search("flow.*1.84.* became .*flow.*1.99", difference(PAGE, PAGE.replace("1.84", "1.99")))


def test_an_id_that_stands_for_two_others_of_its_figure_is_seen():
    assert difference("#f-m0123456789 #f-m0000000000", "#f-m0123456789 #f-m0123456789")


def test_figures_that_share_an_id_need_not_share_it_elsewhere():
    assert difference("#f-m0123456789 #g-m0123456789", "#f-m0123456789 #g-m0000000000") == ""
    assert difference("#f-m0123456789", "#g-m0123456789")
