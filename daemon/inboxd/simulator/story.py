"""A few minutes of traffic in the inbox of a small shop."""

import random
from collections.abc import Iterator
from typing import Any, Final

from inboxd.simulator.payloads import Conversationalist, Item, comment, delivery, test_button, without_parties
from inboxd.simulator.people import igsid, person

PEOPLE: Final = 25
_OPENINGS: Final = (
    "Hi! Is the blue one still available? 💙", "¿Hacéis envíos a Canarias?", "Bonjour, quels sont vos horaires ?",
    "Do you ship to Norway?", "こんにちは、在庫はありますか？", "Does it come in size M?",
    "Wie lange dauert der Versand?",
    "Love your new collection 😍", "мне нужна помощь с заказом", "Can I return this?",
)  # fmt: skip
_FOLLOW_UPS: Final = ("Anyone there?", "Thanks!", "Order number is 10293", "Perfect 🙌", "And in green?", "ok, gracias")
_ANSWERS: Final = (
    "Hi! Yes, it is.",
    "Of course, two to three days.",
    "We are open until 8 pm.",
    "Just sent you a link!",
)


def story(
    account_id: str, started_at: int, *, people: int = PEOPLE, first: int = 0, seed: int = 1
) -> list[dict[str, Any]]:
    """Deliveries in which each of `people` participants writes and every kind of webhook event occurs.

    `first` is the number of the first person: another story needs other people.
    """
    rng = random.Random(seed)
    talkers = [Conversationalist(account_id, igsid(first + n), started_at + n * 700) for n in range(people)]
    payloads: list[dict[str, Any]] = [test_button()]
    running = [_accompanied(who, _talk(who, n, rng), rng) for n, who in enumerate(talkers)]
    while running:
        batch: list[Item] = []
        for talk in rng.sample(running, min(len(running), rng.randint(1, 5))):
            items = next(talk, None)
            if items is None:
                running.remove(talk)
            else:
                batch += items
        if batch:
            payloads.append(delivery(account_id, batch[-1]["timestamp"], batch))
    payloads += _asides(account_id, started_at, first)
    return payloads


def _accompanied(who: Conversationalist, talk: Iterator[Item], rng: random.Random) -> Iterator[list[Item]]:
    """The items by delivery, as Instagram sends them: each message with its companion, in the same or another delivery.

    Some companions and some `seen` items come without sender and recipient.
    """
    for item in talk:
        message = item.get("message", {})
        if "read" in item and rng.random() < 0.4:
            yield [without_parties(item)]
        elif "mid" not in message or message.get("is_echo") or message.get("is_deleted"):
            yield [item]
        else:
            companion = who.companion(item)
            pair = [item, without_parties(companion) if rng.random() < 0.7 else companion]
            if rng.random() < 0.2:
                pair.reverse()
            yield from [pair] if rng.random() < 0.5 else [[one] for one in pair]


def _talk(who: Conversationalist, number: int, rng: random.Random) -> Iterator[Item]:
    opening = who.comes_from_ad(rng.choice(_OPENINGS)) if number % 8 == 7 else who.says(rng.choice(_OPENINGS))
    yield opening
    yield from _special(who, opening, number)
    if rng.random() < 0.6:
        yield who.says(rng.choice(_FOLLOW_UPS))
    if rng.random() < 0.7:
        answer = who.answers(rng.choice(_ANSWERS))
        yield answer
        yield who.sees(answer)
        if rng.random() < 0.5:
            yield who.reacts(answer)
        if rng.random() < 0.5:
            yield who.says(rng.choice(_FOLLOW_UPS))


def _special(who: Conversationalist, opening: Item, number: int) -> Iterator[Item]:  # noqa: C901 - a list of cases
    """A rarer kind of webhook event, chosen by the participant's number."""
    match number % 12:
        case 0:
            yield who.sends("image")
        case 1:
            yield who.edits(opening, "Sorry, I meant the green one 💚")
        case 2:
            regretted = who.says("forget it")
            yield regretted
            yield who.unsends(regretted)
        case 3:
            yield who.sends("like_heart")
        case 4:
            yield who.replies_to_story("so nice!")
        case 5:
            yield who.taps("Opening hours?", "FAQ_HOURS", with_mid=False)
        case 6:
            yield who.sends("ig_reel", title="Spring")
        case 7:
            yield who.sends_unsupported()
        case 8:
            yield who.reacts(opening)
            yield who.unreacts(opening)
        case 9:
            yield who.opens_link("qr7")
        case 10:
            yield who.sends("story_mention")
        case _:
            yield who.says("Red", quick_reply={"payload": "COLOUR_RED"})


def _asides(account_id: str, started_at: int, first: int) -> list[dict[str, Any]]:
    """Webhook events other than direct messages: comments, opt-ins, handovers, standby, a message to oneself."""
    who = Conversationalist(account_id, igsid(first), started_at + 60_000, first_number=1000)
    fan = person(igsid(first + 1))
    username = fan.username if fan is not None else ""
    return [
        delivery(
            account_id, started_at // 1000, [comment(igsid(first + 1), username, "precio?", first + 1)], field="changes"
        ),
        delivery(account_id, who.now, [who.opts_in(), who.hands_over()]),
        delivery(account_id, who.now, [who.says("while the other app has the thread")], field="standby"),
        delivery(account_id, who.now, [who.notes_to_self("reorder boxes")]),
    ]
