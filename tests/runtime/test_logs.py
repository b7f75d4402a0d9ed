"""What stands in the log, and what cannot be made to stand there."""

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from inboxd.runtime import logs
from inboxd.runtime.log_processors import MAX_REMEMBERED, WINDOW_S, Repeats


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


class Log:
    """A log that is written to memory."""

    def __init__(self, log_format: str = "json", **options: Any) -> None:
        self.stream = io.StringIO()
        self.repeats = logs.set_up(level="info", log_format=log_format, stream=self.stream, **options)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


def test_secrets_and_names_stay_out() -> None:
    log = Log()
    logs.get("t").warning("happened", access_token="abc", app_secret="def", username="ana", text="hola", account_id="1")
    (line,) = log.lines
    assert line["access_token"] == line["app_secret"] == "[redacted]"
    assert "username" not in line
    assert "text" not in line
    assert line["account_id"] == "1"


def test_names_stand_there_when_somebody_wants_them() -> None:
    log = Log(personal=True)
    logs.get("t").info("happened", username="ana")
    assert log.lines[0]["username"] == "ana"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_nothing_from_outside_forges_a_line(log_format: str) -> None:
    log = Log(log_format)
    evil = 'x\n{"event":"forged","level":"critical"}\r\x1b[2J\u2028\u202eend'
    logs.get("t").warning("happened", reason=evil)
    logging.getLogger("library").error("%s", evil)
    assert len(log.text.splitlines()) == 2
    for character in "\r\u2028\u202e":
        assert character not in log.text
    assert "\x1b[2J" not in log.text


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_halves_of_pairs_are_written_as_escapes(log_format: str, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+", encoding="utf-8") as stream:
        logs.set_up(level="info", log_format=log_format, stream=stream)
        logs.get("t").info("request", path="/a\udcff", fields=["\udcfe"] if log_format == "json" else [])
        stream.seek(0)
        text = stream.read()
    assert "udcff" in text
    assert text.count("\n") == 1
    if log_format == "json":
        line = json.loads(text)
        assert (line["path"], line["fields"]) == ("/a\\udcff", ["\udcfe"])


def test_the_http_library_cannot_tell_what_it_read() -> None:
    log = Log()
    try:
        raise ValueError("Bearer hunter2")  # noqa: TRY301 - as the library does
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling request from %s", "10.0.0.1")
    assert "hunter2" not in log.text
    (line,) = log.lines
    assert (line["part"], line["message"], line["error"]) == (
        "aiohttp.server",
        "Error handling request from 10.0.0.1",
        "ValueError",
    )


def test_a_traceback_cannot_forge_a_line_either() -> None:
    log = Log("console")
    try:
        int("bad\n2026-01-01 [critical] forged\rx")
    except ValueError:
        logs.get("t").exception("crashed")
    assert not [line for line in log.text.splitlines()[1:] if line and not line.startswith("  ")]


def test_the_same_warning_is_written_once_and_counted() -> None:
    log = Log()
    now = [0.0]
    log.repeats._now = lambda: now[0]
    logger = logs.get("t")
    for size in range(100):
        logger.warning("knocked", verdict="missing", bytes=size)
    logger.warning("knocked", verdict="wrong", bytes=1)
    logger.info("fine")
    logger.info("fine")
    assert [line["event"] for line in log.lines] == ["knocked", "knocked", "fine", "fine"]
    now[0] = WINDOW_S
    logger.warning("knocked", verdict="missing", bytes=5)
    assert log.lines[-1]["repeated"] == 99
    logger.warning("knocked", verdict="missing", bytes=6)
    now[0] = 2 * WINDOW_S
    log.repeats.flush()
    assert log.lines[-1]["repeated"] == 1
    log.repeats.flush(everything=True)
    assert len(log.lines) == 6


def test_what_is_counted_is_bounded_and_nothing_is_lost() -> None:
    repeats = Repeats(lambda: 0.0)
    log = Log()
    for number in range(MAX_REMEMBERED + 10):
        for _ in range(2):
            try:
                repeats(None, "warning", {"event": "e", "level": "warning", "n": number})
            except structlog.DropEvent:
                continue
    assert len(log.lines) == 10
    assert {line["repeated"] for line in log.lines} == {1}


def test_libraries_go_through_the_same_pipe() -> None:
    log = Log()
    for _ in range(3):
        logging.getLogger("aiohttp.server").error("Error handling request from %s", "10.0.0.1")
    (line,) = log.lines
    assert (line["event"], line["part"], line["level"]) == ("library_message", "aiohttp.server", "error")
    assert line["message"] == "Error handling request from 10.0.0.1"


def test_every_line_about_a_delivery_says_which() -> None:
    log = Log()
    with logs.about(delivery_id=7):
        logs.get("anywhere").warning("odd")
    logs.get("anywhere").info("after")
    assert [line.get("delivery_id") for line in log.lines] == [7, None]


def test_the_journal_is_told_the_priority() -> None:
    read, write = os.pipe()
    status = os.fstat(write)
    with os.fdopen(read) as reader, os.fdopen(write, "w") as stream:
        journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        logs.set_up(level="info", log_format="auto", stream=stream, environment=journal)
        logs.get("t").error("broken")
        stream.flush()
        line = reader.readline()
    assert line.startswith('<3>{"')
    assert json.loads(line[3:])["event"] == "broken"
