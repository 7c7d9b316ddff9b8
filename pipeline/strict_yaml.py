"""YAML as configs are written in it: a key once, and no more values than a person could mean."""

from typing import Any

import yaml

from headrace.data.errors import ConfigError

__all__ = ["load_yaml"]

_MOST_NODES = 100_000
"""Values of a config with its aliases written out; a few lines can stand for billions."""

_MERGE = "tag:yaml.org,2002:merge"


def load_yaml(text: str) -> Any:
    """Return what a YAML text says.

    Raises:
        ConfigError: If a key stands twice, an alias within what it names, or the values are too many.
        yaml.YAMLError: If it is no YAML.

    Example:
        >>> load_yaml("a: &few [1, 2]\\nb: *few")
        {'a': [1, 2], 'b': [1, 2]}
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except RecursionError:
        raise ConfigError("a config must not be nested deeper than Python reads. Received: deeper") from None


class _StrictLoader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but a key given twice is an error instead of the last one winning.

    So is an alias within what it stands for, and a file of more than `_MOST_NODES` values once aliases are
    written out.
    """

    def get_single_node(self) -> Any:
        tree = super().get_single_node()
        if tree is not None:
            _count_nodes(tree, {})
        return tree


def _construct_mapping(loader: _StrictLoader, tree: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node in (node for node, _ in tree.value if node.tag != _MERGE):
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            line = key_node.start_mark.line + 1
            raise ConfigError(f"a key must be given once. Received: `{key}` again on line {line}")
        seen.add(key)
    loader.flatten_mapping(tree)  # what is merged comes first, so that a key beside it wins
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
        for key, value in tree.value
    }


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def _count_nodes(tree: yaml.Node, counts: dict[int, int | None]) -> int:
    """Return how many values `tree` holds where each alias counts as all that it stands for.

    Args:
        tree: What the file says.
        counts: Id of a node -> its count; None while it is being counted.

    Raises:
        ConfigError: If they are too many, or without end.
    """
    known = counts.get(id(tree), 0)
    line = tree.start_mark.line + 1
    if known is None:
        raise ConfigError(f"an alias must not stand within what it names. Received: one on line {line}")
    if known:
        return known
    counts[id(tree)] = None
    children = [] if isinstance(tree, yaml.ScalarNode) else tree.value
    parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
    total = 1 + sum(_count_nodes(part, counts) for part in parts)
    if total > _MOST_NODES:
        raise ConfigError(
            f"a config must hold at most {_MOST_NODES:,} values, aliases written out. "
            f"Received: {total:,} below line {line}"
        )
    counts[id(tree)] = total
    return total
