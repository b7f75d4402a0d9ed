"""What every fuzzed surface has in common: inputs by chance, a round that judges them, and the smallest that fails."""

import json
import random
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

CORPUS = Path(__file__).parent / "corpus"


class Failure(Exception):  # noqa: N818 - it is what is looked for
    """An invariant does not hold."""


class Surface(ABC):
    """One border of the daemon, and odd things that may come over it."""

    name: ClassVar[str]
    per_round: ClassVar[int]
    """Inputs that are given to one daemon before it is looked over and started again."""

    @abstractmethod
    def make(self, chance: random.Random) -> bytes:
        """An input."""

    @abstractmethod
    async def run(self, folder: Path, inputs: Sequence[bytes]) -> None:
        """Give the inputs to a fresh daemon, and look it over. Raises Failure."""

    def made(self, seed: int, number: int, count: int) -> list[bytes]:
        """The inputs of a round: the same for the same seed and number."""
        chance = random.Random(f"{self.name} {seed} {number}")
        return [self.make(chance) for _ in range(count)]


class Found(NamedTuple):
    """A failure, and the inputs that bring it about."""

    surface: str
    error: str
    inputs: list[bytes]

    def save(self, folder: Path) -> Path:
        """Write it to a file from which it can be replayed."""
        folder.mkdir(parents=True, exist_ok=True)
        texts = [one.decode("latin-1") for one in self.inputs]
        content = json.dumps({"surface": self.surface, "error": self.error, "inputs": texts}, indent=1)
        path = folder / f"{self.surface}-{random.Random(content).randrange(16**8):08x}.json"
        path.write_text(content, encoding="ascii")
        return path

    @classmethod
    def read(cls, path: Path) -> "Found":
        found = json.loads(path.read_text(encoding="ascii"))
        return cls(found["surface"], found["error"], [one.encode("latin-1") for one in found["inputs"]])


async def failure_of(surface: Surface, inputs: Sequence[bytes]) -> str | None:
    """What is wrong when a fresh daemon gets these inputs; None if nothing is."""
    with tempfile.TemporaryDirectory(prefix="inboxd-fuzz-") as folder:
        try:
            await surface.run(Path(folder), inputs)
        except Failure as failure:
            return str(failure)
    return None


async def smallest(surface: Surface, error: str, inputs: Sequence[bytes], *, within_s: float) -> Found:
    """The failure with as few and as short inputs as can be found in that time."""
    found = Found(surface.name, error, list(inputs))
    ends = time.monotonic() + within_s

    async def fails(fewer: list[bytes]) -> bool:
        nonlocal found
        told = await failure_of(surface, fewer) if time.monotonic() < ends else None
        if told is not None:
            found = Found(surface.name, told, fewer)
        return told is not None

    step = len(inputs) // 2
    while step:
        at = 0
        while at < len(found.inputs):
            if not await fails(found.inputs[:at] + found.inputs[at + step :]):
                at += step
        step //= 2
    for number in range(len(found.inputs)):
        step = len(found.inputs[number]) // 2
        while step:
            at = 0
            while at < len(found.inputs[number]) and time.monotonic() < ends:
                one = found.inputs[number]
                shorter = one[:at] + one[at + step :]
                if not await fails([*found.inputs[:number], shorter, *found.inputs[number + 1 :]]):
                    at += step
            step //= 2
    return found
