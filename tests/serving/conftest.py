"""One server for all tests of the REST door: it costs seconds to start, and no test changes it."""

from collections.abc import Iterator

import pytest

from headrace.serving.server.core import Settings
from headrace.serving.server.metrics import Metrics
from headrace.serving.server.rest import RestDoor, RestSettings
from headrace.serving.server.run import RunSettings
from headrace.serving.server.source import ModelEntry, VersionPolicy
from tests.serving import rest_models, saved_models
from tests.serving.rest_calls import Rest
from tests.serving.running import RunningServer, running


@pytest.fixture(scope="session")
def rest_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Models `half` (versions 122, which is labelled `stable`, and 123) and `mirror` (version 1)."""
    root = tmp_path_factory.mktemp("rest_models")
    saved_models.half_plus_two(root / "half" / "00000122", add=3.0)
    saved_models.half_plus_two(root / "half" / "00000123")
    rest_models.mirror(root / "mirror" / "1")
    metrics = Metrics()
    settings = RestSettings(port=0, max_body_bytes=1 << 20, metrics=metrics.page)
    entries = (
        ModelEntry("half", str(root / "half"), VersionPolicy("all"), labels=(("stable", 122),)),
        ModelEntry("mirror", str(root / "mirror")),
    )
    with running(
        RunSettings(
            entries=entries,
            core=Settings(labels_for_unavailable=True),
            doors=(lambda core, listeners: RestDoor(core, settings, listeners),),
            listeners=(metrics,),
        )
    ) as server:
        yield server


@pytest.fixture(scope="session")
def rest(rest_server: RunningServer) -> Rest:
    """The REST door of `rest_server`."""
    return Rest(rest_server.server.doors[1].port)
