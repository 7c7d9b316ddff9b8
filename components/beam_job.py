"""One Beam job of a node on an engine of its own: start it, wait for it, tell what its workers met."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from headrace.data.errors import ConfigError, DataRejected, EnvironmentProblem, HeadraceError

__all__ = ["beam_job"]

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
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners.runner import create_runner

    # What flows through is named by type hints of several libraries, which contradict each other.
    options = PipelineOptions(list(beam_args), pipeline_type_check=False)
    made = create_runner(options.view_as(StandardOptions).runner)
    servers = _kept_servers(made)
    yield (pipeline := beam.Pipeline(runner=made, options=options))
    try:
        _run(pipeline)
    except HeadraceError:
        raise
    except Exception as error:  # each runner has its own types; the text is all that they share
        raise _translated(error, runner) from error
    finally:
        for server in servers:
            server.stop()


def _run(pipeline: Any) -> None:
    result = pipeline.run()
    try:
        result.wait_until_finish()
    except Exception:
        raise
    except BaseException:
        # The node is told to stop: the cluster must not go on alone.
        with suppress(Exception):
            result.cancel()
        raise


class _Server:
    """A job server in a session of its own, stopped by us.

    Beam's own wrapper stops it on Ctrl-C, before its job can be cancelled, and when the interpreter exits,
    which a step's process skips.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._started = False
        command = server.subprocess_cmd_and_endpoint
        server.subprocess_cmd_and_endpoint = lambda: _in_own_session(*command())

    def start(self) -> Any:
        service = self._server.start()
        self._started = True
        return service

    def stop(self) -> None:
        if self._started:
            self._started = False
            self._server.stop()


def _in_own_session(command: Sequence[str], endpoint: str) -> tuple[list[str], str]:
    return [sys.executable, "-m", "headrace.components.beam_server", *command], endpoint


def _kept_servers(runner: Any) -> list[_Server]:
    """Return a list that will hold the job servers that the runner starts."""
    servers: list[_Server] = []
    make = getattr(runner, "default_job_server", None)
    if make is not None:

        def keep(options: Any) -> Any:
            made = make(options)
            server = getattr(made, "_job_server", made)
            if not hasattr(server, "subprocess_cmd_and_endpoint"):
                return made
            servers.append(_Server(server))
            return servers[-1]

        runner.default_job_server = keep
    return servers


def _translated(error: Exception, runner: str) -> HeadraceError:
    text = str(error)
    raised = _RAISED.search(text)
    if raised is not None:
        return _OURS[raised[1]](raised[2].strip())
    said = " ".join(text.split()) or type(error).__name__  # gRPC's time-outs say nothing
    hint = "see the node's log and the engine's own"
    if "fetch remote prism" in said:
        hint = "`beam.location` names a Prism binary that is here already; `go install` makes one"
    return EnvironmentProblem(
        f"the Beam job must end well on {runner}. Received: {said[-_SHOWN_CHARACTERS:]}", hint
    )
