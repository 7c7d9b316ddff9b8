"""The `Input` of classify, regress and multi-inference requests, as serialized examples."""

from typing import Any

__all__ = ["serialized_examples"]


def serialized_examples(proto: Any) -> list[bytes]:
    """Return every example of an `Input`, its context merged in.

    A serialized message that follows another one is merged into it: the context's bytes come first.
    """
    kind = proto.WhichOneof("kind")
    if kind == "example_list":
        return [example.SerializeToString() for example in proto.example_list.examples]
    if kind == "example_list_with_context":
        found = proto.example_list_with_context
        context = found.context.SerializeToString()
        return [context + example.SerializeToString() for example in found.examples]
    return []
