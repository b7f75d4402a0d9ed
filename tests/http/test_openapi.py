"""The API describes itself truly: every route is in the document, and schemathesis finds no lie in it."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest
from inboxd.config.schema import Admin, Settings
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.people import igsid

from tests.support import ACCOUNT, ADMIN_TOKEN, T0, Client, Json

HTTP = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, admin=Admin(port=0, max_failures=1_000_000))


async def described(client: Client) -> Json:
    return await client.get("/api/openapi.json", token=None)


async def test_every_route_is_documented_and_every_documented_one_is_there(client: Client) -> None:
    document = await described(client)
    documented = {(method, path) for path, item in document["paths"].items() for method in item if method in HTTP}
    assert document["openapi"] == "3.1.0"
    assert ("post", "/api/workers/backfill-profiles") in documented

    for method, path in sorted(documented):
        address = re.sub(r"\{\w+\}", "1", path)
        async with client.session.request(method, client.admin_url + address, allow_redirects=False) as response:
            allowed = {401} if document["paths"][path][method].get("security") != [] else {200, 503}
            assert response.status in allowed, (method, path)


async def test_operations_are_told_apart_and_explained(client: Client) -> None:
    document = await described(client)
    operations = [item[method] for item in document["paths"].values() for method in item if method in HTTP]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    for operation in operations:
        assert operation["summary"], operation["operationId"]
        assert "401" in operation["responses"]


def json_contents(document: Json) -> dict[str, Json]:
    """What is sent or answered as JSON where all is well, by operation and status."""
    found: dict[str, Json] = {}
    for path, item in document["paths"].items():
        for method in item.keys() & HTTP:
            contents = {status: one for status, one in item[method]["responses"].items() if status.startswith("2")}
            contents["body"] = item[method].get("requestBody", {})
            for name, one in contents.items():
                if "application/json" in one.get("content", {}):
                    found[f"{method} {path} {name}"] = one["content"]["application/json"]
    return found


async def test_every_operation_has_an_example_that_is_as_its_schema_says(client: Client) -> None:
    document = await described(client)
    contents = json_contents(document)
    assert len(contents) > 30
    assert not [name for name, content in contents.items() if "example" not in content], "these have no example"

    components = document["components"]
    for schema in components["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False  # a member of another name would be taken for one more
    for name, content in contents.items():
        validator = jsonschema_rs.Draft202012Validator({**content["schema"], "components": components})
        assert not [str(error) for error in validator.iter_errors(content["example"])], name


async def test_a_wrong_example_would_be_noticed(client: Client) -> None:
    document = await described(client)
    content = json_contents(document)["get /api/messaging/conversations/{id} 200"]
    validator = jsonschema_rs.Draft202012Validator({**content["schema"], "components": document["components"]})
    assert validator.is_valid(content["example"])
    assert not validator.is_valid({**content["example"], "unreadCount": "1"})
    assert not validator.is_valid({"id": "1"})


async def test_unknown_routes_and_methods_are_problems(client: Client) -> None:
    assert (await client.send("GET", "/api/nothing", status=404))["title"] == "Not Found"
    assert "GET" in (await client.send("PUT", "/api/budget", {}, status=405))["detail"]


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="starts a process")
async def test_schemathesis_finds_no_server_error_and_no_answer_beside_its_schema(
    client: Client, tmp_path: Path
) -> None:
    for number in range(3):
        who = Conversationalist(ACCOUNT, igsid(number), T0)
        await client.deliver(who.says("hello there"), who.sends("image"), who.opts_in())
    await client.settled()
    values = f'"path.account" = "{ACCOUNT}"\n"path.participant" = "{igsid(0)}"\n'
    # A schema cannot say that platformConversationId is made of two other members.
    statuses = '["2xx", "401", "403", "404", "409", "422", "429", "5xx"]'
    # Nor which types of events there are, which hosts are known, or what is a time.
    refusing = ("POST /api/messaging/conversations", "POST /api/webhook-endpoints", "PATCH /api/webhook-endpoints/{id}")
    registering = "".join(
        f'[[operations]]\ninclude-name = "{operation}"\n'
        f"checks.positive_data_acceptance.expected-statuses = {statuses}\n"
        for operation in (
            *refusing,
            "POST /api/messaging/messages",  # what Meta takes together
            "POST /api/messaging/conversations/{id}/messages",
            "POST /api/workers/import-history",  # a time that is none, or in the future
            *(f"POST /api/webhook-endpoints/{{id}}/{name}" for name in ("replay", "test", "rotate-secret")),
        )
    )
    # Nor that two parameters exclude each other.
    listing = (
        '[[operations]]\ninclude-name = "GET /api/messaging/messages"\n'
        'checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "5xx"]\n'
    )
    (tmp_path / "schemathesis.toml").write_text(f"[parameters]\n{values}{registering}{listing}")
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{client.admin_url}/api/openapi.json",
        "--header",
        f"Authorization: Bearer {ADMIN_TOKEN}",
        "--checks",
        "all",
        "--max-examples",
        "12",
        "--phases",
        "examples,coverage,fuzzing",
        "--exclude-path-regex",
        "stream|/events$|/api/accounts$|/check$",
        "--suppress-health-check",
        "all",
        "--seed",
        "1",
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-12_000:]
