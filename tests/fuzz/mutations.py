"""Odd JSON and odd bytes: what fuzzers of every surface make their inputs of. All chance is the caller's."""

import copy
import json
import random
import re
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence
from typing import Any, Final

from tests.hostile import ABSENT
from tests.hostile import ODD as ODD_VALUES

MARKUP: Final = "<script>fuzz</script>'\"&amp;"
"""Must never stand in a page as it is."""


class Raw(bytes):
    """JSON text, or what is none, that stands as it is."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object whose members may repeat."""


def nested(depth: int) -> Raw:
    return Raw(b"[" * depth + b"]" * depth)


ODD: Final[list[Any]] = [
    *(value for value in ODD_VALUES if value is not ABSENT and not (isinstance(value, str) and len(value) > 10_000)),
    MARKUP,
    253_402_300_800_000,  # the year 10000
    -62_135_596_800_001,  # before the year 1
    2**53 + 1,
    "9999999999999999",
    "../../../etc/passwd",
    "'; DROP TABLE messages; --",
    "%s%n{0}{}",
    "x" * 2000,
    Raw(b"NaN"),
    Raw(b"-Infinity"),
    Raw(b"1e999"),
    Raw(b"9" * 5000),
    Raw(b"-0"),
    Raw(b'"\\ud800"'),
    Raw(b'"\\udc00\\ud83d"'),
    Raw(b'"\\u0000"'),
    Raw(b'"\xff\xfe"'),
    Raw(b'"caf\xe9"'),
    Raw(b'"\xed\xa0\x80"'),
    Raw(b'"\\x"'),
    Raw(b'"\x01"'),
    nested(50),
    nested(63),
    nested(65),
    nested(990),
    nested(5000),
]
TEXTS: Final = [value for value in ODD if isinstance(value, str) or (isinstance(value, Raw) and value.startswith(b'"'))]
NUMBERS: Final = [value for value in ODD if isinstance(value, int | float)]
LARGE: Final[list[Any]] = ["x" * 300_000, "\u00e9" * 100_000, ["y"] * 20_000, {str(i): i for i in range(20_000)}]
"""These cost something: one in a while."""
PIECES: Final = (
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\r\n", b"%00",
    b"null", b"1e999", b"-1", b"9" * 40, b"%ff", b"\xef\xbb\xbf", b"<", b"=",
)  # fmt: skip

Place = tuple[MutableMapping[str, Any] | MutableSequence[Any], Any]


def encoded(value: Any) -> bytes:
    """JSON text, with Raw and Pairs as they are, and half characters as escapes."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, dict):
        value = Pairs(value.items())
    if isinstance(value, Pairs):
        return b"{" + b",".join(json.dumps(name).encode() + b":" + encoded(inner) for name, inner in value) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(encoded, value)) + b"]"
    return json.dumps(value).encode()


def places(value: Any) -> Iterator[Place]:
    """Everything inside `value` that may be replaced."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict) or type(value[key]) is list:
            yield from places(value[key])


def odd(chance: random.Random, instead_of: Any = None) -> Any:
    """Anything; half of the time of the kind of what it stands for, which comes further."""
    if chance.random() < 0.01:
        return copy.deepcopy(chance.choice(LARGE))
    if chance.random() < 0.5:
        alike = TEXTS if isinstance(instead_of, str) else NUMBERS if isinstance(instead_of, int | float) else ODD
        return copy.deepcopy(chance.choice(alike))
    return copy.deepcopy(chance.choice(ODD))


def mutated(value: Any, chance: random.Random, others: MutableSequence[Any], *, most: int = 3) -> Any:
    """A copy of `value` with up to `most` changes; `others` lend their parts."""
    top = [copy.deepcopy(value)]
    for _ in range(chance.randint(1, most)):
        if spots := list(places(top)):
            chance.choice(_CHANGES)(*chance.choice(spots), chance, others)
    return top[0] if top else odd(chance)


def mutated_bytes(data: bytes, chance: random.Random, *, most: int = 3) -> bytes:
    """A copy of `data` with bytes changed, left out, put in, repeated, or cut off."""
    found = bytearray(data)
    for _ in range(chance.randint(1, most)):
        at = chance.randint(0, len(found))
        end = min(len(found), at + chance.choice((1, 2, 8, 64)))
        match chance.randrange(6):
            case 0:
                del found[at:end]
            case 1:
                found[at:at] = chance.choice(PIECES)
            case 2:
                found[at:at] = found[at:end] * chance.choice((1, 2, 50))
            case 3:
                found[at:end] = bytes(chance.randrange(256) for _ in range(end - at))
            case 4:
                found[at:end] = bytes(byte ^ (1 << chance.randrange(8)) for byte in found[at:end])
            case _:
                del found[at:]
    return bytes(found)


def is_one_element(text: bytes) -> bool:
    """Whether `text` can stand in an array without touching its neighbours, whatever is inside its brackets."""
    bare = re.sub(rb'"(?:[^"\\]|\\.)*+"', b"0", text, flags=re.DOTALL).strip()
    open_brackets: list[int] = []
    for byte in bare:
        if byte in b"[{":
            open_brackets.append(byte)
        elif byte in b"]}":
            if not open_brackets or open_brackets.pop() != byte - 2:
                return False
        elif byte in b'"' or (byte in b"," and not open_brackets):
            return False
    return bool(bare) and not open_brackets


def _replace(container: Any, key: Any, chance: random.Random, _others: MutableSequence[Any]) -> None:
    container[key] = odd(chance, container[key])


def _leave_out(container: Any, key: Any, _chance: random.Random, _others: MutableSequence[Any]) -> None:
    del container[key]


def _twice(container: Any, key: Any, chance: random.Random, _others: MutableSequence[Any]) -> None:
    """The member stands twice, as JSON allows and nobody expects."""
    held = container[key]
    if isinstance(held, dict) and held:
        pairs = Pairs(held.items())
        pairs.insert(chance.randint(0, len(pairs)), (chance.choice(list(held)), odd(chance)))
        container[key] = Raw(encoded(pairs))
    else:
        container[key] = [held, copy.deepcopy(held)]


def _rename(container: Any, key: Any, chance: random.Random, _others: MutableSequence[Any]) -> None:
    if isinstance(container, dict):
        name = chance.choice((MARKUP, "", "\ud800", key.upper(), key + "\x00", "x" * 5000, "__proto__"))
        container[name] = container.pop(key)
    else:
        container.insert(key, odd(chance))


def _wrap(container: Any, key: Any, chance: random.Random, _others: MutableSequence[Any]) -> None:
    container[key] = [container[key]] if chance.random() < 0.5 else {"a": container[key]}


def _splice(container: Any, key: Any, chance: random.Random, others: MutableSequence[Any]) -> None:
    """Something from another input stands there."""
    donor, at = chance.choice(list(places(others)))
    container[key] = copy.deepcopy(donor[at])


def _repeat(container: Any, key: Any, chance: random.Random, _others: MutableSequence[Any]) -> None:
    if type(container) is list:
        container[key:key] = [copy.deepcopy(container[key]) for _ in range(chance.choice((1, 2, 20)))]
    else:
        container[key] = [container[key]] * chance.choice((2, 100))


def _tweak(container: Any, key: Any, chance: random.Random, _others: MutableSequence[Any]) -> None:
    """Nearly what it was."""
    held = container[key]
    if isinstance(held, bool) or held is None:
        container[key] = chance.choice((0, "true", not held))
    elif isinstance(held, int | float):
        container[key] = chance.choice((-held, held * 1000, held * 10**6, held * 10**20, held + 1, str(held), 0.5))
    elif isinstance(held, str):
        text = mutated_bytes(held.encode(errors="replace"), chance, most=1)
        container[key] = chance.choice((text.decode(errors="replace"), Raw(b'"' + _inside(text) + b'"'), held * 50))
    else:
        container[key] = odd(chance)


def _inside(text: bytes) -> bytes:
    """Bytes inside a JSON string: it ends where it should."""
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


_CHANGES: Final[list[Callable[[Any, Any, random.Random, MutableSequence[Any]], None]]] = [
    _replace, _replace, _replace, _leave_out, _twice, _rename, _wrap, _splice, _repeat, _tweak, _tweak,
]  # fmt: skip
