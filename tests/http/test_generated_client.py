"""A client that a generator makes from the OpenAPI document works with a running daemon."""

import asyncio
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from inboxd.simulator.payloads import Conversationalist

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, BRUNO, T0, Client

CONFIGURATION = Path(__file__).with_name("client_generator.yaml")
PACKAGE = "generated_client"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where packages are found that are made during a test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


async def generate(client: Client, folder: Path) -> None:
    """Make a package of the document of the running daemon. A warning of the generator is a failure."""
    document = folder / "openapi.json"
    document.write_text(json.dumps(await client.get("/api/openapi.json", token=None)))
    tools = Path(sys.executable).parent
    process = await asyncio.create_subprocess_exec(
        tools / "openapi-python-client", "generate", "--path", document, "--output-path", folder / PACKAGE,
        "--config", CONFIGURATION, "--meta", "none", "--fail-on-warning",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},  # it formats by ruff
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-4000:]
    assert b"WARNING" not in out, out.decode()[-4000:]


def operation(tag: str, name: str) -> Any:
    """A module of the generated client."""
    return importlib.import_module(f"{PACKAGE}.api.{tag}.{name}")


async def test_a_generated_client_fetches_conversations_and_goes_on_with_what_is_new(
    client: Client, folder: Path
) -> None:
    ana, bruno = Conversationalist(ACCOUNT, ANA, T0), Conversationalist(ACCOUNT, BRUNO, T0)
    await client.deliver(ana.comes_from_ad("how much?"))
    await client.settled()
    await generate(client, folder)
    generated = importlib.import_module(PACKAGE)

    async with generated.AuthenticatedClient(base_url=client.admin_url, token=ADMIN_TOKEN) as api:
        page = await operation("conversations", "conversations_page").asyncio(client=api)
        (conversation,) = page.conversations
        assert (conversation.client_account_id, conversation.participant_platform_id) == (ACCOUNT, ANA)
        assert conversation.metadata.to_dict()["accountConfigured"] is True

        said = await operation("conversations", "conversations_messages").asyncio(conversation.id, client=api)
        assert [one.content for one in said.messages] == ["how much?"]
        assert said.messages[0].referral.ad_id == "6000000001"

        listing = operation("conversations", "messages_list")
        seen = await listing.asyncio(client=api)
        await client.deliver(bruno.says("hello"))
        await client.settled()
        new = await listing.asyncio(client=api, after=seen.next_cursor)
        assert [one.message.content for one in new.results] == ["hello"]

        since = datetime.fromtimestamp(0, UTC)
        updated = await operation("conversations", "conversations_page").asyncio(
            client=api, updated_since=since, participant_platform_id=BRUNO
        )
        assert [one.id for one in updated.conversations] == [new.results[0].conversation.id]

    async with generated.AuthenticatedClient(base_url=client.admin_url, token="wrong") as stranger:
        problem = await operation("conversations", "conversations_page").asyncio(client=stranger)
        assert problem.status == 401
