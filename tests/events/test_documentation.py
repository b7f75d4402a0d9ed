"""Every type of event has a schema, an example, and a place in docs/events.md.

`INBOXD_RENEW_DOCS=1 pytest tests/events/test_documentation.py` writes that part of the page anew.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from inboxd.domain.event import matching
from inboxd.offline import events as offline
from inboxd.simulator.payloads import Conversationalist

from tests.support import ACCOUNT, ANA, T0, Client, Json

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
HEADING = "## Types\n"
CODE = Path(__file__).parents[2] / "daemon" / "inboxd"


async def described(client: Client) -> Json:
    document: Json = await client.get("/api/openapi.json", token=None)
    return document


def types_of(document: Json) -> dict[str, Json]:
    """The schema of each type, by its name."""
    schemas = document["components"]["schemas"]
    mapping: dict[str, str] = schemas["Event"]["discriminator"]["mapping"]
    return {name: schemas[ref.rpartition("/")[2]] for name, ref in mapping.items()}


def documented(document: Json) -> str:
    """The part of docs/events.md about the types."""
    found = types_of(document)
    rows = [f"| [`{name}`](#{name.replace('.', '')}) | {schema['description']} |" for name, schema in found.items()]
    parts = [HEADING, "| type | |", "| --- | --- |", *rows]
    for name, schema in found.items():
        (example,) = schema["examples"]
        parts += ["", f"### {name}", "", "```json", json.dumps(example, indent=2, ensure_ascii=False), "```"]
    return "\n".join(parts) + "\n"


def validator(document: Json, name: str) -> Any:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return jsonschema_rs.Draft202012Validator(schema)


async def test_the_page_has_every_type_with_its_example(client: Client) -> None:
    expected = documented(await described(client))
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(HEADING)
    if os.environ.get("INBOXD_RENEW_DOCS"):
        PAGE.write_text(before + expected, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == before + expected, "see the docstring of this module"


async def test_examples_are_valid_and_each_is_of_one_type_alone(client: Client) -> None:
    document = await described(client)
    any_event = validator(document, "Event")
    for name, schema in types_of(document).items():
        (example,) = schema["examples"]
        assert example["type"] == name
        assert example["data"], name
        any_event.validate(example)
        validator(document, schema["title"]).validate(example)
        assert schema["description"].endswith("."), name
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", name), name
        assert not any_event.is_valid(example | {"type": "message.unheard_of"})


async def test_the_types_in_the_document_are_those_that_can_be_asked_for(client: Client) -> None:
    problem = await client.get("/api/events?types=no.such", status=400)
    listed = problem["detail"].partition("There are: ")[2].rstrip(".").split(", ")
    assert sorted(types_of(await described(client))) == listed


async def test_real_events_are_as_their_schemas_say(client: Client) -> None:
    who, document = Conversationalist(ACCOUNT, ANA, T0), await described(client)
    said, answered = who.says("hi"), who.comes_from_ad("from an ad")
    await client.deliver(said, answered, who.edits(said, "hello"), who.reacts(said), who.unreacts(said), who.sees(said))
    await client.deliver(who.opens_link("spring"), who.hands_over(), who.taps("Prices", "PRICES"), who.unsends(said))
    await client.post(b"x")
    await client.settled()
    events = (await client.get("/api/events?limit=500"))["events"]
    assert len({event["type"] for event in events}) >= 9
    for event in events:
        validator(document, "Event").validate(event)
        assert event["data"], event


def test_what_pages_listen_to_are_types_of_events() -> None:
    names = set(re.findall(r"^\| \[`([a-z_.]+)`\]", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert names
    wanted: set[str] = set()
    for template in CODE.rglob("templates/*.html"):
        for text in re.findall(r"block events %}([^{]*){%", template.read_text(encoding="utf-8")):
            wanted |= set(text.split())
    assert wanted
    assert {one for one in wanted if not matching([one], names)} == set()


@pytest.mark.parametrize("name", ["message.reaction_added", "run.completed"])
async def test_an_event_schema_has_a_name_that_generators_can_use(client: Client, name: str) -> None:
    title = types_of(await described(client))[name]["title"]
    assert title in {"MessageReactionAddedEvent", "RunCompletedEvent"}


async def test_commands_without_a_daemon_know_the_same_types(client: Client) -> None:
    assert sorted(kind.name for kind in offline.event_types(())) == list(types_of(await described(client)))
