"""How the library tells whoever calls it how far it has come."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Passes items on, and may show how many of them have been asked for."""

    def __call__(
        self, items: Iterable[T], *, total: int, description: str, unit: str = "clip"
    ) -> Iterable[T]:
        """The same items."""


def silent(items: Iterable[T], *, total: int, description: str, unit: str = "clip") -> Iterable[T]:
    """Show nothing."""
    return items
