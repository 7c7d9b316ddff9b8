"""Commands around models that were pushed: serve, deploy, predict, rollback."""

import os
from pathlib import Path
from typing import Any

import click

from headrace.data.extras import require
from headrace.serving.manifest import CHECKS

from .cli_options import LOCAL_PATH, overrides, with_debug

__all__ = ["SERVING_COMMANDS"]


class _ServeCommand(click.Command):
    """Shows the table of flags, which click does not parse: they keep tensorflow_model_server's ways."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        from headrace.serving.server.flags import describe

        formatter.write("\n" + describe() + "\n")


@click.command(
    "serve",
    cls=_ServeCommand,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="[FLAGS]",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="MODEL_DIR_OR_CONFIG [FLAGS]")
def _serve(arguments: tuple[str, ...]) -> None:
    """Serve a model over REST and gRPC, as TensorFlow Serving does."""
    require("serving")
    from headrace.serving.server.command import run_command

    given = [argument for argument in arguments if argument != "--debug"]
    code = run_command(given, lambda text: click.echo(text, err=True), click.echo)
    if code:
        raise click.exceptions.Exit(code)


@click.group("deploy")
def _deploy() -> None:
    """Files for TensorFlow Serving in production."""


@_deploy.command("render")
@click.argument("config", type=LOCAL_PATH)
@click.option("-o", "--output", type=LOCAL_PATH, default="deploy", show_default=True, help="Folder.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=click.Choice(["compose", "kubernetes", "kserve"]),
    default=["kubernetes"],
    show_default=True,
    help="What to write files for; may be repeated.",
)
@overrides
@click.option("--force", is_flag=True, help="Overwrite files that were edited, or are of another config.")
@with_debug
def _deploy_render(
    config: str, output: str, targets: tuple[Any, ...], overrides: tuple[str, ...], force: bool
) -> None:
    """Write docker compose files, Kubernetes manifests or a KServe InferenceService."""
    from .deploy import render_deployment, report_lines

    for line in report_lines(*render_deployment(config, overrides, output, targets, force=force), config):
        click.echo(line)


@click.command("predict")
@click.argument("bundle", required=False)
@click.argument("rows", required=False, type=LOCAL_PATH)
@click.option("--model", help="http(s)://HOST:8501/v1/models/M, grpc(s)://HOST:8500/M, or a pushed folder.")
@click.option(
    "--input", "source", type=LOCAL_PATH, help="Rows: .csv, .parquet or .jsonl; - is JSON lines on stdin."
)
@click.option(
    "--output",
    default="-",
    type=LOCAL_PATH,
    help="Results: .parquet, .csv or .jsonl; - is JSON lines on stdout.",
)
@click.option(
    "--labels",
    type=LOCAL_PATH,
    default="",
    help="labels.json of a served model, or the folder that holds it.",
)
@click.option("--threshold", type=float, help="Score from which a class is chosen, before labels.json.")
@click.option("--signature", default="serving_raw", show_default=True, help="Signature for rows.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Carry a column to the output; repeatable.")
@click.option("--images", multiple=True, metavar="COLUMN", help="Column of paths of pictures; repeatable.")
@click.option("--ignore-unknown", is_flag=True, help="Pass over columns that the model does not read.")
@click.option("--batch-rows", default=1024, show_default=True, help="Most rows of a request.")
@click.option("--timeout", "timeout_s", default=30.0, show_default=True, help="Seconds for a request.")
@click.option(
    "--check-sums",
    type=click.Choice(CHECKS),
    default="present",
    show_default=True,
    help="What is asked of manifest.json: it must hold where there is one, must be there, or nothing.",
)
@click.option(
    "--ca", "authority", type=LOCAL_PATH, default="", help="PEM file: authority of the server's certificate."
)
@click.option(
    "--cert", "certificate", type=LOCAL_PATH, default="", help="PEM file: certificate of this client."
)
@click.option("--key", type=LOCAL_PATH, default="", help="PEM file: its key.")
@click.option("--allow-ops", default="", help="Operators that a SavedModel may hold at your own risk: A,B.")
@with_debug
def _predict(
    bundle: str | None, rows: str | None, model: str | None, source: str | None, **rest: Any
) -> None:
    """Predict rows with a served model (URL) or a pushed one (folder; TF Lite without TensorFlow).

    `headrace predict BUNDLE [ROWS]` is short for --model and --input, with scores to six places.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from .predict import predict_command

    predict_command((bundle, rows), (model, source), rest, lambda text: click.echo(text, err=True))


@click.command("rollback")
@click.argument("model")
@click.option(
    "--push",
    "push_dir",
    type=LOCAL_PATH,
    default="push",
    show_default=True,
    help="Folder that was pushed to.",
)
@click.option(
    "--to",
    "version",
    type=int,
    default=None,
    help="Version to publish again; default: the one before the latest.",
)
@with_debug
def _rollback(model: str, push_dir: str, version: int | None) -> None:
    """Publish an older version again, as a new highest version."""
    from headrace.components.push.publish import rollback

    done = rollback(Path(push_dir), model, version)
    click.echo(f"version {done.restores} of {model} is published again, as version {done.version}")
    for side, path in done.paths.items():
        click.echo(f"{side}: {path}")


SERVING_COMMANDS: tuple[click.Command, ...] = (_serve, _deploy, _predict, _rollback)
"""In the order in which a newcomer meets them."""
