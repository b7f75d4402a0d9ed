"""`python -m tests.fuzz`: looks for inputs that break something, for as long as it is told to.

A failure is made as small as it can be and written to a file; `--replay FILE` gives it to a fresh daemon again.
"""

import argparse
import asyncio
import itertools
import secrets
import sys
import time
from collections import Counter
from pathlib import Path

import click
import uvloop
from inboxd.runtime import logs

from tests.fuzz.surface import Found, failure_of, smallest
from tests.fuzz.surfaces import SURFACES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="the same seed, the same inputs")
    parser.add_argument("--only", choices=sorted(SURFACES), action="append", help="only this surface; may be repeated")
    parser.add_argument("--found", type=Path, default=Path(".fuzz"), help="where failures are written")
    parser.add_argument("--shrink-seconds", type=float, default=180, help="how long to look for a smaller input")
    parser.add_argument("--replay", type=Path, help="give the inputs of this file to a fresh daemon, once")
    options = parser.parse_args()
    logs.set_up(level="critical", log_format="json", stream=sys.stderr)  # of what runs here; daemons have files
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(replay(options.replay) if options.replay else fuzz(options))


async def replay(path: Path) -> int:
    found = Found.read(path)
    error = await failure_of(SURFACES[found.surface](), found.inputs)
    click.echo(f"{found.surface}: {error or 'nothing is wrong any more'}")
    return 0 if error is None else 1


async def fuzz(options: argparse.Namespace) -> int:
    """Round after round of each surface in turn; stops at the first failure."""
    click.echo(f"seed {options.seed}")
    ends = time.monotonic() + options.seconds
    inputs, rounds = Counter[str](), Counter[str]()
    surfaces = [SURFACES[name]() for name in options.only or SURFACES]
    for number in itertools.count():
        for surface in surfaces:
            if time.monotonic() > ends:
                click.echo(
                    ", ".join(f"{name}: {inputs[name]} inputs in {rounds[name]} rounds" for name in sorted(rounds))
                )
                return 0
            made = surface.made(options.seed, number, surface.per_round)
            error = await failure_of(surface, made)
            if error is not None:
                click.echo(f"{surface.name}, round {number}: {error}\nlooking for the smallest input…")
                found = await smallest(surface, error, made, within_s=options.shrink_seconds)
                path = found.save(options.found)
                click.echo(f"{found.error}\n{len(found.inputs)} inputs: {path}\npython -m tests.fuzz --replay {path}")
                return 1
            inputs[surface.name] += len(made)
            rounds[surface.name] += 1
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
