"""The driver of the `baseline` node: which version is live is part of its cache key."""

import json
from typing import Any

from tfx.dsl.components.base import base_driver
from tfx.orchestration.portable import base_driver as portable_driver
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils

from headrace.components.node import placed_config
from headrace.components.push.baseline import choose

__all__ = ["LiveDriver"]


class LiveDriver(base_driver.BaseDriver, portable_driver.BaseDriver):
    """Finds the baseline of the candidate before the cache is asked.

    An unchanged rerun, whose model went live in between, meets the same baseline as the run before it, and
    stays cached.
    """

    def run(self, execution_info: Any) -> Any:
        """Return the execution property `baseline`: what is live, as JSON."""
        inputs = {
            name: artifact_utils.get_single_uri(items) for name, items in execution_info.input_dict.items()
        }
        config = placed_config(execution_info.exec_properties["config"])
        live = choose(config, inputs["model"], inputs["variants"])
        output = driver_output_pb2.DriverOutput()
        output.exec_properties["baseline"].string_value = json.dumps(live.to_json())
        return output
