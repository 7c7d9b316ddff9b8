"""A URI where a path is meant: refused in every config key and on every command line that takes a path."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args

import click
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from headrace.data.errors import ConfigError
from headrace.data.local_path import check_local
from headrace.kubeflow.cli import group
from headrace.pipeline.cli import _cli
from headrace.pipeline.config import RunConfig, parse_config
from tests.pipeline.test_config import GOOD, changed

URIS = ("s3://bucket/x", "gs://bucket/x", "hdfs://host:1/x", "file:///tmp/x", "s3:/bucket/x", " abfs://b@c/x")
FETCHED = {"weights", "job_server_jar", "location"}
"""Keys whose files are fetched where they are URIs."""
REMOTE = {"temp_location", "staging_location", "config_uri", "uri"}
"""Keys that must be URIs, or may be."""
NAMED = re.compile(
    r"(^|_)(path|dir|directory|folder|file|runs|push|root|mount|jar|location|weights|uri)$|^kubeflow\.data$"
)


def texts(model: type[BaseModel], place: str = "", seen: frozenset[type] = frozenset()) -> Iterator[Any]:
    """Yield (dotted path, field) of every key that is a text, through unions, lists and mappings."""
    for name, field in model.model_fields.items():
        below = f"{place}.{name}" if place else name
        if (
            str in get_args(field.annotation)
            or field.annotation is str
            or any(map(_is_text, get_args(field.annotation)))
        ):
            yield below, field
        for child in _sections(field.annotation):
            if child not in seen:
                yield from texts(child, below, seen | {child})


def _is_text(annotation: Any) -> bool:
    return bool(get_args(annotation)) and get_args(annotation)[0] is str


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _sections(argument)]


def taken(field: FieldInfo, value: str) -> bool:
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


PATHS = {
    place: field
    for place, field in texts(RunConfig)
    if NAMED.search(place.rpartition(".")[2]) or NAMED.search(place)
}


def test_the_walk_finds_the_paths_of_the_config() -> None:
    assert {
        "data.path", "validation.schema_path", "model.weights", "output.runs", "output.push", "beam.location",
        "metadata.password_file", "kubeflow.data", "kubeflow.root", "kubeflow.volume.mount",
        "beam.job_server_jar", "kubeflow.volume.sub_path", "deploy.models.folder",
    } <= PATHS.keys()  # fmt: skip


@pytest.mark.parametrize("place", [p for p in PATHS if p.rpartition(".")[2] not in FETCHED | REMOTE])
def test_every_key_that_is_a_path_refuses_uris(place: str) -> None:
    assert [uri for uri in URIS if taken(PATHS[place], uri)] == []


@pytest.mark.parametrize("place", [p for p in PATHS if p.rpartition(".")[2] in FETCHED])
def test_what_is_fetched_may_have_a_scheme_that_is_known(place: str) -> None:
    assert taken(PATHS[place], "https://host/x")
    assert taken(PATHS[place], "s3://bucket/x")
    assert not taken(PATHS[place], "nosuch://bucket/x")
    assert not taken(PATHS[place], "s3:/bucket/x")


@pytest.mark.parametrize(
    "place", ["data.path", "validation.schema_path", "output.push", "output.runs", "kubeflow.data"]
)
def test_says_which_key(place: str) -> None:
    rule = "a path must be one of this machine: URIs are not supported here yet"
    message = rf"{rule}. Received: s3://b/x \({place} in demo.yaml\)"
    with pytest.raises(ConfigError, match=message):
        parse_config(changed(place, "s3://b/x"), place="demo.yaml")


@pytest.mark.parametrize(
    "path", ["x", "/a/b", "../a b/*.csv", "a:b/c", "C:/data", "{YYYY}/x", "", "a/{0..3}:x"]
)
def test_a_path_is_taken_as_it_is(path: str) -> None:
    assert check_local(path) == path


def test_the_good_config_is_good() -> None:
    assert parse_config(GOOD).output.push == "./push"


def commands(command: click.Command, name: str = "headrace") -> Iterator[tuple[str, click.Parameter]]:
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from commands(child, f"{name} {child.name}")
    for parameter in command.params:
        yield f"{name} {parameter.opts[0]}", parameter


FREE = {
    "--label", "--set", "--set-text", "--host", "--namespace", "--service-account", "--experiment", "--name",
    "--param", "--cron", "--secret", "--signature", "--keep", "--images", "--span", "--config-sha256",
    "--run-id", "--executor-input", "--target", "run_id", "name", "node_id", "step", "arguments", "model",
    "--allow-ops",
}  # fmt: skip
"""Options and arguments that are no paths."""
URLS = {"--model", "bundle", "--metadata", "--config"}
"""Those that may be URLs: of a served model, a database, a packed config."""


PATH_OPTIONS = [
    pytest.param(parameter, id=place)
    for place, parameter in [*commands(_cli), *commands(group, "headrace kubeflow")]
    if (isinstance(parameter.type, click.Path) or parameter.type is click.STRING)
    and place.split()[-1] not in FREE | URLS
]


@pytest.mark.parametrize("parameter", PATH_OPTIONS)
def test_every_path_on_the_command_line_refuses_uris(parameter: click.Parameter) -> None:
    for uri in URIS:
        with pytest.raises(ConfigError, match=r"URIs are not supported here yet. Received: .*:/"):
            parameter.type.convert(uri, parameter, None)
    assert parameter.type.convert("some/where", parameter, None) == "some/where"


def test_the_walk_finds_the_paths_of_the_command_line() -> None:
    assert len(PATH_OPTIONS) >= 25
