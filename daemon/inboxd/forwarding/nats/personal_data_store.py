"""Why no row of this feature is erased for a person."""

from inboxd.storage.personal_data import PersonalData


def personal_data() -> tuple[PersonalData, ...]:
    """Positions in the event log. What was published is not ours any more."""
    reason = "a position in the event log, and the last error; nothing of a person"
    return (PersonalData(tables=frozenset({"event_consumers"}), reason=reason),)
