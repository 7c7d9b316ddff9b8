"""What the documentation names exists: commands with their options, configs, keys, files, extras, tests."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest
import yaml

from headrace.components.gates.states import STATES
from headrace.data.errors import HeadraceError
from headrace.data.samples import SAMPLES
from headrace.pipeline.cli import _cli
from headrace.pipeline.config import RunConfig, parse_config
from headrace.pipeline.graph import GRAPH
from headrace.pipeline.reference import json_schema
from headrace.serving.server.flags import FLAGS, parse_flags
from tests.e2e.project import CONFIG

from .pages import PAGES, ROOT, Block, blocks, commands, spans
from .tables import NOT_RUN, not_run

BLOCKS = [block for page in PAGES for block in blocks(page)]
SPANS = sorted({(page.name, text) for page in PAGES for text in spans(page)})
KINDS = {"shell", "run", "error", "text", "yaml", "python", "js", "sql", "textproto"}
SCHEMA = json_schema()
FLAG_NAMES = {flag.name for flag in FLAGS}
OTHER_OPTIONS = {
    "--experiments": "of Beam",
    "--job_server_timeout": "of Beam",
    "--service_port": "of Beam",
    "--flink-master": "of Beam's job server",
    "--profile": "of Docker",
}
"""Options in running text that are another program's."""


def identity(block: Block) -> str:
    return f"{block.page}:{block.line}"


def shell_commands() -> Iterator[tuple[str, str, bool]]:
    """Yield the page, each simple command of its blocks and its text, and whether the text stands alone."""
    for block in BLOCKS:
        if block.kind == "shell":
            for command in commands(block):
                yield from ((block.page, text, False) for text in simple_commands(command.text))
    for page, text in SPANS:
        if re.match(r"(headrace|make|pip|apt-get|python|docker|kubectl|aws|java) ", text):
            yield from ((page, part, True) for part in simple_commands(text))


def simple_commands(text: str) -> list[str]:
    """Cut a shell command at pipes and redirections, without comments and here-documents."""
    text = re.sub(r"<<'(\w+)'.*", "", text, flags=re.DOTALL)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|;<>&")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|;<>&"):
            parts.append([])
        else:
            parts[-1].append(word)
    # What follows a redirection is a file.
    found = [[part[0].removeprefix(".venv/bin/"), *part[1:]] for part in parts if part]
    return [shlex.join(part) for part in found if len(part) > 1 or part[0] == "make"]


COMMANDS = sorted(set(shell_commands()))


def words_of(text: str, name: str) -> list[str] | None:
    """Return the arguments of `text` where it starts the program `name`."""
    first, *rest = shlex.split(text)
    return rest if first == name else None


HEADRACE = [(page, words, inline) for page, text, inline in COMMANDS if (words := words_of(text, "headrace"))]


def parse(words: list[str]) -> None:
    """Parse a command line as `headrace` would, without running it."""
    command: click.Command = _cli
    context = click.Context(command, info_name="headrace")
    while isinstance(command, click.Group) and words:
        name, command, words = command.resolve_command(context, words)
        assert command is not None, name
        context = click.Context(command, parent=context, info_name=name, **command.context_settings)
    if "--help" in words:
        return
    with context:
        command.parse_args(context, list(words))
    if context.info_name == "serve":
        parse_flags(context.params["arguments"])


@pytest.mark.parametrize(("page", "words", "inline"), HEADRACE, ids=lambda value: str(value)[:60])
def test_commands_and_their_options_exist(page: str, words: list[str], inline: bool) -> None:
    try:
        parse(words)
    except click.MissingParameter:
        # A name in running text, or a value that is left to the reader.
        assert inline


def test_a_wrong_command_or_option_would_be_found() -> None:
    for line in ("fly", "run a.yaml --json2", "kubeflow compile --help2", "predict --model"):
        with pytest.raises(click.UsageError):
            parse(line.split())
    with pytest.raises(HeadraceError, match=r"nothing"):
        parse(["serve", "push", "--nothing=1"])


@pytest.mark.parametrize("block", BLOCKS, ids=identity)
def test_a_block_is_of_a_kind_that_is_tested(block: Block) -> None:
    assert block.kind in KINDS
    if block.kind == "text":
        before = BLOCKS[BLOCKS.index(block) - 1]
        assert before.page == block.page
        assert before.kind in {"shell", "python", "js"}


def test_no_entry_of_the_table_is_stale() -> None:
    shown = [text for _, text, _ in COMMANDS] + [block.first for block in BLOCKS]
    shown += [command.text for block in BLOCKS if block.kind == "shell" for command in commands(block)]
    shown += [text for _, text in SPANS]
    assert set(NOT_RUN) - {entry for text in shown for entry in not_run(text)} == set()


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "yaml"], ids=identity)
def test_configs_are_valid(block: Block) -> None:
    raw = yaml.safe_load(block.text)
    if not_run(block.first):
        assert not set(raw) & set(RunConfig.model_fields)
    elif "schema_version" in raw:
        RunConfig.model_validate(raw)
    else:
        parse_config({**CONFIG, **raw})


def forms(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a field's value, or each value of its list, may be, references followed."""
    if "$ref" in body:
        yield from forms(SCHEMA["$defs"][body["$ref"].split("/")[-1]])
    for part in (
        *body.get("anyOf", ()),
        *body.get("oneOf", ()),
        *([body["items"]] if "items" in body else ()),
    ):
        yield from forms(part)
    if "properties" in body or "additionalProperties" in body:
        yield body


def below(body: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yield what `name` may be in a value: a key, or a name that a user gives."""
    for form in forms(body):
        values = form.get("additionalProperties")
        found = form.get("properties", {}).get(name, values)
        if isinstance(found, dict):
            yield found


def is_key(path: str) -> bool:
    """Tell whether a dotted path is one of the config's keys."""
    found = [SCHEMA]
    for part in path.split("."):
        found = [one for body in found for one in below(body, part)]
    return bool(found)


KEYS = sorted({
    (page, found[1])
    for page, text in SPANS
    if page != "artifacts.md"
    and (found := re.match(r"((?:\w+)(?:\.\w+)+)(?:[:=] ?.*)?$", text))
    and found[1].split(".")[0] in RunConfig.model_fields
    and not re.search(r"\.(py|json|md|yaml|txt|sh|tflite)$", found[1])
})  # fmt: skip


@pytest.mark.parametrize(("page", "path"), KEYS)
def test_keys_of_the_config_exist(page: str, path: str) -> None:
    assert is_key(path)


def test_a_wrong_key_would_be_found() -> None:
    assert len(KEYS) > 30
    for path in ("training.epoch", "nothing.at", "gates.quality2.min", "kubeflow.volumes.claim"):
        assert not is_key(path), path


FILES = sorted({
    (page, text.split()[0].split("::")[0])
    for page, text in SPANS
    if re.match(r"(?!build)[\w-]+/[\w./-]+\.\w+", text) and (ROOT / text.split("/")[0]).is_dir()
})  # fmt: skip
LINKS = sorted({
    (page, target)
    for page in PAGES
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    if "://" not in target
}, key=str)  # fmt: skip


@pytest.mark.parametrize(("page", "path"), FILES)
def test_files_that_are_named_exist(page: str, path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize(("page", "target"), LINKS, ids=str)
def test_links_lead_somewhere(page: Path, target: str) -> None:
    assert (page.parent / target).exists()


MODULES = sorted({text for _, text in SPANS if re.fullmatch(r"headrace(\.\w+)+", text)})


@pytest.mark.parametrize("module", MODULES)
def test_modules_that_are_named_exist(module: str) -> None:
    folder, _, name = module.rpartition(".")
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        found = None
    assert found or hasattr(import_module(folder), name)


def test_tests_that_are_named_exist() -> None:
    known = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in [file.name, *re.findall(r"def (test_\w+)\(", file.read_text(encoding="utf-8"))]
    }
    texts = [text for _, text in SPANS if "/" not in text]
    named = {name for text in texts for name in re.findall(r"\btest_\w+(?:\.py)?", text)}
    # Names of keys.
    assert named - known == {"test_from", "test_rows", "test_rows_seen"}


@cache
def help_of(script: str) -> str:
    command = [sys.executable, str(ROOT / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("page", "text", "inline"), [one for one in COMMANDS if "benchmarks/" in one[1]])
def test_benchmarks_know_their_options(page: str, text: str, inline: bool) -> None:
    script = next(word for word in shlex.split(text) if word.startswith("benchmarks/"))
    for option in re.findall(r" (--[\w-]+)", text):
        assert f"{option} " in help_of(script)


def test_targets_extras_and_samples_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = metadata("headrace").get_all("Provides-Extra")
    seen = set()
    for _, text, _ in COMMANDS:
        if words := words_of(text, "make"):
            seen.add("target")
            assert re.search(rf"^{words[0]}:", makefile, re.M), text
        elif text.startswith("pip install "):
            seen.add("extra")
            assert re.fullmatch(r"pip install '?\.\[(\w+)\]'?", text)[1] in extras, text
        elif (words := words_of(text, "headrace")) and words[:2] == ["data", "fetch"]:
            seen.add("sample")
            assert words[2] in {*SAMPLES, "NAME"}, text
    assert seen == {"target", "extra", "sample"}


def options_of(command: click.Command, context: click.Context) -> set[str]:
    found = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found |= options_of(inner, context)
    return found


def test_options_in_running_text_exist() -> None:
    known = options_of(_cli, click.Context(_cli)) | {f"--{name}" for name in FLAG_NAMES} | {"--help"}
    named = {option for _, text in SPANS for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", text)}
    assert named - known == set(OTHER_OPTIONS)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "run"], ids=identity)
def test_runs_that_are_shown_have_every_node_and_end(block: Block) -> None:
    assert re.findall(r"^  [✓↺] (\w+) ", block.text, re.M) == [node.id for node in GRAPH]
    (states,) = re.findall(r"^gates +(.*)$", block.text, re.M)
    found = {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", states)}
    assert list(found) == [state for state in STATES if state in found]
    assert f"push; {sum(found.values())} gates: {states}\n" in block.text
    ends = re.findall(r"^(\w+) +\S", block.text[block.text.index("\ngates ") :], re.M)
    assert ends == ["gates", "verdict", "pushed", "pushed", "report", "summary"]


def test_readme_tells_every_state_of_a_gate() -> None:
    (row,) = re.findall(
        r"^\| gates, verdict, push \|.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M
    )
    assert set(re.findall(r"\b[A-Z_]{4,}\b", row)) == set(STATES)


PROGRAMS = sorted(text for _, text in SPANS if text.startswith(("from headrace", "import headrace")))


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_in_running_text_use_what_exists(program: str) -> None:
    tree = ast.parse(program)
    names: dict[str, Any] = {}
    imports = [one for one in tree.body if isinstance(one, ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "<page>", "exec"), names)
    for one in ast.walk(tree):
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Call):
            made = get_type_hints(names[one.value.func.id])["return"]
            assert hasattr(made, one.attr) or one.attr in made.__dataclass_fields__
    assert imports
    assert all(callable(names[name.name]) for one in imports for name in one.names)
