"""Backfill over the admin API: a real daemon, a simulated Instagram."""

import asyncio
import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from inboxd.config.schema import Backfill, ProfileSettings, Settings
from inboxd.simulator.graph_server import Behaviour, GraphServer, Token
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.people import igsid
from prometheus_client.parser import text_string_to_metric_families

from tests.support import ACCOUNT, ADMIN_TOKEN, T0, Client, Json, eventually

PATH = "/api/workers/backfill-profiles"
LIST = "/api/messaging/conversations"
Simulated = tuple[GraphServer, str]


def people_asked(server: GraphServer) -> Counter[str]:
    return Counter(call.rpartition("/")[2] for call in server.calls if "/me" not in call)


async def register(client: Client, *numbers: int, **more: Any) -> None:
    for number in numbers:
        body = {"clientAccountId": ACCOUNT, "participantPlatformId": igsid(number), **more}
        await client.send("POST", LIST, body, status=201)


async def start(client: Client, status: int = 202, **more: Any) -> Json:
    found: Json = await client.send("POST", PATH, {"accountId": ACCOUNT, **more}, status=status)
    return found


async def finished(client: Client, run: Json) -> Json:
    async def done() -> bool:
        return (await client.get(run["links"]["self"]))["status"] in {"completed", "failed", "cancelled"}

    await eventually(done)
    return await client.get(run["links"]["self"])


async def test_a_run_walks_everything_that_lacks_a_profile(client: Client, graph: Simulated) -> None:
    await register(client, *range(25))
    run = await start(client, batchSize=10)

    assert (run["status"], run["total"], run["batchSize"], run["accountId"]) == ("queued", 25, 10, ACCOUNT)
    assert run["estimatedDurationSeconds"] is not None
    done = await finished(client, run)
    assert (done["status"], done["success"]) == ("completed", True)
    assert (done["totalProcessed"], done["successCount"], done["errorCount"], done["skippedCount"]) == (25, 25, 0, 0)
    assert done["errors"] == []
    assert [batch["successCount"] for batch in done["batches"]] == [5, 10, 10]
    assert set(people_asked(graph[0]).values()) == {1}
    assert all(one["participantUsername"] for one in await client.conversations())

    again = await finished(client, await start(client))
    assert (again["total"], again["totalProcessed"]) == (0, 0)
    listed = await client.get(f"{PATH}?status=completed&accountId={ACCOUNT}")
    assert [one["jobId"] for one in listed["backfills"]] == [again["jobId"], run["jobId"]]


async def test_what_cannot_help_is_not_retried_and_who_must_write_first_is_skipped(
    client: Client, graph: Simulated
) -> None:
    graph[0].behaviour = Behaviour(latency_ms=0, no_consent=(igsid(1),))
    await register(client, 0, 1)
    await client.send("POST", LIST, {"clientAccountId": ACCOUNT, "participantPlatformId": "42"}, status=201)

    done = await finished(client, await start(client))
    assert (done["success"], done["successCount"], done["errorCount"], done["skippedCount"]) == (False, 1, 1, 1)
    problems = {problem["participantPlatformId"]: problem for problem in done["errors"]}
    assert (problems["42"]["outcome"], problems["42"]["code"], problems["42"]["attempts"]) == ("error", 9010, 1)
    assert problems[igsid(1)]["outcome"] == "skipped"
    assert "consent" in problems[igsid(1)]["error"]

    asked = len(graph[0].calls)
    again = await finished(client, await start(client))
    assert again["skippedCount"] == 2, "both are known by now"
    assert people_asked(graph[0]).total() == sum(1 for call in graph[0].calls[:asked] if "/me" not in call)


async def test_a_passing_fault_gets_three_attempts(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=0, error_rate=1)
    await register(client, 0)
    done = await finished(client, await start(client))
    assert (done["errorCount"], done["errors"][0]["attempts"]) == (1, 3)
    assert people_asked(graph[0]) == {igsid(0): 3}


async def test_only_one_run_at_a_time_and_the_same_key_is_the_same_run(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=50)
    await register(client, *range(20))
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Idempotency-Key": "one"}
    answers = []
    for body in ({"accountId": ACCOUNT}, {"accountId": ACCOUNT}, {"accountId": ACCOUNT, "batchSize": 5}):
        async with client.session.post(client.admin_url + PATH, data=json.dumps(body), headers=headers) as response:
            answers.append((response.status, await response.json(content_type=None)))
    assert [status for status, _ in answers] == [202, 202, 409]
    assert answers[0][1]["jobId"] == answers[1][1]["jobId"]

    problem = await start(client, 409)
    assert answers[0][1]["jobId"] in problem["detail"]
    assert (await start(client, dryRun=True))["status"] == "completed"
    await client.send("POST", answers[0][1]["links"]["cancel"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"accountId": "1"}, 404),
        ({"accountId": ACCOUNT, "batchSize": 0}, 422),
        ({"accountId": ACCOUNT, "batchSize": 101}, 422),
        ({"accountId": ACCOUNT, "batchSize": "ten"}, 422),
        ({"accountId": ACCOUNT, "unknown": 1}, 422),
        ({}, 422),
    ],
)
async def test_bad_requests_are_problems(client: Client, body: Json, status: int) -> None:
    problem = await client.send("POST", PATH, body, status=status)
    assert problem["detail"]


async def test_pause_resume_and_cancel(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=40)
    await register(client, *range(30))
    run = await start(client)
    links = run["links"]

    async def begun() -> bool:
        return bool((await client.get(links["self"]))["successCount"] >= 2)

    await eventually(begun)
    assert (await client.send("POST", links["pause"]))["status"] == "paused"

    async def rests() -> bool:
        return bool((await client.get(links["self"]))["totalProcessed"] == len(people_asked(graph[0])))

    await eventually(rests)  # what was being asked is finished
    paused = await client.get(links["self"])
    await asyncio.sleep(0.1)
    assert (await client.get(links["self"]))["totalProcessed"] == paused["totalProcessed"]
    await client.send("POST", links["pause"], status=409)

    await client.send("POST", links["resume"])

    async def going_on() -> bool:
        return bool((await client.get(links["self"]))["successCount"] > paused["successCount"] + 2)

    await eventually(going_on)
    assert (await client.send("POST", links["cancel"]))["status"] == "cancelled"
    await client.send("POST", links["resume"], status=409)
    done = await finished(client, run)
    assert done["totalProcessed"] < 30
    assert set(people_asked(graph[0]).values()) == {1}


async def test_waiting_for_the_budget_is_told_and_cancelled_at_once(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=0, throttled=True)
    await register(client, *range(3))
    run = await start(client)

    async def waiting() -> bool:
        found = await client.get(run["links"]["self"])
        return bool(found["status"] == "waiting-for-budget" and "may be made at" in found["reason"])

    await eventually(waiting)
    assert (await client.send("POST", run["links"]["cancel"]))["status"] == "cancelled"

    async def nobody_waits() -> bool:
        return bool((await client.get("/api/budget"))["budgets"][0]["waiting"] == 0)

    await eventually(nobody_waits)
    graph[0].behaviour = Behaviour(latency_ms=0)
    assert (await start(client))["status"] == "queued", "the cancelled one does not stand in the way"


async def test_limits_and_refreshing_what_is_old(client: Client, graph: Simulated) -> None:
    await register(client, *range(6))
    assert (await start(client, dryRun=True))["total"] == 6
    done = await finished(client, await start(client, maxConversations=4, batchSize=3))
    assert (done["total"], done["successCount"]) == (4, 4)
    assert (await start(client, dryRun=True))["total"] == 2
    await finished(client, await start(client))

    assert (await start(client, dryRun=True, force=True))["total"] == 0
    done = await finished(client, await start(client, force=True, olderThanSeconds=0))
    assert done["successCount"] == 6
    assert set(people_asked(graph[0]).values()) == {2}


async def test_progress_is_streamed_until_the_end(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=20)
    await register(client, *range(5))
    run = await start(client)
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with client.session.get(client.admin_url + run["links"]["events"], headers=headers) as response:
        assert response.content_type == "text/event-stream"
        text = (await asyncio.wait_for(response.read(), 10)).decode()
    told = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert told[0]["jobId"] == run["jobId"]
    assert {event["type"] for event in told[1:-1]} <= {"run.progressed"}
    assert (told[-1]["type"], told[-1]["accountId"]) == ("run.completed", ACCOUNT)
    ended = told[-1]["data"]
    assert (ended["runId"], ended["kind"], ended["status"]) == (run["jobId"], "backfill", "completed")
    assert (ended["total"], ended["successCount"]) == (5, 5)
    async with client.session.get(client.admin_url + run["links"]["events"], headers=headers) as response:
        assert "completed" in (await asyncio.wait_for(response.read(), 10)).decode(), "also when it has ended already"


class TestWithLittleBudget:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(
            settings, profiles=ProfileSettings(concurrency=1), backfill=Backfill(schedule="", keep_runs_days=1)
        )

    async def test_the_estimate_follows_the_budget(self, client: Client) -> None:
        await register(client, *range(200))
        run = await start(client, dryRun=True)
        assert run["total"] == 200
        queued = await start(client)
        assert 3600 <= queued["estimatedDurationSeconds"] <= 7200, "160 an hour for backfill"
        await client.send("POST", queued["links"]["cancel"])


async def test_whoever_live_enrichment_got_first_is_not_asked_again(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=30)
    await register(client, *range(12))
    run = await start(client, batchSize=100)

    async def begun() -> bool:
        return bool(people_asked(graph[0]))

    await eventually(begun)
    for number in (0, 1, 2):  # registered first: they are at the end of the batch that is being worked on
        who = Conversationalist(ACCOUNT, igsid(number), T0 - 10**9)
        await client.deliver(who.says("hi"))
        address = f"/api/participants/{ACCOUNT}/{igsid(number)}"
        await client.send("POST", f"{address}/refresh", status=202)
    done = await finished(client, run)
    assert done["successCount"] == 12
    assert set(people_asked(graph[0]).values()) == {1}


async def test_a_run_of_an_account_that_is_removed_has_failed(client: Client, graph: Simulated) -> None:
    other = "17841400000000002"
    graph[0].tokens["other-token"] = Token(other)
    await client.send("POST", "/api/accounts", {"token": "other-token"}, status=201)
    graph[0].behaviour = Behaviour(latency_ms=200)
    body = {"clientAccountId": other, "participantPlatformId": igsid(0)}
    await client.send("POST", LIST, body, status=201)
    await client.send("POST", LIST, {**body, "participantPlatformId": igsid(1)}, status=201)
    run = await client.send("POST", PATH, {"accountId": other}, status=202)
    await client.send("DELETE", f"/api/accounts/{other}", status=204)
    found = await client.get(run["links"]["self"])
    assert (found["status"], found["reason"]) == ("failed", "the account is no longer served")


async def test_whoever_was_imported_with_a_name_alone_is_asked_about_too(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=0, no_consent=(igsid(1),))
    for number in (0, 1):
        await register(client, number, participantUsername=f"imported_{number}")
    assert (await start(client, dryRun=True))["total"] == 2

    done = await finished(client, await start(client))
    assert (done["total"], done["successCount"], done["skippedCount"]) == (2, 1, 1)
    found = {one["participantPlatformId"]: one for one in await client.conversations()}
    assert found[igsid(0)]["participantUsername"] != "imported_0"
    assert found[igsid(1)]["participantUsername"] == "imported_1", "what was known stays"
    assert found[igsid(1)]["metadata"]["profileState"] == "no_consent"

    asked = people_asked(graph[0]).total()
    again = await finished(client, await start(client))
    assert (again["total"], again["skippedCount"]) == (1, 1)
    assert people_asked(graph[0]).total() == asked, "and nobody is asked about every night in vain"


async def test_a_dry_run_counts_what_would_be_asked_and_is_no_success(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=0, no_consent=(igsid(0), igsid(1)))
    await register(client, *range(5))
    counted = await start(client, dryRun=True)
    assert (counted["total"], counted["skippedCount"], counted["success"]) == (5, 0, None)
    assert counted["estimatedDurationSeconds"] is not None
    await finished(client, await start(client, maxConversations=3))
    await finished(client, await start(client))
    await register(client, 7)
    calls = len(graph[0].calls)
    counted = await start(client, dryRun=True)
    assert (counted["total"], counted["skippedCount"], counted["successCount"]) == (3, 2, 0)
    assert len(graph[0].calls) == calls


async def test_profiles_that_are_due_are_those_that_will_be_asked_for(client: Client) -> None:
    stranger = "17841400000000009"
    await client.deliver(Conversationalist(stranger, igsid(0), T0).says("hi"), account_id=stranger)
    await client.deliver(Conversationalist(ACCOUNT, igsid(0), T0).says("hi"))
    await client.settled()

    async def nothing_is_due() -> bool:
        return bool((await client.get("/api/workers"))["profilesDue"] == 0)

    await eventually(nothing_is_due)


async def test_the_metrics_of_a_run_are_those_of_the_graphs(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=0, throttled=True)
    await register(client, *range(3))
    await start(client)
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with client.session.get(client.admin_url + "/metrics", headers=headers) as response:
        text = await response.text()
    found = {
        (sample.labels["account"], sample.labels["outcome"], sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "inboxd_backfill_conversations"
    }
    assert found == {(ACCOUNT, outcome, 0) for outcome in ("success", "error", "skipped")} | {(ACCOUNT, "total", 3)}
