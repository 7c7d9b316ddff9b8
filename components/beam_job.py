"""One Beam job of a node on an engine of its own: start it, wait for it, tell what its workers met."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from headrace.data.errors import ConfigError, DataRejected, EnvironmentProblem, HeadraceError

__all__ = ["beam_job", "record_shards"]

_OURS = {kind.__name__: kind for kind in (ConfigError, DataRejected, EnvironmentProblem)}
_RAISED = re.compile(rf"headrace\.data\.errors\.({'|'.join(_OURS)}): ([^\n]+)")
_SHOWN_CHARACTERS = 400


@contextmanager
def beam_job(beam_args: Sequence[str], runner: str) -> Iterator[Any]:
    """Give a pipeline to build; it runs, and is waited for, at the end of the block.

    Args:
        beam_args: Beam pipeline options, runner included.
        runner: Name of the engine, for errors.

    Raises:
        HeadraceError: What a worker raised of headrace's own; only its text crosses the engine.
        EnvironmentProblem: If the job failed for another reason.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    # What flows through is named by type hints of several libraries, which contradict each other.
    options = PipelineOptions(list(beam_args), pipeline_type_check=False)
    pipeline = beam.Pipeline(options=options)
    yield pipeline
    try:
        pipeline.run().wait_until_finish()
    except HeadraceError:
        raise
    except Exception as error:  # each runner has its own types; the text is all that they share
        raise _translated(error, runner) from error


def record_shards(examples: str, split: str) -> list[str]:
    """Return the record files of a split, in order."""
    return sorted(glob.glob(os.path.join(glob.escape(examples), f"Split-{split}", "*.gz")))


def _translated(error: Exception, runner: str) -> HeadraceError:
    text = str(error)
    raised = _RAISED.search(text)
    if raised is not None:
        return _OURS[raised[1]](raised[2].strip())
    said = " ".join(text.split())
    return EnvironmentProblem(
        f"the Beam job must end well on {runner}. Received: {said[-_SHOWN_CHARACTERS:]}",
        "see the node's log and the engine's own",
    )
