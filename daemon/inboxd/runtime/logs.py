"""structlog set-up: JSON lines for machines, colours for a terminal, secrets for nobody."""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, TextIO

import msgspec

if "rich" not in sys.modules:
    # structlog looks for rich, to draw tracebacks that we write as text: 4 MB that an idle daemon can do without.
    sys.modules["rich"] = None  # type: ignore[assignment]  # which makes its import fail
    import structlog

    del sys.modules["rich"]
else:
    import structlog

from inboxd.runtime.log_processors import Repeats, drop_personal, escape_controls, name_foreign, redact

Log = structlog.stdlib.BoundLogger

_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3), as journald reads it at the start of a line (sd-daemon(3))."""


def set_up(
    *,
    level: str,
    log_format: str,
    personal: bool = False,
    stream: TextIO = sys.stdout,
    environment: Mapping[str, str] = os.environ,
) -> Repeats:
    """Send everything, the libraries' standard logging included, through one pipe to `stream`.

    `log_format` is `json`, `console`, or `auto`: console on a terminal, JSON elsewhere. Names and texts are left out
    unless `personal`. Returns what counts repeated warnings, for whoever calls its `flush`.
    """
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    repeats = Repeats(time.monotonic)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        repeats,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
        *(() if personal else (drop_personal,)),
        escape_controls,
    ]
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer()
    if as_json:
        renderer = _to_journal if _is_journal(stream, environment) else _to_json
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[name_foreign, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = _Handler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    set_level(level)
    logging.captureWarnings(True)
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)  # it logs every statement
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return repeats


def set_level(level: str) -> None:
    """Log from this level on: debug, info, warning or error."""
    logging.getLogger().setLevel(level.upper())


def debugging() -> bool:
    """Whether debug lines are written: what is only for them need not be put together otherwise."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def get(name: str) -> Log:
    """The logger for one part of the daemon."""
    log: Log = structlog.stdlib.get_logger(part=name)
    return log


def about(**ids: object) -> AbstractContextManager[None]:
    """Every line that is logged meanwhile, by whatever part, carries these fields."""
    return structlog.contextvars.bound_contextvars(**ids)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes what was not dropped on the way."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(structlog.DropEvent):
            super().emit(record)


def _to_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:  # noqa: ANN401 - structlog's signature
    try:
        return msgspec.json.encode(event, enc_hook=str).decode()
    except UnicodeEncodeError:  # half of a pair somewhere inside a field
        return json.dumps(event, default=str)


def _to_journal(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:  # noqa: ANN401 - structlog's signature
    return f"<{_PRIORITIES.get(event['level'], 6)}>{_to_json(logger, method, event)}"


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether `stream` ends in the journal (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
