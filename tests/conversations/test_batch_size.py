from inboxd.conversations.batch_size import BatchSize


def test_one_stall_does_not_make_every_later_transaction_a_small_one() -> None:
    size = BatchSize(smallest=3, largest=500)
    for _ in range(20):
        size.took(4, 5.0)

    for _ in range(50):
        events = size.fitting(0.016)
        size.took(events, 0.0004 + events * 50e-6)

    assert size.fitting(0.016) > 200


def test_the_size_follows_what_events_cost() -> None:
    size = BatchSize(smallest=3, largest=500)
    for _ in range(50):
        size.took(100, 0.01)
    assert 90 <= size.fitting(0.01) <= 110
    assert size.fitting(0.0001) == 3
    assert size.fitting(10) == 500
