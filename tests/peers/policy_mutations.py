"""Policies that are a little wrong: one random field left out, or given a value that it should not have.
"""

import copy
import random
import typing

WRONG_TEXTS = ["", "bad value!", "TCP", "http", "10.0.0.0/33", "10.0.0.0/8", "x" * 70]
WRONG_VALUES: list[typing.Any] = [*WRONG_TEXTS, -1, 0, 70000, True, [], {}, [""], ["a"]]


def mutated(manifest: dict[str, typing.Any], seed: int) -> dict[str, typing.Any]:
    """The manifest with one change below its spec."""
    chooser = random.Random(seed)
    found = copy.deepcopy(manifest)
    places = list(places_of(found.get("spec", found.get("specs"))))
    if not places:
        return found
    owner, key = chooser.choice(places)
    if chooser.random() < 0.25:
        del owner[key]
    else:
        owner[key] = copy.deepcopy(chooser.choice(WRONG_VALUES))
    return found


def places_of(value: typing.Any) -> typing.Iterator[tuple[typing.Any, typing.Any]]:
    """Every container and key below a value."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield value, key
            yield from places_of(below)
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield value, place
            yield from places_of(below)
