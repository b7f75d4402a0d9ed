"""Builds this feature: the frame of the pages, and the overview that the other features fill."""

from collections.abc import Callable, Sequence

from inboxd.dashboard.overview import Overview
from inboxd.feature import Feature, Link


def build(*, features: Sequence[Feature], problems: Callable[[], Sequence[str]]) -> Feature:
    """Build the feature. `features` fill the overview; `problems` say why the daemon cannot do its job."""
    parts = [feature.overview for feature in features if feature.overview is not None]
    return Feature(
        name="dashboard",
        pages=(Overview(parts, problems=problems),),
        templates="inboxd.dashboard",
        links=(Link("/", "Overview", 0),),
    )
