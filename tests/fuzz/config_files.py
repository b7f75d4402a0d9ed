"""Configuration files and variables: a clear error, or settings with which a daemon runs; never a traceback."""

import asyncio
import random
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final

from inboxd.config.loading import load_settings
from inboxd.config.schema import concerns
from inboxd.config.secrets import load_secrets
from inboxd.runtime.errors import ConfigError

from tests.e2e.conftest import Process
from tests.fuzz.mutations import MARKUP, mutated_bytes
from tests.fuzz.surface import Failure, Surface

DEFAULT: Final = Path(__file__).parent.parent.parent / "config.toml"
VALUES: Final = (
    b"0", b"-1", b"1", b"65536", b"1e400", b"nan", b"inf", b"-inf", b"0x7f", b"1.5", b"9" * 20, b"9" * 5000, b"true",
    b'""', b'"\\u0000"', b'"a\\u0000b"', b'"x"', b'"' + b"x" * 5000 + b'"', b"[]", b"[[]]", b"{}", b'["x"]', b"[1]",
    b"{a.b.c = 1}", b"2026-02-30", b"1979-05-27T07:32:00Z", b"'''\n'''", b'"\\ud800"', b'"http://["', b'"http://x:y"',
    b'"http://[::1]:99999/"', b'"* * * * *"', b'"0 0 31 2 *"', b'"@daily"', b'"0 3 * * 9"', b'"::1"', b'"10.0.0.0/33"',
    b"[" * 2000 + b"]" * 2000, b'["10.0.0.0/8", "::/0"]', b'[{id = "1"}]', b'"%s{0}"', MARKUP.encode(), b'"/dev/full"',
)  # fmt: skip
TRIED: Final = 8
"""Every so many of those that are accepted are given to a daemon."""
LINE: Final = re.compile(rb"^([a-z_]+ = )([^#\n]*)", re.MULTILINE)
ACCOUNT: Final = b'\n[[accounts]]\nid = "17841400000000001"\nname = "shop"\nflavour = "facebook"\npage_id = "1"\n'
VARIABLES: Final = b"\0"
"""What follows are lines of variables for the environment."""
NAMES: Final = (
    "ADMIN__PORT", "ACCOUNTS", "AVATARS__HOSTS", "BACKFILL__SCHEDULE", "LOGS__LEVEL", "PUBLIC", "X", "ADMIN_TOKENS",
    "STORAGE__KEEP_MESSAGES_DAYS", "BUDGET__CALLS_PER_SECOND", "AVATARS__ALLOW_HTTP", "INSTAGRAM__GRAPH_URL",
)  # fmt: skip
OURS: Final = {
    "INBOXD_ADMIN__PORT": "0",
    "INBOXD_INSTAGRAM__GRAPH_URL": "http://127.0.0.1:1",
    "INBOXD_LOGS__FORMAT": "json",
    "INBOXD_LOGS__LEVEL": "info",
    "INBOXD_PUBLIC__HOST": "127.0.0.1",
    "INBOXD_PUBLIC__PORT": "0",
}
"""What a daemon is told whatever else it is told: to listen where nobody is disturbed, and to say how it goes."""


class ConfigFiles(Surface):
    """config.toml with lines changed, and variables beside it."""

    name: ClassVar[str] = "config"
    per_round: ClassVar[int] = 300

    def __init__(self) -> None:
        self._default = DEFAULT.read_bytes()

    def make(self, chance: random.Random) -> bytes:
        text = self._default + (ACCOUNT if chance.random() < 0.5 else b"")
        lines = [*LINE.finditer(text)]
        for one in sorted(chance.sample(lines, chance.randint(0, 2)), key=lambda one: -one.start()):
            text = text[: one.start(2)] + chance.choice(VALUES) + b" " + text[one.end(2) :]
        if chance.random() < 0.3:
            text = mutated_bytes(text, chance, most=2)
        if chance.random() < 0.05:
            text += b"\n" + b".".join([b"a"] * 3000) + b" = 1\n"
        for _ in range(chance.choice((0, 0, 1, 2))):
            value = chance.choice(VALUES).replace(b"\n", b" ").replace(b"\0", b"")
            text += b"%sINBOXD_%s=%s" % (VARIABLES, chance.choice(NAMES).encode(), value.strip(b'"'))
        return text

    async def run(self, folder: Path, inputs: Sequence[bytes]) -> None:
        accepted = [one for one in inputs if _accepted(folder, one)]
        for number, one in enumerate(accepted[::TRIED] if len(inputs) > TRIED else accepted):
            await asyncio.to_thread(_start, folder / f"daemon-{number}", one)


def _parts(folder: Path, one: bytes) -> tuple[Path, dict[str, str]]:
    text, *variables = one.split(VARIABLES)
    path = folder / "config.toml"
    path.write_bytes(text)
    pairs = (line.decode("utf-8", "surrogateescape").partition("=") for line in variables)
    return path, {name: value for name, _, value in pairs if re.fullmatch(r"\w+", name)}


def _accepted(folder: Path, one: bytes) -> bool:
    path, variables = _parts(folder, one)
    try:
        concerns(load_settings(path, variables))
        load_secrets(variables)
    except ConfigError as error:
        if not str(error).strip():
            raise Failure(f"an error without a word, for {_differs(one)}") from error
        return False
    except Exception as error:
        raise Failure(f"{type(error).__name__}: {str(error)[:300]} for {_differs(one)}") from error
    return True


def _start(folder: Path, one: bytes) -> None:
    """A daemon with these settings runs, or says in words why not. Its files are in `folder`, its ports free ones."""
    folder.mkdir()
    path, variables = _parts(folder, one)
    process = Process(folder, **variables, INBOXD_CONFIG=str(path))
    process.environment |= OURS
    process.start(ready=False)
    for _ in range(1000):
        log = process.log.read_text(errors="replace")
        if process.process is None or process.process.poll() is not None or '"started"' in log:
            break
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    if process.process is not None and process.process.poll() is None:
        process.signal(signal.SIGTERM)
    code = process.wait()
    log = process.log.read_text(errors="replace")
    if "Traceback" in log or '"exception"' in log or code < 0 or code == 70 or not log.strip():
        raise Failure(f"the daemon ended with {code} and said {log[-800:]!r}, for {_differs(one)}")


def _differs(one: bytes) -> str:
    """What is not as in the default."""
    known = set(DEFAULT.read_bytes().splitlines())
    lines: list[Any] = [line[:200] for line in one.replace(VARIABLES, b"\n").splitlines() if line not in known]
    return str(lines[:8])
