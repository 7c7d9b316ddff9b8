"""The order of tests: whole runs first, so that no worker ends alone with the longest file."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move tests of whole runs to the front; workers take files in the order of collection."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)
