"""What the documentation shows: fenced blocks, the commands in them, and code in running text."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_SHELL = ("", "sh", "bash", "console")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: File name of its page.
        line: Line of the page on which it starts.
        kind: "shell", "run" (what a run prints), "error" (an error's lines), "text" (what the block above
            prints), or the language.
        text: Its content.
    """

    page: str
    line: int
    kind: str
    text: str

    @property
    def first(self) -> str:
        """Its first line, by which tables name it."""
        return self.text.split("\n", 1)[0]


@dataclass(frozen=True)
class Command:
    """A shell command and what the same block says that it prints, or None."""

    text: str
    output: str | None = None


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page.name, text[: found.start()].count("\n") + 1, _kind(found[1], found[2]), found[2])
        for found in _BLOCK.finditer(text)
    ]


def _kind(language: str, text: str) -> str:
    if language not in (*_SHELL, "text"):
        return language
    if re.match(r"headrace \w+  run \d{8}-", text):
        return "run"
    if text.startswith("error: "):
        return "error"
    return "text" if language == "text" else "shell"


def commands(block: Block) -> list[Command]:
    """Return the commands of a shell block; where they are marked by `$`, each with the lines below it."""
    if not re.search(r"^\$ ", block.text, re.MULTILINE):
        return [Command(text) for text in _logical_lines(block.text)]
    found = []
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        (text, *rest) = _logical_lines(part)
        found.append(Command(text, "\n".join(rest) or None))
    return found


def _logical_lines(text: str) -> list[str]:
    """Join lines that one command goes over: by a backslash, a pipe, an open quote or a here-document."""
    found: list[str] = []
    waiting = ""
    for line in text.splitlines():
        waiting = f"{waiting}\n{line}" if waiting else line
        here = re.search(r"<<'(\w+)'", waiting)
        open_quote = re.sub(r"\s# .*", "", waiting).count("'") % 2 == 1
        if (here and line != here[1]) or line.rstrip().endswith(("\\", "|")) or (not here and open_quote):
            continue
        if waiting.strip():
            found.append(waiting)
        waiting = ""
    assert not waiting, f"a command is never ended: {waiting}"
    return found


def spans(page: Path) -> list[str]:
    """Return what stands between single backticks outside of blocks, on one line each."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(found.split()) for found in _SPAN.findall(text)]
