"""What commands have in common: options, files that they read, and running a coroutine until a signal comes."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click
import uvloop

T = TypeVar("T")

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file. Default: $INBOXD_CONFIG, ./config.toml, /etc/inboxd/config.toml, or built-in defaults.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table.")
account_option = click.option("--account", "account_id", required=True, help="The account's id.")


class Span(click.ParamType):  # type: ignore[type-arg] # generic in newer versions only
    """A length of time in seconds: 90, 45m, 12h, 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's
        """Text to seconds. Fails for anything but a number with one of these units, up to ten years."""
        text = str(value)
        size = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
        digits = text if size is None else text[:-1]
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
            self.fail(f"{text!r} is no length of time, such as 90, 45m, 12h or 7d", param, ctx)
        seconds = int(digits) * (size or 1)
        if seconds > 315_360_000:
            self.fail("ten years are the most", param, ctx)
        return seconds


@contextmanager
def opened(path: str) -> Iterator[TextIO]:
    """The text file at `path`, or standard input for `-`. Bytes that are no UTF-8 become surrogates. Raises OSError."""
    if path == "-":
        yield sys.stdin
        return
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        yield file


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """What `main` returns.

    SIGTERM and SIGHUP cancel it, so that it cleans up; then SystemExit is raised with 128 + the signal's number.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_until_told_to_end(main))
        except _EndedBySignal as ended:
            sys.exit(128 + ended.number)


class _EndedBySignal(Exception):  # noqa: N818 - no error
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def _until_told_to_end(main: Coroutine[Any, Any, T]) -> T:
    """What `main` returns. Raises _EndedBySignal when a signal ended it."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    ended: list[int] = []

    def end(number: int) -> None:
        ended.append(number)
        if task is not None:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup(1)
            loop.add_signal_handler(number, end, number)
    try:
        return await main
    except asyncio.CancelledError:
        if not ended:
            raise
        raise _EndedBySignal(ended[0]) from None
