"""What every log line goes through before it is written: no secrets, no names, no forged lines, no floods."""

import logging
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

EventDict = MutableMapping[str, Any]

REDACTED: Final = "[redacted]"
WINDOW_S: Final = 60.0
"""How long a warning that is the same as an earlier one is only counted."""
MAX_REMEMBERED: Final = 512
"""Different warnings that are counted at a time; beyond it the oldest is written out."""
_SECRET_WORDS: Final = ("secret", "token", "authorization", "password", "signature")
_PERSONAL: Final = frozenset({"username", "name", "text"})
_MAX_VALUE: Final = 2000
_COUNTED: Final = frozenset({"warning", "error"})
_VARYING: Final = frozenset({"bytes", "failures", "attempt", "attempts", "seconds", "retry_in_s", "request_id"})
"""Fields in which the same warning may differ from one time to the next."""
_ESCAPES: Final = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x2028,
        0x2029,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xD800, 0xE000),  # halves of pairs, which bytes that are no UTF-8 become: no file can hold them
    )
}
_SPEAKS_HTTP: Final = "aiohttp"


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401 - structlog's signature
    """Blank what is named like a secret, and cut what is unreasonably long."""
    for key, value in event.items():
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = REDACTED
        elif isinstance(value, str) and len(value) > _MAX_VALUE and key != "exception":
            event[key] = value[:_MAX_VALUE] + "…"
    return event


def drop_personal(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401 - structlog's signature
    """Leave out names and the texts of messages."""
    for key in _PERSONAL & event.keys():
        del event[key]
    return event


def escape_controls(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401 - structlog's signature
    """Show control characters and reversals of direction as escapes: what comes from outside cannot forge a line.

    Lines of a traceback are kept, and indented, so that none of them looks like a line of the log.
    """
    for key, value in event.items():
        if not isinstance(value, str) or value.isprintable():
            continue
        if key == "exception":
            event[key] = "\n".join("  " + line.translate(_ESCAPES) for line in value.split("\n"))
        else:
            event[key] = value.translate(_ESCAPES)
    return event


def name_foreign(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401 - structlog's signature
    """A line of a library gets an event name like all others; what it says becomes its `message`.

    The HTTP library puts into its errors what it could not read, which may be a token: of those only the kind is kept.
    """
    record: logging.LogRecord | None = event.get("_record")
    event["message"] = event.get("event", "")
    if record is not None and record.name.partition(".")[0] == _SPEAKS_HTTP:
        error = event.pop("exc_info", None)
        if isinstance(error, tuple) and error[0] is not None:
            event["error"] = error[0].__name__
    event["event"] = "library_message"
    event["part"] = record.name if record is not None else "library"
    return event


class Repeats:
    """Writes a warning once in WINDOW_S, and counts the others like it. A structlog processor.

    The next line of its kind, or `flush`, says in `repeated` how many were left out.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: OrderedDict[tuple[object, ...], tuple[float, int, EventDict]] = OrderedDict()

    def __call__(self, _logger: Any, method: str, event: EventDict) -> EventDict:  # noqa: ANN401 - structlog's signature
        """Let the line through, or drop it."""
        if method not in _COUNTED or "repeated" in event:
            return event
        key = _sameness(event)
        now = self._now()
        since, count, first = self._seen.get(key, (now, -1, event))
        if count >= 0 and now - since < WINDOW_S:
            self._seen[key] = (since, count + 1, first)
            raise structlog.DropEvent
        self._seen.pop(key, None)
        if len(self._seen) >= MAX_REMEMBERED:
            self._tell(*self._seen.popitem(last=False)[1][1:])
        self._seen[key] = (now, 0, {name: value for name, value in event.items() if not name.startswith("_")})
        return {**event, "repeated": count} if count > 0 else event

    def flush(self, *, everything: bool = False) -> None:
        """Write how often, where the time is over. Call it now and then, and with `everything` at the end."""
        now = self._now()
        over = [key for key, (since, _, _) in self._seen.items() if everything or now - since >= WINDOW_S]
        for key in over:
            self._tell(*self._seen.pop(key)[1:])

    def _tell(self, count: int, event: EventDict) -> None:
        if count > 0:
            fields = {name: value for name, value in event.items() if name not in {"event", "level", "exc_info"}}
            logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger()
            logger.log(logging.getLevelNamesMapping()[event["level"].upper()], event["event"], repeated=count, **fields)


def _sameness(event: EventDict) -> tuple[object, ...]:
    """What two lines have in common that say the same."""
    error = event.get("exc_info")
    kind = error[0].__name__ if isinstance(error, tuple) and error[0] is not None else str(error)
    told = ((name, str(value)) for name, value in event.items() if not name.startswith("_"))
    return (kind, *(one for one in told if one[0] not in _VARYING and one[0] != "exc_info"))
