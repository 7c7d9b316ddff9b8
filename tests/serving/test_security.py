"""What docs/security.md promises: each line names tests, and doors choose no models for strangers."""

import re
from pathlib import Path

import pytest

from headrace.serving.server import serve
from headrace.serving.server.addresses import read_addresses
from headrace.serving.server.core import Core
from headrace.serving.server.flags import parse_flags
from headrace.serving.server.grpc_door import GrpcSettings

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def test_every_promise_names_tests_that_are_there():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    heads = [row for row in rows if row.startswith("| promise")]
    file = ""
    for row in rows:
        (_, _, held, _) = row.split("|")
        if row in heads:
            file = next(iter(re.findall(r"test_\w+\.py", held)), "")
            continue
        names = re.findall(r"`(?:(test_\w+\.py|\.\.\.)::)?(test_\w+)`|`(test_\w+\.py)`", held)
        assert names, row
        for named, test, whole in names:
            file = file if named in ("", "...") and not whole else named or whole
            source = Path(__file__).with_name(file).read_text(encoding="utf-8")
            assert not test or f"\ndef {test}(" in source, (file, test)
    assert len(heads) == 3
    assert len(rows) - len(heads) >= 15


@pytest.mark.parametrize(
    ("flags", "local"),
    [
        ([], True),
        (["--host=localhost"], True),
        (["--host=127.3.2.1"], True),
        (["--host=::1"], True),
        (["--host=0.0.0.0"], False),
        (["--host=::"], False),
        (["--host=10.1.2.3"], False),
        (["--host=no.such.host.invalid"], False),
        (["--host=0.0.0.0", "--port=0", "--grpc_socket_path=/tmp/s"], True),
        (["--host=0.0.0.0", "--grpc_socket_path=/tmp/s"], False),
    ],
)
def test_which_addresses_of_grpc_only_this_machine_reaches(flags, local):
    assert read_addresses(parse_flags([*flags, "m"])).grpc_is_local == local


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [
        ([], True),
        (["--host=0.0.0.0"], False),
        (["--host=0.0.0.0", "--allow_reload_config"], True),
        (["--allow_reload_config=false"], True),
    ],
)
def test_clients_of_other_machines_choose_no_models_unless_allowed(flags, allowed, monkeypatch):
    made: list[GrpcSettings] = []
    monkeypatch.setattr(serve, "GrpcDoor", lambda core, settings, listeners: made.append(settings))
    settings = serve.run_settings(parse_flags([*flags, "--model_base_path=/"]), [])
    for door in settings.doors:
        door(Core(), ())
    assert [one.reload_config for one in made] == [allowed]
