"""The mutations stay true while the code moves: each has its one place, still makes a program, and has its tests."""

import ast

import pytest

from tests.mutants.mutations import Mutation, load, node_ids, places, sources

MUTATIONS = load()
TEXTS = sources()
TESTS = node_ids()


def test_there_are_enough() -> None:
    assert len(MUTATIONS) >= 150
    assert len({(one.find, one.replace) for one in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: f"{one.group}: {one.why}")
def test_a_mutation_is_of_one_place_and_has_tests(mutation: Mutation) -> None:
    found = places(mutation, TEXTS)
    assert len(found) == 1, f"this stands in {len(found)} places: {mutation.find}"
    (path,) = found
    mutated = TEXTS[path].replace(mutation.find, mutation.replace)
    assert mutated != TEXTS[path]
    if path.suffix == ".py":
        ast.parse(mutated)
    assert mutation.why.endswith(".")
    assert mutation.tests
    for name in mutation.tests:
        assert len(TESTS[name]) == 1, f"{name}: {TESTS[name]}"
