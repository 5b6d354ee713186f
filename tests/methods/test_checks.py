"""What options are refused by any method or problem, and what the message says."""

import numpy as np
import pytest

from cryosip.methods import checks

REFUSED = [
    (checks.positive, 0.0, "positive finite number"),
    (checks.positive, True, "positive finite number"),
    (checks.positive, 1e-19, "1e-18 to"),
    (checks.positive, 1e19, "to 1e\\+18"),
    (checks.positive, 10**400, "to 1e\\+18"),
    (checks.positive, float("nan"), "positive finite number"),
    (checks.positive, "1", "positive finite number"),
    (checks.non_negative, -1e-30, ">= 0"),
    (checks.non_negative, 1e-30, "0, or 1e-18 to"),
    (checks.finite, -1e19, "finite number"),
    (checks.finite, float("-inf"), "finite number"),
    (checks.positive_int, 0, "whole number >= 1"),
    (checks.positive_int, 1.0, "whole number >= 1"),
    (checks.positive_int, True, "whole number >= 1"),
    (checks.positive_int, 2**31, "<= 2147483647"),
    (checks.non_negative_int, -1, "whole number >= 0"),
    (checks.boolean, 1, "True or False"),
    (checks.finite_matrix, np.zeros(3), r"shape \(3,\)"),
    (checks.finite_matrix, np.zeros((0, 2)), r"shape \(0, 2\)"),
    (checks.finite_matrix, np.array([["a"]]), "dtype"),
    (checks.finite_matrix, np.array([[1j]]), "dtype"),
    (checks.finite_matrix, np.array([[1e39, np.nan]]), "2 NaN or infinite values of 2"),  # of single precision
]


@pytest.mark.parametrize(("check", "value", "says"), REFUSED)
def test_what_is_refused_is_named_with_what_was_wanted(check, value, says):
    with pytest.raises(ValueError, match=f"^option .*{says}"):
        check("option", value)


@pytest.mark.parametrize("value", [[1.0, [2.0]], [[1.0], [1.0, 2.0]], "text", [10**400], None, object(), [[1.0]], 1.0])
def test_what_is_no_list_of_numbers_is_refused(value):
    with pytest.raises(ValueError, match=r"^option is .*wanted a list of numbers"):
        checks.numbers("option", value, 1)


@pytest.mark.parametrize("value", [["one"], {"one": 1}, np.array(["one", "two"]), None, "oen"])
def test_names_are_texts(value):
    with pytest.raises(ValueError, match=r"^option is .*wanted one of 'one', 'two'"):
        checks.one_of("option", value, ("one", "two"))


def test_what_is_good_is_taken_as_numbers_of_python():
    assert checks.positive("option", np.float32(0.5)) == 0.5
    assert checks.non_negative("option", 0) == 0.0
    assert checks.positive_int("option", np.int64(2**31 - 1)) == 2**31 - 1
    assert checks.boolean("option", np.bool_(False)) is False
    assert checks.numbers("option", ((1, 2), (3, 4)), 2).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert checks.finite_matrix("option", np.array([[1]])).dtype == np.float64
