"""What `submit` and `schedule` send: a compiled pipeline (a config is compiled on the way) and parameters."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.data.errors import ConfigError

from .lint import LARGEST_PARAMETERS_BYTES, lint
from .rehearsal import is_pipeline, parsed_parameters
from .resolve import checked_parameters
from .spec import Wishes, load_pipeline

if TYPE_CHECKING:
    from .compile import Compiled

__all__ = ["Submission", "prepared"]


@dataclass(frozen=True)
class Submission:
    """What goes to the server.

    Attributes:
        pipeline: The compiled file.
        name: Name of the pipeline.
        parameters: Values that were given; the others keep the defaults in the file.
        wishes: What the config says of how it is submitted.
    """

    pipeline: Path
    name: str
    parameters: dict[str, Any]
    wishes: Wishes


@contextlib.contextmanager
def prepared(
    source: str,
    overrides: tuple[str, ...],
    params: Sequence[str],
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Submission]:
    """Give what is to be sent, checked.

    Raises:
        ConfigError: If source or parameters are wrong; nothing was sent.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-submit-") as folder:
        pipeline = Path(source)
        if not is_pipeline(pipeline):
            from .compile import compile_pipeline

            made = compile_pipeline(source, Path(folder, "pipeline.yaml"), overrides, tell)
            pipeline = made.path
            _check_whole(made, source)
        elif overrides:
            raise ConfigError(
                f"`--set` goes with a config; `--param` with a pipeline. Received: {overrides[0]}"
            )
        lint(pipeline)
        file = load_pipeline(pipeline)
        given = parsed_parameters(file, params)
        values = {k: v for k, v in checked_parameters(file.parameters, given).items() if k in given}
        size = sum(len(str(value).encode()) for value in values.values())
        if size > LARGEST_PARAMETERS_BYTES:
            raise ConfigError(
                f"all parameters together may be {LARGEST_PARAMETERS_BYTES:,} bytes. Received: {size:,}"
            )
        yield Submission(pipeline, file.name, values, file.wishes)


def _check_whole(made: "Compiled", source: str) -> None:
    """Refuse what would need a file on the volume that nobody has put there."""
    if made.beside is not None:
        raise ConfigError(
            "a config that is too large for arguments must be on the volume before its run. "
            f"Received: {source}",
            f"headrace kubeflow compile {source} tells where it belongs; then submit the pipeline. Or set "
            "kubeflow.config_uri",
        )
