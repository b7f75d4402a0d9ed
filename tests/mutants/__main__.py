"""Change one risky line at a time, in a copy of the tree, and see whether the tests that should notice it do."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

from tests.mutants.mutations import ROOT, Mutation, load, node_ids, places, sources

ENOUGH: Final = 0.95
"""The share of the mutations, but for the equivalent ones, that has to be killed."""
TEST_LIMIT_S: Final = 30
LIMIT_S: Final = 60
"""A mutation that makes its tests hang is killed by that. It has to do so alone on the machine too, at the end."""
# The process ends with the tests, whatever threads a mutation has left hanging.
_RUN: Final = "import os, sys, pytest; code = pytest.main(sys.argv[1:]); sys.stdout.flush(); os._exit(code)"
_PYTEST: Final = ("-c", _RUN, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis")
_PASSED: Final = 0
_NOTICED: Final = frozenset({1, 2, 3, 4})
"""Exit codes of pytest: failed, not collected, crashed, `conftest.py` not imported. The tests are known to exist."""
_NOT_COPIED: Final = (".*", "__pycache__", "build", "dist")


class Verdict(NamedTuple):
    """What came of one mutation."""

    mutation: Mutation
    place: Path
    code: int | None
    """With what pytest ended; None when it took too long."""
    took_s: float

    @property
    def killed(self) -> bool:
        """Whether the tests noticed it."""
        return self.code != _PASSED


class Workshop:
    """A copy of the tree with an interpreter of its own, which imports the copy and nothing else of ours."""

    def __init__(self, folder: Path) -> None:
        self._tree = folder / "tree"
        self._scratch = folder / "tmp"
        shutil.copytree(ROOT, self._tree, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        home = self._tree / ".venv"
        venv.create(home, symlinks=True)
        self._python = home / "bin" / "python"
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
        # A path that is added by a .pth file brings no .pth files of its own: not that of our editable installation.
        (packages / "copy.pth").write_text(f"{self._tree / 'daemon'}\n{sysconfig.get_path('purelib')}\n")
        command = home / "bin" / "inboxd"
        command.write_text(f"#!{self._python}\nimport sys\nfrom inboxd.cli import main\nsys.exit(main())\n")
        command.chmod(0o755)
        self._require_copy()
        subprocess.run([self._python, "-m", "compileall", "-q", "daemon"], check=True, cwd=self._tree)

    def _require_copy(self) -> None:
        """Whoever is started here, the tests or the `inboxd` of the process tests, imports the copy."""
        shown = subprocess.run(
            [self._python, "-c", "import inboxd; print(inboxd.__file__)"],
            capture_output=True,
            text=True,
            check=True,
            cwd=self._tree,
        )
        if not Path(shown.stdout.strip()).is_relative_to(self._tree):
            raise SystemExit(f"not the copy is imported, but {shown.stdout.strip()}")

    def run(self, tests: Iterable[str], *options: str, limit_s: float | None = LIMIT_S) -> int | None:
        """The exit code of pytest, or None when it took too long."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        environment = {**os.environ, "TMPDIR": str(self._scratch), "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            [self._python, *_PYTEST, f"--timeout={TEST_LIMIT_S}", *options, *tests],
            cwd=self._tree,
            env=environment,
            stdout=None if options else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what the tests have started ends with them
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @contextmanager
    def mutated(self, mutation: Mutation, place: Path) -> Iterator[None]:
        """The copy with one mutation in it. Afterwards the file is as old as it was: by that its bytecode is known."""
        path = self._tree / place
        text, stat = path.read_text(encoding="utf-8"), path.stat()
        path.write_text(text.replace(mutation.find, mutation.replace), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def main() -> int:
    """Run the mutations; 0 when enough are killed and none is killed that is called equivalent."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    jobs = 2 * (os.cpu_count() or 1)  # many tests wait more than they work
    parser.add_argument("--jobs", type=int, default=jobs, help="how many at a time")
    parser.add_argument("--only", default="", help="one file, by its name, or those whose `why` has this text")
    options = parser.parse_args()
    every = load()
    wanted = [one for one in every if options.only == one.group] or [one for one in every if options.only in one.why]
    ids = node_ids()
    texts = sources()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        shops: SimpleQueue[Workshop] = SimpleQueue()
        for number in range(options.jobs):
            shops.put(Workshop(Path(folder, str(number))))
        unmutated = shops.get()
        tests = sorted({found for one in wanted for name in one.tests for found in ids[name]})
        if unmutated.run(tests, f"--numprocesses={options.jobs}", limit_s=None) != _PASSED:
            sys.stdout.write("The tests fail without any mutation: what they would say of one is worth nothing.\n")
            return 1
        shops.put(unmutated)

        def judged(mutation: Mutation) -> Verdict:
            shop, since = shops.get(), time.monotonic()
            (place,) = places(mutation, texts)
            try:
                with shop.mutated(mutation, place):
                    code = shop.run(found for name in mutation.tests for found in ids[name])
            finally:
                shops.put(shop)
            if code not in {None, _PASSED, *_NOTICED}:
                raise SystemExit(f"pytest ended with {code} for: {mutation.why}")
            return Verdict(mutation, place, code, time.monotonic() - since)

        with ThreadPoolExecutor(options.jobs) as pool:
            verdicts = list(pool.map(judged, wanted))
        # Many at a time, a machine that is busy with others makes tests slow: that kills nothing.
        verdicts = [judged(one.mutation) if one.code is None else one for one in verdicts]
        return _told(verdicts, time.monotonic() - began)


def _told(verdicts: Sequence[Verdict], took_s: float) -> int:
    """Say what came of it; the exit code."""
    say = sys.stdout.write
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for one in verdicts:
        mutation, outcome = one.mutation, "killed" if one.killed else "survived"
        if one.code is None:
            say(f"HUNG, which counts as killed: {mutation.why}\n")
        if mutation.equivalent:
            outcome = "wrong" if one.killed else "equivalent"
        groups[mutation.group][outcome] += 1
        if outcome in {"survived", "wrong"}:
            why = f"KILLED, but: {mutation.equivalent}" if one.killed else f"SURVIVED: {mutation.why}"
            say(f"{why}\n  {one.place}: {mutation.find.strip()!r}\n  by {', '.join(mutation.tests)}\n")
    for group, found in sorted(groups.items()):
        say(f"{group:12}{found['killed']:4} killed{found['survived']:4} survived{found['equivalent']:4} equivalent\n")
    total = sum(groups.values(), Counter[str]())
    share = total["killed"] / max(1, total["killed"] + total["survived"])
    say(f"{len(verdicts)} in {took_s:.0f} s: {share:.1%} of those that are not equivalent were killed\n")
    for one in sorted(verdicts, key=lambda one: -one.took_s)[:10]:
        say(f"  {one.took_s:4.0f} s: {one.mutation.why}\n")
    return 1 if total["wrong"] or share < ENOUGH else 0


if __name__ == "__main__":
    sys.exit(main())
