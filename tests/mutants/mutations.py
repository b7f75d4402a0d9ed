"""The mutations of risky lines, as data: what is changed, what that would do to somebody, which tests see it."""

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = Path("daemon/inboxd")
_SUFFIXES: Final = frozenset({".py", ".sql", ".html", ".js", ".css"})


class Mutation(NamedTuple):
    """One change of one place. `equivalent` says why no test can see it, for one that survives as it should."""

    group: str
    why: str
    find: str
    replace: str
    tests: tuple[str, ...]
    equivalent: str = ""


def load() -> list[Mutation]:
    """Every mutation, by its group (the file that it stands in)."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]
        found += [Mutation(group=path.stem, **{**one, "tests": tuple(one["tests"])}) for one in entries]
    return found


def sources(root: Path = ROOT) -> dict[Path, str]:
    """The text of every source file, by its path from `root`."""
    files = sorted(path for path in (root / SOURCE).rglob("*") if path.suffix in _SUFFIXES)
    return {path.relative_to(root): path.read_text(encoding="utf-8") for path in files}


def places(mutation: Mutation, texts: Mapping[Path, str]) -> list[Path]:
    """The files in which the place stands, each as often as it stands there: it should be one."""
    return [path for path, text in texts.items() for _ in range(text.count(mutation.find))]


def node_ids() -> dict[str, list[str]]:
    """The node ids of all test functions, by their names."""
    found = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, inside in _tests_in(ast.parse(path.read_text(encoding="utf-8"))):
            found[name].append("::".join([str(path.relative_to(ROOT)), *inside, name]))
    return found


def _tests_in(node: ast.Module | ast.ClassDef, inside: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    for one in node.body:
        if isinstance(one, ast.ClassDef):
            yield from _tests_in(one, (*inside, one.name))
        elif isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name.startswith("test_"):
            yield one.name, inside
