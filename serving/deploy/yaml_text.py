"""YAML from plain data, with comments."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

__all__ = ["Document", "Path", "yaml_text"]

Path = tuple[str | int, ...]
"""Keys and positions that lead to a value."""

Document = tuple[Mapping[str, Any], Mapping[Path, str]]
"""Data, and comments that go above the values that their paths lead to; () is the document's head."""

_WIDTH = 100
# YAML 1.2 and Go read these as numbers or dates, where PyYAML's YAML 1.1 sees text.
_NUMBER = re.compile(r"[-+]?(\.\d+|\d[\d_]*(\.[\d_]*)?)([eE][-+]?\d+)?|0o[0-7]+|[\d:.-]+")


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else '"' if _NUMBER.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)


def yaml_text(documents: Sequence[Document]) -> str:
    """Return documents as one YAML text; reading it gives the same data back.

    Raises:
        KeyError: If a comment's path leads nowhere.
    """
    return "---\n".join(_commented(dict(data), comments) for data, comments in documents)


def _commented(data: Any, comments: Mapping[Path, str]) -> str:
    text = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=1_000_000, allow_unicode=True
    )
    lines = text.splitlines(keepends=True)
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    above: dict[int, list[str]] = {}
    for path, comment in comments.items():
        line, column = _place(tree, path)
        above.setdefault(line, []).extend(_wrapped(comment, column))
    return "".join("".join(above.get(number, ())) + line for number, line in enumerate(lines))


def _place(tree: Any, path: Path) -> tuple[int, int]:
    """Return the line and column at which the entry of `path` begins."""
    if not path:
        return 0, 0
    node, mark = tree, tree.start_mark
    for part in path:
        if isinstance(node, yaml.SequenceNode):
            node = node.value[int(part)]
            mark = node.start_mark
            continue
        pairs = {key.value: (key, value) for key, value in node.value}
        key, node = pairs[str(part)]
        mark = key.start_mark
    column = mark.column
    if isinstance(path[-1], int):
        column -= 2  # the dash
    return mark.line, column


def _wrapped(comment: str, column: int) -> list[str]:
    """Return a comment's lines, indented and at most a hundred characters wide."""
    lines: list[str] = []
    for part in comment.splitlines():
        current = ""
        for word in part.split():
            if current and len(current) + len(word) + column + 3 > _WIDTH:
                lines.append(current)
                current = ""
            current = f"{current} {word}".strip()
        lines.append(current)
    return [" " * column + f"# {line}".rstrip() + "\n" for line in lines]
