"""How densely the generated service is written, beside packages that read easily.

Tokens are those of Python's tokenizer, without comments, blank lines and docstrings. Only lines on
which such a token begins are counted. A function goes from its `def` to its end.
"""

import ast
import io
import tempfile
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from project import CHOICES

from benchmarks.cores import take_cores
from benchmarks.homes import Homes, homes, render
from benchmarks.options import Options
from benchmarks.results import Results

OTHERS = ("starlette", "procrastinate", "stamina")
IGNORED = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


@dataclass(frozen=True)
class Density:
    """What is counted of some source code."""

    tokens: int
    lines: int
    functions: tuple[int, ...]

    @property
    def values(self) -> dict[str, float]:
        lengths = self.functions or (0,)
        return {
            "tokens a line": self.tokens / max(self.lines, 1),
            "lines": float(self.lines),
            "functions": float(len(self.functions)),
            "median function": float(median(lengths)),
            "longest function": float(max(lengths)),
        }


def run(options: Options) -> Results:
    results = Results("plainness")
    modules = _rendered()
    for name, source in modules.items():
        results.add(name, 1, density(source).values)
    results.add("all of the above", 1, _together(modules.values()).values)
    with homes(take_cores()) as places:
        for package in OTHERS:
            results.measure(f"{package} as installed", 1, partial(_measure, places, package))
    results.note("functions are in lines; without comments, blank lines and docstrings")
    return results


def _measure(places: Homes, package: str) -> dict[str, float]:
    [folder] = places.environment((package,)).glob(f"lib/python*/site-packages/{package}")
    sources = [file.read_text(encoding="utf-8") for file in sorted(folder.rglob("*.py"))]
    return _together(sources).values


def density(source: str) -> Density:
    """Count the tokens, the lines they are on, and the lines of each function."""
    tree = ast.parse(source)
    docstrings = set(_lines_of_docstrings(tree))
    tokens = 0
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in IGNORED or token.start[0] in docstrings:
            continue
        tokens += 1
        lines.add(token.start[0])
    functions = [
        len(lines.intersection(_lines(node)))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return Density(tokens, len(lines), tuple(functions))


def _lines_of_docstrings(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of statements that are a string alone: docstrings."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                yield from _lines(node)


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _together(sources: Iterable[str]) -> Density:
    each = [density(source) for source in sources]
    return Density(
        tokens=sum(one.tokens for one in each),
        lines=sum(one.lines for one in each),
        functions=tuple(length for one in each for length in one.functions),
    )


def _rendered() -> dict[str, str]:
    """Return the modules of a project by name, and those that differ for other choices."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="plainness-") as name:
        for processing in CHOICES["processing"]:
            project = render(Path(name, processing), processing)
            for file in project.files:
                if not file.startswith("app/") or not file.endswith(".py"):
                    continue
                source = project.read(file)
                if not source or found.get(file) == source:
                    continue
                found[f"{file}, {processing}" if file in found else file] = source
    return found
