"""What a worker holds in memory is bounded in bytes too, and room comes back."""

import pytest
from inboxd.forwarding.items import Item, ItemPage
from inboxd.forwarding.window import MAX_BYTES, MAX_ITEMS, PushWindow


def item(seq: int, size: int, lane: str = "c1") -> Item:
    return Item(seq, f"evt_{seq}", "message.received", "", lane, 0, b"x" * size)


def filled(*items: Item) -> PushWindow:
    window = PushWindow(0, {}, ordered=True)
    window.add(ItemPage(items, items[-1].seq, more=False))
    return window


@pytest.mark.parametrize("size", [MAX_BYTES, MAX_BYTES // 2])
def test_large_items_leave_no_room_until_they_are_delivered(size: int) -> None:
    window = filled(*(item(seq, size) for seq in range(1, MAX_BYTES // size + 1)))
    assert window.room == 0
    while (entry := window.take()) is not None:
        window.delivered(entry)
    assert window.room == MAX_ITEMS


def test_what_is_kept_for_a_retry_gives_its_room_back_with_what_is_behind_it() -> None:
    window = filled(item(1, MAX_BYTES // 2), item(2, MAX_BYTES // 2), item(3, 1, lane="c2"))
    assert window.room == 0
    entry = window.take()
    assert entry is not None
    assert [row.seq for row in window.keep(entry, 1000)] == [2]
    assert window.room == MAX_ITEMS - 1
