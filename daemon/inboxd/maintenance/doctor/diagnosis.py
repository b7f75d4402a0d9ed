"""The result of one check."""

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How serious the result of a check is."""

    OK = "ok"
    WARNING = "warning"
    """It works for now, or it could not be checked from here."""
    WRONG = "wrong"


class Diagnosis(msgspec.Struct, frozen=True, rename="camel"):
    """The result of one check, and what to do about it."""

    check: str
    health: Severity
    detail: str
    remedy: str | None = None
