"""structlog set-up: JSON lines for machines, colours for a terminal, secrets for nobody."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import msgspec

if "rich" not in sys.modules:
    # structlog looks for rich, to draw tracebacks that we write as text: 4 MB that an idle daemon can do without.
    sys.modules["rich"] = None  # type: ignore[assignment]  # which makes its import fail
    import structlog

    del sys.modules["rich"]
else:
    import structlog

Log = structlog.stdlib.BoundLogger

_REDACTED: Final = "[redacted]"
_SECRET_WORDS: Final = ("secret", "token", "authorization", "password", "signature")
_MAX_VALUE: Final = 2000


def set_up(*, level: str, log_format: str, stream: TextIO = sys.stdout) -> None:
    """Send everything, the libraries' standard logging included, through one pipe to `stream`.

    `log_format` is `json`, `console`, or `auto`: console on a terminal, JSON elsewhere.
    """
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json) if as_json else structlog.dev.ConsoleRenderer()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
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


def get(name: str) -> Log:
    """The logger for one part of the daemon."""
    log: Log = structlog.stdlib.get_logger(part=name)
    return log


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401 - structlog's signature
    """Blank what is named like a secret, and cut what is unreasonably long."""
    for key, value in event.items():
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = _REDACTED
        elif isinstance(value, str) and len(value) > _MAX_VALUE and key != "exception":
            event[key] = value[:_MAX_VALUE] + "…"
    return event


def _to_json(event: Any, **_options: object) -> str:  # noqa: ANN401 - structlog's signature
    return msgspec.json.encode(event, enc_hook=str).decode()
