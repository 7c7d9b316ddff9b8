import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from headrace.components.parity.tolerance import (
    TOLERANCE,
    flip_rate,
    golden_bound,
    max_abs_difference,
    max_relative_difference,
    predicted,
)


@pytest.mark.parametrize(
    ("reference", "other", "expected"),
    [
        ([0.5, 0.25], [0.5, 0.25], 0.0),
        ([0.5], [0.25], 0.25),  # below 1 the difference counts as it is
        ([200.0, 1.0], [201.0, 1.0], 0.005),  # above 1 it is divided by the reference
        ([-4.0], [4.0], 2.0),
        ([], [], 0.0),
        ([1.0, np.nan], [1.0, 1.0], np.inf),
        ([1.0], [np.inf], np.inf),
    ],
)
def test_relative_difference(reference, other, expected):
    assert max_relative_difference(np.array(reference), np.array(other)) == pytest.approx(expected)


def test_relative_difference_is_that_of_the_reference_and_not_symmetric():
    assert max_relative_difference(np.array([10.0]), np.array([5.0])) == 0.5
    assert max_relative_difference(np.array([5.0]), np.array([10.0])) == 1.0


def test_tolerance_is_numpys_allclose_at_one():
    values = np.array([0.0, 1.0])
    assert max_relative_difference(values, values + 0.99 * TOLERANCE) <= TOLERANCE
    assert max_relative_difference(values, values + 1.01 * TOLERANCE) > TOLERANCE


def test_abs_difference_counts_nan_as_infinite():
    assert max_abs_difference(np.array([100.0, 2.0]), np.array([101.0, 2.0])) == 1.0
    assert max_abs_difference(np.array([np.nan]), np.array([np.nan])) == np.inf


@pytest.mark.parametrize("function", [max_relative_difference, max_abs_difference, flip_rate])
def test_shapes_must_agree(function):
    with pytest.raises(ValueError, match=r"the same shape. Received: \(2, 2\) and \(3, 2\)"):
        function(np.zeros((2, 2)), np.zeros((3, 2)))


def test_flip_rate_is_one_minus_the_accuracy_of_one_against_the_other():
    random = np.random.default_rng(1)
    first, second = random.random((200, 5)), random.random((200, 5))
    expected = 1 - accuracy_score(first.argmax(1), second.argmax(1))
    assert flip_rate(first, second) == pytest.approx(expected)


def test_threshold_decides_between_two_classes():
    scores = np.array([[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]])
    assert predicted(scores).tolist() == [0, 0, 1]
    assert predicted(scores, 0.4).tolist() == [0, 1, 1]
    moved = scores + np.array([[0.0, 0.0], [0.02, -0.02], [0.0, 0.0]])
    assert flip_rate(scores, moved, 0.4) == pytest.approx(1 / 3)
    assert flip_rate(scores, moved) == 0


def test_flip_rate_of_no_rows_is_zero():
    assert flip_rate(np.zeros((0, 2)), np.zeros((0, 2))) == 0.0


@pytest.mark.parametrize(
    ("variant", "bound"),
    [
        ("float32", 1e-5), ("tflite_float32", 1e-5), ("int8_weights", 0.05), ("tflite_int8", 0.05),
        ("tflite_dynamic_int8", 0.05), ("tflite_float16", 0.05),
    ],
)  # fmt: skip
def test_all_variants_below_float32_have_one_golden_bound(variant, bound):
    assert golden_bound(variant, 1e-5, 0.05) == bound
    assert golden_bound(variant, 1e-5, None) == (1e-5 if bound == 1e-5 else None)
