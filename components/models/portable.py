"""Recurrent layers in a form that every runtime can load, while a graph is traced for export.

Keras' own graphs are not: traced where a GPU is, they hold cuDNN operators; elsewhere loops over TensorLists,
which TF Lite cannot convert with a batch of any size. TensorFlow only: exports are TensorFlow's.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

__all__ = ["portable"]


@contextlib.contextmanager
def portable(model: Any) -> Iterator[None]:
    """Let the recurrent layers of `model` compute with plain loops while inside.

    The answers are the same but for rounding. For inference only: nothing of it can be trained.

    Args:
        model: A Keras model; changed while inside only.
    """
    changed = [layer for layer in _recurrent(model) if not layer.unroll]
    before = [getattr(layer, "use_cudnn", None) for layer in changed]
    for layer in changed:
        layer.inner_loop = _Loop(layer)
        if hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False
    try:
        yield
    finally:
        for layer, use_cudnn in zip(changed, before, strict=True):
            del layer.inner_loop
            if use_cudnn is not None:
                layer.use_cudnn = use_cudnn


def _recurrent(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)]


class _Loop:
    """Stands in for `RNN.inner_loop` of one layer."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __call__(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """Return the last output `[rows, n]`, all outputs `[rows, steps, n]` and the last states.

        Without `return_sequences` the second holds the last output alone, `[rows, 1, n]`, as Keras has it.
        """
        layer, steps = self._layer, int(sequences.shape[1])
        states = tf.nest.flatten(initial_state)
        present = None if mask is None else tf.cast(tf.reshape(mask, [-1, steps]), sequences.dtype)
        width = int(tf.nest.flatten(layer.cell.output_size)[0])
        blank = tf.zeros([tf.shape(sequences)[0], width], sequences.dtype)
        every = tf.zeros([tf.shape(sequences)[0], steps, width], sequences.dtype)
        arguments = {"training": False} if layer.cell._call_has_training_arg else {}

        def body(count: Any, output: Any, every: Any, *states: Any) -> Any:
            step = steps - 1 - count if layer.go_backwards else count
            packed = tf.nest.pack_sequence_as(initial_state, list(states))
            new, new_states = layer.cell(tf.gather(sequences, step, axis=1), packed, **arguments)
            kept, written = tf.nest.flatten(new_states), new
            if present is not None:
                here = tf.expand_dims(tf.gather(present, step, axis=1), 1)  # [rows, 1]
                kept = [here * a + (1 - here) * b for a, b in zip(kept, states, strict=True)]
                written = here * new if layer.zero_output_for_mask else here * new + (1 - here) * output
                new = here * new + (1 - here) * output
            if layer.return_sequences:
                # The oldest place goes as the newest comes: a write at a place would need a newer TF Lite.
                every = tf.concat([every[:, 1:], tf.expand_dims(written, 1)], axis=1)
            return (count + 1, new, every, *kept)

        _, last, every, *states = tf.while_loop(
            lambda count, *_: count < steps, body, (tf.constant(0), blank, every, *states)
        )
        outputs = every if layer.return_sequences else tf.expand_dims(last, 1)
        return last, outputs, tf.nest.pack_sequence_as(initial_state, list(states))
