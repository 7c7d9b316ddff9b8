"""What the documentation shows is run, in the order of each page, on a small project that is served."""

import re
from collections.abc import Iterator

import pytest

from .pages import Block, Command, commands
from .tables import not_run
from .test_written import BLOCKS, SPANS, identity
from .world import SERVE, World, add_version, free_port, serving, start_steps, world

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("documents")) as found:
        yield found


def shape(text: str) -> list[str]:
    """Return the words of an output with every number and run made equal, lines of logs left out."""
    lines = [line for line in text.splitlines() if not re.match(r"INFO: |\d{4}-\d\d-\d\d ", line)]
    text = re.sub(r"\d{8}-\d{6}-[0-9a-f]{6}", "RUN", " ".join(lines))
    return re.sub(r"-?\d[\d,]*(\.\d+)?(e-?\d+)?", "#", text).split()


def output_of(block: Block) -> str | None:
    """Return the text block that follows, which is what the block prints."""
    place = BLOCKS.index(block) + 1
    after = BLOCKS[place] if place < len(BLOCKS) else None
    return after.text if after and after.page == block.page and after.kind == "text" else None


def runs(command: Command) -> bool:
    return not not_run(command.text.replace(".venv/bin/", "")) and SERVE not in command.text


def prepare(command: str, here: World) -> None:
    """Bring about what a command takes for granted."""
    if "rollback data" in command:
        add_version(here.folder, "data")
    if "kubeflow status" in command:
        start_steps(here.cluster)


SHELL = [block for block in BLOCKS if block.kind == "shell" and any(map(runs, commands(block)))]
CODE = [block for block in BLOCKS if block.kind in ("js", "python")]
STARTS = {"js": ["node", "--input-type=module", "-e"], "python": ["python", "-c"]}


@pytest.mark.parametrize("block", SHELL, ids=identity)
def test_commands_do_what_the_page_says(block: Block, here: World) -> None:
    printed = ""
    for command in commands(block):
        if not runs(command):
            continue
        prepare(command.text, here)
        found = here.call(["bash", "-euo", "pipefail", "-c", here.translate(command.text)])
        printed += found
        if command.output is not None:
            assert shape(found) == shape(command.output), found
    expected = output_of(block)
    if expected is not None:
        assert shape(printed) == shape(expected), printed


@pytest.mark.parametrize("block", CODE, ids=identity)
def test_programs_print_what_the_page_says(block: Block, here: World) -> None:
    printed = here.call([*STARTS[block.kind], here.translate(block.text)])
    expected = output_of(block)
    assert expected is not None
    assert shape(printed) == shape(expected), printed


def test_the_server_says_what_the_page_says(here: World) -> None:
    shown = [
        command.output
        for block in BLOCKS
        if block.kind == "shell"
        for command in commands(block)
        if command.text.startswith(SERVE) and command.output
    ]
    assert [shape(text) for text in shown] == [shape(here.served)]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "textproto"], ids=identity)
def test_a_config_of_models_starts_the_server(block: Block, here: World) -> None:
    (command,) = (text for _, text in SPANS if text.startswith("headrace serve models.config"))
    (here.folder / "models.config").write_text(here.translate(block.text), encoding="utf-8")
    with serving(here, command, (0, free_port())) as printed:
        assert "model flights: version 1" in printed
