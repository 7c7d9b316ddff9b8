"""What docs/serving.md says of differences is held by tests. Its examples are run by tests/documents."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
DIFFERENCES = {
    "Address": "test_operating_tls.py::test_tls_at_both_doors",
    "Safety": "test_lifecycle.py::test_a_bad_version_does_not_take_the_good_one_down",
    "Loading": "test_lifecycle.py::test_a_version_that_loads_but_cannot_answer_is_not_served",
    "While a version loads": "test_lifecycle.py::test_what_is_on_its_way_is_unavailable_and_not_absent",
    "Batching": "test_flags.py::test_a_flag_that_means_nothing_here_says_so",
    "Limits": "test_rest_bodies.py::test_unfinished_bodies_share_their_room",
    "Behind the JSON object": "test_rest_errors.py::test_more_behind_the_object_is_refused",
    "Of two equal names": "test_rest_errors.py::test_the_last_of_two_equal_names_counts",
    "Words": "test_rest_errors.py::test_no_error_repeats_more_than_256_bytes_of_a_request",
    "Answers": "test_rest_predict.py::test_bytes_in_a_text_output_are_still_json",
    "Besides": "test_rest_http.py::test_a_request_id_is_echoed_or_made",
    "CPU only": "test_flags.py::test_a_flag_that_means_nothing_here_says_so",
}
"""What differs from TensorFlow Serving -> the test that holds it."""


def test_every_difference_on_the_page_has_its_test() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = page.partition("## What differs from TensorFlow Serving\n")[2]
    assert re.findall(r"(?m)^- \*\*(.+?)\*\*", listed) == list(DIFFERENCES)
    for place in DIFFERENCES.values():
        file, _, test = place.partition("::")
        assert f"\ndef {test}(" in Path(__file__).with_name(file).read_text(encoding="utf-8"), place
