"""Every event that the daemon logs is documented, with its level, and nothing else is."""

import ast
from collections import defaultdict
from pathlib import Path

from tests.support import documented_events

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "daemon" / "inboxd").rglob("*.py"))
STORAGE_EVENT = "storage_event"
"""How a worker's schedule names what the loop logs, as a warning, while storage refuses."""
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def logged() -> dict[str, set[str]]:
    """Events in the source; a call through a variable (`log("…")`) counts for the levels that the variable may mean."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        through_variable: list[str] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == STORAGE_EVENT and isinstance(node.value, ast.Constant):
                found[str(node.value.value)].add("warning")
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            event, function = str(node.args[0].value), node.func
            if isinstance(function, ast.Name) and function.id == "log":
                through_variable.append(event)
            elif isinstance(function, ast.Attribute) and function.attr in LEVELS and is_log(function.value):
                found[event].add("error" if function.attr == "exception" else function.attr)
        for event in through_variable:
            found[event] |= chosen_levels(tree)
    return found


def is_log(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "get"
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in {"_log", "log"}


def chosen_levels(tree: ast.Module) -> set[str]:
    """The levels between which `log = self._log.info if … else self._log.error` chooses."""
    return {
        part.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "log" for to in node.targets)
        for part in ast.walk(node.value)
        if isinstance(part, ast.Attribute) and part.attr in LEVELS
    }


def test_every_event_is_documented_with_its_levels() -> None:
    code = logged()
    assert len(code) > 50
    listed = documented_events()
    assert listed.pop("library_message") == {"any"}  # named in a processor
    assert code == listed


def test_what_is_wrong_comes_with_a_remedy() -> None:
    text = (ROOT / "docs" / "log-events.md").read_text(encoding="utf-8")
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    assert {len(row) for row in rows} == {4}
    for event, levels, _, remedy in rows:
        if any(level in levels for level in ("warning", "error", "critical")):
            assert remedy.strip(), event
