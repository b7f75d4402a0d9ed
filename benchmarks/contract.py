"""What users hold on to, as one JSON document: compare two builds of it to see what a change means for them.

    python -m benchmarks.contract --write before.json       # with the build before, from the root of its tree
    python -m benchmarks.contract --compare before.json     # with the build after: prints every difference

It runs the daemon and its commands as anybody would, and imports nothing of them: the HTTP API (the OpenAPI document),
the metrics with their labels, the SQL views with their columns, the commands with their options, the settings of
`config.toml`, and the log events of `docs/log-events.md` (tests hold these to the code).
"""

import argparse
import difflib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks import ingest

INBOXD: Final = str(Path(sys.executable).with_name("inboxd"))
_COMMAND: Final = re.compile(r"^  ([a-z][a-z-]*)(?:  |$)", re.MULTILINE)
_SAMPLE: Final = re.compile(r"^([a-z_]+)(?:\{(.*)\})? \S+$")
_LABEL: Final = re.compile(r'(\w+)="')
_SETTING: Final = re.compile(r"^#? ?([a-z_]+) *= *(.*?)(?: +#.*)?$")


def commands(*path: str) -> dict[str, str]:
    """The help of a command and of everything below it."""
    environment = os.environ | {"COLUMNS": "120"}
    text = subprocess.run([INBOXD, *path, "--help"], check=True, capture_output=True, text=True, env=environment).stdout
    found = {" ".join(["inboxd", *path]): text}
    _, _, below = text.partition("\nCommands:\n")
    for name in _COMMAND.findall(below):
        found |= commands(*path, name)
    return found


def metrics(text: str) -> dict[str, list[str]]:
    """Each metric with its type, its help and the labels of its samples."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            kind, name, *rest = line[2:].split(" ", 2)
            found.setdefault(name, set()).add(" ".join([kind, *rest]))
        elif sample := _SAMPLE.match(line):
            found.setdefault(sample[1], set()).add("labels " + ",".join(_LABEL.findall(sample[2] or "")))
    return {name: sorted(values) for name, values in sorted(found.items())}


def views(database: Path) -> dict[str, list[str]]:
    """The columns of every documented view."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY 1")]
    found = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}
    connection.close()
    return found


def settings() -> dict[str, str]:
    """Every setting that config.toml shows, with its default."""
    section, found = "", {}
    for line in Path("config.toml").read_text().splitlines():
        if header := re.match(r"^#? ?(\[+[a-z_.]+\]+)$", line):
            section = header[1]
        elif setting := _SETTING.match(line):
            found[f"{section} {setting[1]}"] = setting[2]
    return found


def log_events() -> dict[str, str]:
    """Every log event with its levels and fields."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \|", Path("docs/log-events.md").read_text(), re.MULTILINE)
    return {name: f"{levels.strip()}: {fields.strip()}" for name, levels, fields in rows}


def contract() -> dict[str, Any]:
    """The whole of it."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "inboxd.sqlite3")
        with ingest.daemon(database) as server:
            ingest.load(server, 0, requests=10, connections=1)
            server.drained()
            document = json.loads(ingest.get(f"{server.admin}/api/openapi.json"))
            document["info"]["version"] = "any"
            return {
                "api": document,
                "commands": commands(),
                "log events": log_events(),
                "metrics": metrics(ingest.get(f"{server.admin}/metrics")),
                "settings": settings(),
                "views": views(database),
            }


def main() -> None:
    """Write the contract, or print its differences from another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, help="where to write the contract of this build")
    action.add_argument("--compare", type=Path, help="the contract of another build")
    options = parser.parse_args()
    text = json.dumps(contract(), indent=1, sort_keys=True, ensure_ascii=False)
    if options.write is not None:
        options.write.write_text(text)
        return
    before = options.compare.read_text().splitlines()
    differences = list(difflib.unified_diff(before, text.splitlines(), "before", "after", lineterm=""))
    print("\n".join(differences) or "no difference")
    raise SystemExit(bool(differences))


if __name__ == "__main__":
    main()
