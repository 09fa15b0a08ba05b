"""The taxonomy: coarse groups and, below them, fine labels, of all groups, of some or of none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ust.util.documents import read_yaml
from ust.util.errors import UserError
from ust.util.names import nfc

Level = Literal["coarse", "fine"]


@dataclass(frozen=True)
class Taxonomy:
    """Labels of both levels, in taxonomy order.

    Attributes
    ----------
    coarse : tuple of str
        ``1_engine``, ``2_machinery-impact``, …
    fine : tuple of str
        ``1-1_small-sounding-engine``, …, grouped as `coarse` is.
    group : tuple of int
        For each fine label, the index of its coarse label.
    """

    coarse: tuple[str, ...]
    fine: tuple[str, ...]
    group: tuple[int, ...]

    @classmethod
    def from_dict(cls, content: Mapping[str, Sequence[Any]]) -> "Taxonomy":
        """The one that `dataclasses.asdict` made a mapping of."""
        return cls(tuple(content["coarse"]), tuple(content["fine"]), tuple(content["group"]))

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, coarse first."""
        return self.coarse + self.fine

    @property
    def levels(self) -> tuple[Level, ...]:
        """Those that there are labels of."""
        return ("fine", "coarse") if self.fine else ("coarse",)

    def groups(self, level: Level) -> list[int]:
        """The groups that a level has labels of: each of the coarse one, those with members of the fine."""
        return [g for g in range(len(self.coarse)) if level == "coarse" or self.members(g)]

    def categories(self, level: Level) -> list[str]:
        """The coarse names of a level's groups: what official figures are of."""
        return [self.coarse_name(g) for g in self.groups(level)]

    def members(self, group: int) -> list[int]:
        """Indices into `fine` of the group's labels."""
        return [i for i, g in enumerate(self.group) if g == group]

    def complete(self, group: int) -> list[int]:
        """Indices into `fine` of the group's known ("complete") labels."""
        return [i for i in self.members(group) if not is_incomplete(self.fine[i])]

    def incomplete(self, group: int) -> int | None:
        """Index into `fine` of the group's ``-X`` label, or None."""
        found = [i for i in self.members(group) if is_incomplete(self.fine[i])]
        return found[0] if found else None

    def coarse_name(self, group: int) -> str:
        """The coarse label without its number: ``engine``."""
        return self.coarse[group].split("_", 1)[1]


def is_incomplete(fine_label: str) -> bool:
    """Whether a fine label is its group's ``-X``: something of the group, unknown or uncertain which."""
    return fine_label.split("_", 1)[0].endswith("-X")


def read_taxonomy(path: Path) -> Taxonomy:
    """Read ``dcase-ust-taxonomy.yaml``.

    Parameters
    ----------
    path : Path
        A mapping with ``coarse: {1: engine, …}`` and ``fine: {1: {1: …, X: …}, …}``; a group may have no
        fine labels, and without ``fine`` none has.

    Raises
    ------
    UserError
        If the file is not such a mapping, or has fine labels of a group that there is not.
    """
    content = read_yaml(path)
    coarse, fine = content.get("coarse"), content.get("fine", {})
    if not isinstance(coarse, dict) or not isinstance(fine, dict) or not coarse:
        raise UserError(
            f"{path}: needs the mapping 'coarse' (number: name); 'fine' is another (number: {{…: name}})"
        )
    if unknown := sorted(str(key) for key in set(fine) - set(coarse)):
        raise UserError(f"{path}: 'fine' has groups that 'coarse' does not have: {', '.join(unknown)}")
    coarse_labels, fine_labels, group = [], [], []
    for index, (number, name) in enumerate(coarse.items()):
        members = fine.get(number, {})
        if not isinstance(name, str) or not isinstance(members, dict):
            raise UserError(f"{path}: group {number} needs a name, and its fine labels numbers")
        if not all(isinstance(member, str) for member in members.values()):
            raise UserError(f"{path}: the fine labels of group {number} must be names")
        coarse_labels.append(nfc(f"{number}_{name}"))
        fine_labels += [nfc(f"{number}-{key}_{member}") for key, member in members.items()]
        group += [index] * len(members)
    return Taxonomy(tuple(coarse_labels), tuple(fine_labels), tuple(group))
