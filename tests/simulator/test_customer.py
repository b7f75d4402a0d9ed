"""The simulated customer reads everything, and answers only the last of several messages."""

import time
from typing import Any

from inboxd.simulator.background import Background
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.customer import Customer
from inboxd.simulator.mailbox import Mailbox

from tests.support import ACCOUNT, ANA, BRUNO, eventually


async def test_of_several_messages_in_a_row_only_the_last_is_answered() -> None:
    told: list[Any] = []

    async def tell(payload: Any) -> None:
        told.extend(payload["entry"][0]["messaging"])

    # What is read is read after every answer was due.
    behaviour = Behaviour(customer_answers_ms=10, customer_reads_ms=100)
    customer = Customer(Mailbox(time.time), lambda: behaviour, Background(), tell, time.time)

    async def has_read(mid: str) -> bool:
        return any(item.get("read", {}).get("mid") == mid for item in told)

    def answers(who: str) -> int:
        return len([item for item in told if "text" in item.get("message", {}) and item["sender"]["id"] == who])

    for mid in ("m1", "m2", "m3"):
        customer.got(ACCOUNT, ANA, mid)
    customer.got(ACCOUNT, BRUNO, "m4")
    for mid in ("m1", "m2", "m3", "m4"):
        await eventually(lambda mid=mid: has_read(mid))  # type: ignore[misc]
    assert (answers(ANA), answers(BRUNO), customer.answers) == (1, 1, 2)

    customer.got(ACCOUNT, ANA, "m5")  # what is said later is answered again
    await eventually(lambda: has_read("m5"))
    assert (answers(ANA), customer.answers) == (2, 3)
