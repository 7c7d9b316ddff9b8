"""The search space and its values as Keras Tuner has them."""

import json
from collections.abc import Mapping
from typing import Any

import keras_tuner
from keras_tuner.engine import hyperparameters as kinds
from keras_tuner.src.engine.conditions import Parent  # in no public module of Keras Tuner 1.4.8

from .conditions import active_fields, in_order
from .config import SearchRange
from .space import choice_kind

__all__ = ["decode_values", "encode_values", "make_space"]


def make_space(search_ranges: Mapping[str, SearchRange]) -> keras_tuner.HyperParameters:
    """Return the search space as Keras Tuner's hyperparameters, named by dotted field."""
    space = keras_tuner.HyperParameters()
    for field in in_order(search_ranges):
        limits = search_ranges[field]
        shared: dict[str, Any] = {
            "name": field,
            "conditions": [
                Parent(parent, [_encode(search_ranges[parent], value) for value in values])
                for parent, values in limits.when.items()
            ],
        }
        sampling = "log" if limits.log else "linear"
        if limits.float is not None:
            low, high = limits.float
            one = kinds.Float(min_value=low, max_value=high, step=limits.step, sampling=sampling, **shared)
        elif limits.int is not None:
            step = None if limits.step is None else int(limits.step)
            first, last = limits.int
            one = kinds.Int(min_value=first, max_value=last, step=step, sampling=sampling, **shared)
        else:
            values = [_encode(limits, value) for value in limits.choice]
            one = kinds.Choice(values=values, ordered=choice_kind(limits.choice) == "number", **shared)
        space.merge([one])
    return space


def decode_values(search_ranges: Mapping[str, SearchRange], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return Keras Tuner's values as the config's.

    JSON text is parsed; the tuner's own entries are left out, and so are fields that take no part.
    """
    found = {
        field: _decode(search_ranges[field], values[field]) for field in search_ranges if field in values
    }
    return {field: found[field] for field in active_fields(search_ranges, found)}


def _encode(limits: SearchRange, value: Any) -> Any:
    return json.dumps(value) if limits.choice and choice_kind(limits.choice) == "json" else value


def _decode(limits: SearchRange, value: Any) -> Any:
    return json.loads(value) if limits.choice and choice_kind(limits.choice) == "json" else value


def encode_values(search_ranges: Mapping[str, SearchRange], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config's values as Keras Tuner's."""
    return {field: _encode(search_ranges[field], value) for field, value in values.items()}
