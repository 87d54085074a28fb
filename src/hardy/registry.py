"""Registries: named things of one kind, which users can add their own to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

from hardy.errors import UsageError, unknown

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to items of one kind, in the order in which they were added.

    Args:
        kind: what an item is called in messages, for example ``attack``.
        items: the first items; each has a ``name``, unless ``name_of`` says otherwise.
        name_of: from an item to its name.
    """

    def __init__(
        self,
        kind: str,
        items: Iterable[T] = (),
        name_of: Callable[[T], str] = lambda item: item.name,  # type: ignore[attr-defined]
    ) -> None:
        self.kind = kind
        self._name_of = name_of
        self._items: dict[str, T] = {}
        for item in items:
            self.add(item)

    def add(self, item: T) -> T:
        """Add an item under its name, and return it.

        Raises:
            UsageError: the name is taken.
        """
        name = self._name_of(item)
        if name in self._items:
            raise UsageError(f"there is a {self.kind} '{name}' already; choose another name")
        self._items[name] = item
        return item

    def remove(self, name: str) -> None:
        """Take an item out again; tests do."""
        del self._items[name]

    @contextmanager
    def holding(self, item: T) -> Iterator[T]:
        """Hold an item for as long as the context lasts.

        Raises:
            UsageError: the name is taken.
        """
        self.add(item)
        try:
            yield item
        finally:
            self.remove(self._name_of(item))

    def find(self, name: str) -> T:
        """The item of that name.

        Raises:
            UsageError: there is none; the nearest names are given.
        """
        if name not in self._items:
            raise unknown(self.kind, name, self._items)
        return self._items[name]

    def __getitem__(self, name: str) -> T:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
