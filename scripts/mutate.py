"""Break lines at random and see whether a test notices: `python scripts/mutate.py --since COMMIT`.

Run it in a throwaway clone with its own `.venv` (it edits files, and puts them back). Mutants are drawn by a
seed over all places of the files that changed since a commit: comparisons, boolean and arithmetic operators,
conditions, numbers, and statements that only call. For each, the tests nearest to the file (by imports) run
until one fails.
"""

import argparse
import ast
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOMS = ("data", "serving", "components", "pipeline", "kubeflow")
_COMPARE = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "is": "is not", "is not": "is", "in": "not in", "not in": "in",
}  # fmt: skip
_ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*", "|": "&", "&": "|"}
_NEVER_RUN = ("annotation", "returns", "format_spec", "decorator_list")
_SKIPPED = re.compile(r"__all__|TYPE_CHECKING|emit\(|print\(|logging|warnings")


@dataclass(frozen=True)
class Mutant:
    """One change of one file: `old` at characters [start, end) becomes `new`."""

    path: str
    line: int
    start: int
    end: int
    old: str
    new: str


def mutants(path: Path, root: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file, in the order of its syntax tree."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def at(line: int, column: int) -> int:
        # ast counts columns in bytes of UTF-8.
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    def span(tree: ast.expr | ast.stmt) -> tuple[int, int]:
        return at(tree.lineno, tree.col_offset), at(tree.end_lineno or 0, tree.end_col_offset or 0)

    def change(line: int, start: int, end: int, new: str) -> Iterator[Mutant]:
        if not _SKIPPED.search(lines[line - 1]):
            yield Mutant(path.relative_to(root).as_posix(), line, start, end, text[start:end], new)

    def operator(left: ast.expr, right: ast.expr, swaps: dict[str, str]) -> Iterator[Mutant]:
        start, end = span(left)[1], span(right)[0]
        found = text[start:end].strip(" ()\n\\")
        if found in swaps:
            place = text.index(found, start, end)
            yield from change(left.end_lineno or 0, place, place + len(found), swaps[found])

    for tree in _code(ast.parse(text)):
        if isinstance(tree, ast.Compare) and len(tree.ops) == 1:
            yield from operator(tree.left, tree.comparators[0], _COMPARE)
        elif isinstance(tree, ast.BinOp):
            yield from operator(tree.left, tree.right, _ARITHMETIC)
        elif isinstance(tree, ast.BoolOp):
            swaps = {"and": "or", "or": "and"}
            yield from operator(tree.values[0], tree.values[1], swaps)
        elif isinstance(tree, ast.If | ast.IfExp | ast.While):
            start, end = span(tree.test)
            yield from change(tree.test.lineno, start, end, f"(not ({text[start:end]}))")
        elif isinstance(tree, ast.Constant) and type(tree.value) in (int, float):
            start, end = span(tree)
            more = str(tree.value + 1) if isinstance(tree.value, int) else repr(tree.value * 1.1 + 0.01)
            yield from change(tree.lineno, start, end, more)
        elif isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Call):
            start, end = span(tree)
            yield from change(tree.lineno, start, end, "pass")


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree that run: no annotations, no field limits in them, no f-string formats."""
    for name, value in ast.iter_fields(tree):
        if name in _NEVER_RUN or isinstance(tree, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from _code(child)


def nearest_tests(path: str, root: Path, most: int = 8) -> list[str]:
    """Return test files by how near their imports are to a module: itself first, then what imports it."""
    files = [file for room in (*ROOMS, "tests") for file in (root / room).rglob("*.py")]
    imports = {file: set(_imports(file, root)) for file in files}
    wanted = {_module(root / path, root)}
    found: list[str] = []
    for _ in range(4):
        reached = {file for file, names in imports.items() if names & wanted}
        tests = [file for file in reached if file.name.startswith("test_")]
        named = Path(path).stem
        tests.sort(key=lambda file: (named not in file.stem, "e2e" in file.parts, str(file)))
        found += [str(file.relative_to(root)) for file in tests if str(file.relative_to(root)) not in found]
        wanted |= {_module(file, root) for file in reached}
        if len(found) >= most:
            break
    return found[:most]


def _module(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(("headrace", *(part for part in parts if part != "__init__")))


def _imports(file: Path, root: Path) -> Iterator[str]:
    package = _module(file, root).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    for statement in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            above = package[: len(package) - statement.level + 1] if statement.level else []
            base = ".".join((*above, *((statement.module,) if statement.module else ())))
            yield base
            yield from (f"{base}.{alias.name}" for alias in statement.names)


def verdict(mutant: Mutant, root: Path, timeout_s: float) -> str:
    """Write a mutant, run the tests nearest to it, put the file back; return killed, survived or slow."""
    path = root / mutant.path
    whole = path.read_text(encoding="utf-8")
    tests = nearest_tests(mutant.path, root)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow and not distributed"]
    try:
        path.write_text(whole[: mutant.start] + mutant.new + whole[mutant.end :], encoding="utf-8")
        deadline = time.monotonic() + timeout_s
        for test in tests:
            left = deadline - time.monotonic()
            if left < 1:
                return "survived (time)"
            patience = max(left, 60)
            done = subprocess.run(
                [*command, test], cwd=root, capture_output=True, timeout=patience, check=False
            )
            if done.returncode not in (0, 5):
                return f"killed by {test}"
    except subprocess.TimeoutExpired:
        return "killed by a time-out"
    finally:
        path.write_text(whole, encoding="utf-8")
    return f"survived {', '.join(tests) or 'no test'}"


def main() -> None:
    """Draw mutants and print a JSON line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--since", required=True, help="commit; files changed after it are mutated")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=20261129)
    parser.add_argument("--part", default="0/1", help="i/n: every n-th mutant, from the i-th on")
    parser.add_argument("--timeout", type=float, default=240, help="seconds of tests a mutant")
    options = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    changed = subprocess.run(
        ["git", "diff", "--name-only", "--diff-filter=AMR", f"{options.since}..HEAD", "--", *ROOMS],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    every = [m for name in sorted(changed) if name.endswith(".py") for m in mutants(root / name, root)]
    drawn = random.Random(options.seed).sample(every, min(options.count, len(every)))
    part, parts = (int(number) for number in options.part.split("/"))
    for number, mutant in enumerate(drawn):
        if number % parts == part:
            told = {"number": number, **asdict(mutant), "verdict": verdict(mutant, root, options.timeout)}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
