"""The participants of the simulated Instagram: invented, and the same every time."""

import hashlib
from typing import Final, NamedTuple

_FIRST_IGSID: Final = 7_000_000_000_000_000
_GIVEN: Final = (
    "Ana", "Bruno", "Chloé", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Inés", "Jonas", "Keiko", "Léa", "Mateo",
    "Nadia", "Óscar", "Priya", "Quentin", "Rosa", "Søren", "Tomás", "Uma", "Valentina", "Wanjiru", "Ximena", "Yusuf",
    "Zoë", "明美", "Дарья", "Ελένη", "محمد", "נועה", "지우", "अनिका", "สมชาย", "李伟",
)  # fmt: skip
_FAMILY: Final = (
    "Almeida", "Berg", "Castillo", "Dubois", "Eriksen", "Fontana", "García", "Haddad", "Ivanov", "Jansen", "Kowalska",
    "Lindqvist", "Moreau", "Nakamura", "Okafor", "Pereira", "Quispe", "Rossi", "Schäfer", "Tanaka", "Ünal", "Varga",
)  # fmt: skip
_HANDLES: Final = (
    "amber", "brook", "cedar", "dune", "ember", "fjord", "grove", "harbor", "iris", "juniper", "kite", "lark", "maple",
    "north", "olive", "pebble", "quill", "river", "sage", "thistle", "umber", "violet", "willow", "yarrow", "zephyr",
)  # fmt: skip


class Person(NamedTuple):
    """Somebody with an Instagram account. Some have no name or no picture, as on Instagram."""

    igsid: str
    username: str
    name: str | None
    has_picture: bool
    follower_count: int
    is_verified: bool
    follows_business: bool


def igsid(number: int) -> str:
    """The Instagram-scoped id of person `number`."""
    return str(_FIRST_IGSID + number)


def person(who: str) -> Person | None:
    """The person with an IGSID, or None if there is nobody with that id."""
    if not (who.isascii() and who.isdigit()) or not _FIRST_IGSID <= int(who) < _FIRST_IGSID + 10**9:
        return None
    digest = hashlib.sha256(who.encode()).digest()
    given, family = _GIVEN[digest[0] % len(_GIVEN)], _FAMILY[digest[1] % len(_FAMILY)]
    first, second = _HANDLES[digest[2] % len(_HANDLES)], _HANDLES[digest[3] % len(_HANDLES)]
    return Person(
        igsid=who,
        username=f"{first}.{second}_{int(who) % 10_000}",
        name=None if digest[4] % 12 == 0 else f"{given} {family}" if given.isascii() else given,
        has_picture=digest[5] % 7 != 0,
        follower_count=int.from_bytes(digest[6:8], "big"),
        is_verified=digest[8] % 40 == 0,
        follows_business=digest[9] % 3 == 0,
    )
