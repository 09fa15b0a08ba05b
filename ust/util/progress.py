"""The callback through which the library reports progress to its caller."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """An iterator wrapper that may display progress, such as `tqdm`."""

    def __call__(
        self, items: Iterable[T], *, total: int, description: str, unit: str = "clip"
    ) -> Iterable[T]:
        """Yield the items."""


def silent(items: Iterable[T], *, total: int, description: str, unit: str = "clip") -> Iterable[T]:
    """Return the items without displaying progress."""
    return items


def describe_as(name: str, progress: Progress) -> Progress:
    """Return a progress wrapper that displays a name instead of the caller's description."""

    def display(items: Iterable[T], *, total: int, description: str, unit: str = "clip") -> Iterable[T]:
        return progress(items, total=total, description=name, unit=unit)

    return display
