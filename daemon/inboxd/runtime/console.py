"""The console: where tables for people are printed."""

from typing import Final

from rich.console import Console

_PIPE_WIDTH: Final = 120


def console() -> Console:
    """Standard output: in the terminal's width and colours, plain and wide in a pipe."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=_PIPE_WIDTH)
