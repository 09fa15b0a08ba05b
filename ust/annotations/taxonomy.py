"""The taxonomy: coarse labels, each with any number of fine labels."""

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
    """Coarse and fine labels, in the order of the taxonomy file.

    Attributes
    ----------
    coarse : tuple of str
        ``1_engine``, ``2_machinery-impact``, …
    fine : tuple of str
        ``1-1_small-sounding-engine``, …, in the order of their coarse labels.
    group : tuple of int
        For each fine label, the index of its coarse label.
    """

    coarse: tuple[str, ...]
    fine: tuple[str, ...]
    group: tuple[int, ...]

    @classmethod
    def from_dict(cls, content: Mapping[str, Sequence[Any]]) -> "Taxonomy":
        """Return the taxonomy of a mapping that `dataclasses.asdict` made."""
        return cls(tuple(content["coarse"]), tuple(content["fine"]), tuple(content["group"]))

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, coarse first."""
        return self.coarse + self.fine

    @property
    def names(self) -> tuple[str, ...]:
        """The labels as users see them: custom classes by their names alone, SONYC-UST's with their numbers.

        Two labels of SONYC-UST have the same name, so numbers are kept where names are not unique.
        """
        names = tuple(map(label_name, self.labels))
        return names if len(set(names)) == len(names) else self.labels

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels with labels: both, or only "coarse"."""
        return ("fine", "coarse") if self.fine else ("coarse",)

    def groups(self, level: Level) -> list[int]:
        """Return the indices of coarse labels: all for "coarse", those with fine labels for "fine"."""
        return [g for g in range(len(self.coarse)) if level == "coarse" or self.fine_indices(g)]

    def categories(self, level: Level) -> list[str]:
        """Return the names of a level's groups, which are the categories of the official metrics."""
        return [self.coarse_name(g) for g in self.groups(level)]

    def fine_indices(self, group: int) -> list[int]:
        """Return the indices into `fine` of the group's labels."""
        return [i for i, g in enumerate(self.group) if g == group]

    def fine_labels(self, group: int) -> list[str]:
        """Return the fine labels of the group."""
        return [self.fine[index] for index in self.fine_indices(group)]

    def complete(self, group: int) -> list[int]:
        """Return the indices into `fine` of the group's labels without its ``-X`` label."""
        return [i for i in self.fine_indices(group) if not is_incomplete(self.fine[i])]

    def incomplete(self, group: int) -> int | None:
        """Return the index into `fine` of the group's ``-X`` label, or None."""
        indices = [i for i in self.fine_indices(group) if is_incomplete(self.fine[i])]
        return indices[0] if indices else None

    def coarse_name(self, group: int) -> str:
        """Return a coarse label without its number: ``engine``."""
        return label_name(self.coarse[group])


def label_number(label: str) -> str:
    """Return the number of a label: "3-1" for "3-1_voices"."""
    return label.split("_", 1)[0]


def label_name(label: str) -> str:
    """Return a label without its number: "voices" for "3-1_voices"."""
    return label.split("_", 1)[1]


def is_incomplete(fine_label: str) -> bool:
    """Return whether a fine label is the ``-X`` of its group, a sound of unknown or uncertain kind."""
    return label_number(fine_label).endswith("-X")


def read_taxonomy(path: Path) -> Taxonomy:
    """Read ``dcase-ust-taxonomy.yaml``.

    Parameters
    ----------
    path : Path
        A YAML file with the mappings ``coarse: {1: engine, …}`` and ``fine: {1: {1: …, X: …}, …}``. Groups
        without fine labels, and ``fine`` itself, may be missing.

    Raises
    ------
    UserError
        If the file does not have this form, or ``fine`` has a group that ``coarse`` does not have.
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
