"""Builds this feature: files are taken over the API, and served to Meta for a time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inboxd.feature import Core, Feature, Job, Setting
from inboxd.sending.uploads import personal_data_store, sweeper
from inboxd.sending.uploads.api import UploadsApi
from inboxd.sending.uploads.public_files import PublicFiles
from inboxd.sending.uploads.service import UploadService
from inboxd.sending.uploads.store import UploadStore
from inboxd.sending.uploads.sweeper import UploadSweeper

_MB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature."""

    folder: Path
    max_mb: int
    base_url: str
    """Where Meta reaches the public listener; empty when that is not known."""


@dataclass(frozen=True, kw_only=True)
class Uploads(Feature):
    """This feature, and what sending uses of it."""

    service: UploadService


def build(core: Core, options: Options) -> Uploads:
    """Build the feature. It stands above sending in the order of the features: its rows are erased first."""
    max_mb = Setting("sending.max_uploads_mb", options.max_mb)
    store = UploadStore(core.database, options.folder)
    service = UploadService(store, core.clock, base_url=options.base_url, max_bytes=lambda: max_mb() * _MB)
    return Uploads(
        name="uploads",
        service=service,
        start=lambda _features: store.sweep_partial(),
        workers=(Job(UploadSweeper(store, core.clock), sweeper.SCHEDULE),),
        operations=UploadsApi(service, store).operations(),
        public_routes=PublicFiles(service, store).add_routes,
        personal_data=personal_data_store.personal_data(core.database, store),
        reload=(max_mb.rule,),
    )
