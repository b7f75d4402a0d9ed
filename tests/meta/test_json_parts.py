"""What is cut at its brackets: one bracket with everything in it, or nothing."""

import pytest
from inboxd.meta.json_parts import MAX_PARTS, elements, entries_of, members, require_shallow


@pytest.mark.parametrize(
    "text", [b"[1][2]", b"[[1]", b"[1]]", b"[1,]", b"[,1]", b"[", b"", b"1", b'{"a":1}', b'["]', b'["\\"]', b'["\\']
)
def test_what_is_not_one_array_has_no_elements(text: bytes) -> None:
    assert elements(text) is None


@pytest.mark.parametrize("text", [b'{"a":1}{"b":2}', b'{"a":1,}', b'{"a"}', b"{1:2}", b'{"a":1', b"[]"])
def test_what_is_not_one_object_has_no_members(text: bytes) -> None:
    assert members(text) is None


def test_parts_stand_as_they_came() -> None:
    assert elements(b' [ {"a": [NaN, "]"]} , nonsense, "," ] ') == [b'{"a": [NaN, "]"]}', b"nonsense", b'","']
    assert members(b' { "a" : {"b": 1}, "c\\u0064": [1, 2] } ') == {"a": b'{"b": 1}', "cd": b"[1, 2]"}
    assert elements(b"[ ]") == []
    assert members(b"{}") == {}


def test_an_array_of_millions_is_not_taken_apart() -> None:
    assert elements(b"[" + b"0," * (MAX_PARTS - 1) + b"0]") == [b"0"] * MAX_PARTS
    assert elements(b"[" + b"0," * (2 * MAX_PARTS + 1) + b"0]") is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("end", [b"", b"}]}]}", b"\\"])
def test_a_string_of_quotes_that_never_ends_takes_no_longer_than_another(end: bytes) -> None:
    body = b'{"object":"instagram","entry":[{"id":"1","messaging":[{"x":"' + b'\\"' * 1_000_000 + end
    assert entries_of(body) is None
    require_shallow(body, levels=64, brackets=10)
