"""Every surface that is fuzzed."""

from typing import Final

from tests.fuzz.api import Api
from tests.fuzz.config_files import ConfigFiles
from tests.fuzz.graph import GraphAnswers, GraphResponses
from tests.fuzz.imports import Imports
from tests.fuzz.mailbox import Mailbox
from tests.fuzz.pictures import Pictures
from tests.fuzz.signed_requests import SignedRequests
from tests.fuzz.surface import Surface
from tests.fuzz.webhooks import Webhooks

ALL: Final[tuple[type[Surface], ...]] = (
    Webhooks, Pictures, GraphResponses, GraphAnswers, Mailbox, Api, Imports, SignedRequests, ConfigFiles,
)  # fmt: skip
SURFACES: Final = {one.name: one for one in ALL}
