"""The request log: a sample of requests with their answers, as TFRecord files of PredictionLog.

tensorflow_model_server samples by the model's `logging_config`; so does this log, and by one rate for all
models. Drift monitoring reads the files.
"""

import logging
import queue
import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from headrace.data.errors import ConfigError

from .errors import Code
from .events import Event

__all__ = ["RequestLog"]

_log = logging.getLogger(__name__)

_MOST_WAITING = 256
_MOST_BYTES = 64 << 20
_FIELDS = {
    "Predict": "predict_log",
    "Classify": "classify_log",
    "Regress": "regress_log",
    "MultiInference": "multi_inference_log",
}


class RequestLog:
    """Samples successful requests into `PREFIX-MODEL-TIME.tfrecord`; a listener of the doors.

    Args:
        prefix: Start of the files' paths, for all models; empty for only those with a logging config.
        rate: Share of requests, from 0 to 1.
        seed: Of the sampling.

    Attributes:
        configs: Model name -> its LoggingConfig, or None.

    Raises:
        ConfigError: If the rate is out of range, or the prefix is in no folder.
    """

    def __init__(self, prefix: str, rate: float, seed: int | None = None) -> None:
        if not 0 <= rate <= 1:
            raise ConfigError(f"`--request_log_sampling_rate` must be from 0 to 1. Received: {rate}")
        if prefix and not Path(prefix).absolute().parent.is_dir():
            raise ConfigError(f"`--request_log` must be a prefix in a folder. Received: {prefix}")
        self.configs: Callable[[str], Any] = lambda _: None
        self._prefix = prefix
        self._rate = rate
        self._random = random.Random(seed)
        self._started = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self._waiting: queue.Queue[tuple[str, float, Event] | None] = queue.Queue(_MOST_WAITING)
        self._held = 0
        self._writers: dict[str, Any] = {}
        self._thread: threading.Thread | None = None

    @property
    def wanted(self) -> bool:
        """Whether requests of every model are logged."""
        return bool(self._prefix) and self._rate > 0

    def __call__(self, event: Event) -> None:
        """Log a request, if chance picks it. Never waits: what the disk is too slow for is left out."""
        if event.code is not Code.OK or event.api not in _FIELDS or event.response is None:
            return
        prefix, rate = self._target(event.spec.name)
        if not prefix or self._random.random() >= rate:
            return
        if self._held + event.request_bytes > _MOST_BYTES:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="request-log", daemon=True)
            self._thread.start()
        with suppress(queue.Full):
            self._waiting.put_nowait((prefix, rate, event))
            self._held += event.request_bytes

    def close(self) -> None:
        """Write what waits, and close the files."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(10)
        for writer in self._writers.values():
            writer.close()

    def _target(self, model: str) -> tuple[str, float]:
        config = self.configs(model)
        if config is not None and config.log_collector_config.filename_prefix:
            return config.log_collector_config.filename_prefix, config.sampling_config.sampling_rate
        return self._prefix, self._rate

    def _write(self) -> None:
        while True:
            found = self._waiting.get()
            if found is None:
                return
            prefix, rate, event = found
            self._held -= event.request_bytes
            try:
                self._writer(prefix, event.spec.name).write(_record(event, rate).SerializeToString())
                if self._waiting.empty():
                    for writer in self._writers.values():
                        writer.flush()
            except (OSError, tf.errors.OpError) as error:
                _log.error("a request could not be logged: %s", error)

    def _writer(self, prefix: str, model: str) -> Any:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", model)
        path = f"{prefix}-{name}-{self._started}.tfrecord"
        if path not in self._writers:
            self._writers[path] = tf.io.TFRecordWriter(path)
        return self._writers[path]


def _record(event: Event, rate: float) -> Any:
    record = prediction_log_pb2.PredictionLog()
    metadata = record.log_metadata
    metadata.model_spec.name = event.spec.name
    metadata.model_spec.signature_name = event.spec.signature
    if event.spec.version is not None:
        metadata.model_spec.version.value = event.spec.version
    metadata.sampling_config.sampling_rate = rate
    found = getattr(record, _FIELDS[event.api])
    # The REST door makes the messages only when they are asked for.
    request = event.request() if callable(event.request) else event.request
    response = event.response() if callable(event.response) else event.response
    found.request.CopyFrom(request)
    found.response.CopyFrom(response)
    return record
