from inboxd.domain.mailbox import Party
from inboxd.domain.own_identity import OwnIdentity

SHOP = Party("17841400000000001", "the.shop")
SCOPED = Party("917841400000000001", "the.shop")
ANA, BRUNO, CHLOE = (Party(f"700000000000000{number}", name) for number, name in enumerate(("ana", "bruno", "chloe")))
OWN = OwnIdentity(frozenset({SHOP.id}), "the.shop")


def test_an_id_tells_the_account_from_the_other_side() -> None:
    assert OWN.others((SHOP, ANA)) == (ANA,)
    assert OWN.is_own(SHOP)
    assert not OWN.is_own(ANA)


def test_the_username_does_when_no_id_is_known() -> None:
    assert OWN.others((ANA, SCOPED)) == (ANA,)
    assert OwnIdentity(frozenset({SHOP.id}), "The.Shop").others((SCOPED, ANA)) == (ANA,)
    assert OWN.is_own(SCOPED)


def test_whoever_took_a_name_that_the_account_gave_up_is_not_the_account() -> None:
    taker = Party("7000000000000009", "the.shop")
    assert OWN.others((SHOP, taker)) == (taker,)


def test_a_conversation_with_oneself_has_no_others() -> None:
    assert OWN.others((SHOP,)) == ()


def test_sides_that_cannot_be_told_apart_are_not_guessed() -> None:
    stranger = Party("918", "another.shop")
    assert OWN.others((stranger, ANA)) is None
    assert OWN.others(()) is None
    assert OwnIdentity(frozenset()).others((Party("1"), Party("2"))) is None


def test_the_id_that_all_conversations_have_in_common_is_learned() -> None:
    stranger = Party("918")
    learned = OWN.learn([(stranger, ANA), (BRUNO, stranger), ()])
    assert learned.ids == {SHOP.id, "918"}
    assert learned.others((stranger, CHLOE)) == (CHLOE,)


def test_nothing_is_learned_from_too_little() -> None:
    stranger = Party("918")
    assert OWN.learn([]) is OWN
    assert OWN.learn([(stranger, ANA)]) is OWN
    assert OWN.learn([(stranger, ANA), (stranger, ANA)]) is OWN, "it may as well be Ana's"
    assert OWN.learn([(SHOP, ANA), (SHOP, BRUNO)]) is OWN, "the account is known"
    assert OWN.learn([(Party("1"), ANA), (Party("2"), BRUNO)]) is OWN
