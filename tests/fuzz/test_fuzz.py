"""The fuzzers for a minute: always the same inputs, so that what is red is red again."""

from pathlib import Path

import pytest

from tests.fuzz.surface import failure_of, smallest
from tests.fuzz.surfaces import SURFACES

SEED = 20261125
ROUNDS = 2
SHRINK_S = 45.0


@pytest.mark.long
@pytest.mark.parametrize("name", SURFACES)
async def test_nothing_that_comes_in_breaks_anything(name: str, tmp_path: Path) -> None:
    """For longer, and with other inputs: make fuzz. One daemon gets all rounds, since it is looked over only once."""
    surface = SURFACES[name]()
    inputs = [one for number in range(ROUNDS) for one in surface.made(SEED, number, surface.per_round)]
    error = await failure_of(surface, inputs)
    if error is not None:
        found = await smallest(surface, error, inputs, within_s=SHRINK_S)
        path = found.save(tmp_path)
        pytest.fail(f"{found.error}\n{len(found.inputs)} inputs: python -m tests.fuzz --replay {path}")
