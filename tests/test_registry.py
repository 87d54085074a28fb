"""Registries: order, nearest names, and names that are taken."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import pytest

from hardy.errors import UsageError
from hardy.registry import Registry


class Fruit(NamedTuple):
    name: str


def test_items_keep_their_order_and_are_found_by_name() -> None:
    fruits = Registry("fruit", [Fruit("pear"), Fruit("apple")])
    assert list(fruits) == ["pear", "apple"]
    assert fruits.find("apple") is fruits["apple"]


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown fruit 'aple'; did you mean apple"):
        Registry("fruit", [Fruit("pear"), Fruit("apple")]).find("aple")


def test_a_name_is_taken_once_and_free_after_removal() -> None:
    fruits = Registry("fruit", [Fruit("pear")])
    with pytest.raises(UsageError, match="there is a fruit 'pear' already"):
        fruits.add(Fruit("pear"))
    fruits.remove("pear")
    assert fruits.add(Fruit("pear")) in fruits.values()


def test_an_item_is_held_for_as_long_as_the_context_lasts() -> None:
    fruits = Registry("fruit", [Fruit("pear")])
    with fruits.holding(Fruit("fig")) as fig:
        assert fruits.find("fig") is fig
    with suppress(ZeroDivisionError), fruits.holding(Fruit("fig")):
        raise ZeroDivisionError
    assert list(fruits) == ["pear"]
