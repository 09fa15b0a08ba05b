"""Classes in people's own words, and the labels of a taxonomy that they are."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ust.annotations.taxonomy import Taxonomy
from ust.files.errors import UserError
from ust.files.nfc import nfc

MOST = 1000  # classes


def slug(text: str) -> str:
    """Return a name as labels have it.

    Examples
    --------
    >>> slug(" Church bell (big)")
    'church-bell-big'
    """
    return re.sub(r"[\W_]+", "-", nfc(text).strip().lower()).strip("-")


def taxonomy_of(classes: Iterable[str]) -> dict[str, Any]:
    """Return a taxonomy in the layout of ``dcase-ust-taxonomy.yaml``, of classes such as "market: voices".

    A coarse class may stand before or after its fine ones, or be implied by them.

    Raises
    ------
    UserError
        If there are none, or one has no letters, stands twice or has three levels.

    Examples
    --------
    >>> taxonomy_of(["tram", "market: voices", "market: cart"])
    {'coarse': {1: 'tram', 2: 'market'}, 'fine': {2: {1: 'voices', 2: 'cart'}}}
    """
    groups: dict[str, list[str]] = {}
    seen: set[tuple[str, ...]] = set()
    for text in classes:
        parts = [slug(part) for part in text.split(":")]
        if len(parts) > 2 or not all(parts):
            raise UserError(f"the class {text!r} should be a name, or two with a colon: 'market: voices'")
        if tuple(parts) in seen:
            raise UserError(f"the class {text!r} is there twice")
        seen.add(tuple(parts))
        coarse, *fine = parts
        groups[coarse] = [*groups.get(coarse, []), *fine]
    if not groups or sum(map(len, groups.values())) + len(groups) > MOST:
        raise UserError(f"there should be at least one class, and at most {MOST}")
    numbered = list(enumerate(groups.items(), start=1))
    fine = {number: dict(enumerate(members, start=1)) for number, (_, members) in numbered if members}
    return {"coarse": {number: name for number, (name, _) in numbered}} | ({"fine": fine} if fine else {})


class Labels:
    """The label that is meant by a class in somebody's words.

    Parameters
    ----------
    taxonomy : Taxonomy
    renamed : mapping of str to str
        Classes by other names that they have in the source; "" for what is none of them.
    """

    def __init__(self, taxonomy: Taxonomy, renamed: Mapping[str, str]) -> None:
        self._meant: dict[str, list[str]] = {}
        for group, coarse in enumerate(taxonomy.coarse):
            self._add(coarse, taxonomy.coarse_name(group), coarse)
            for index in taxonomy.members(group):
                label = taxonomy.fine[index]
                name = label.split("_", 1)[1]
                for text in (name, f"{taxonomy.coarse_name(group)}: {name}", label):
                    self._add(label, text, text)
        self._renamed = {}
        for old, new in renamed.items():
            self._renamed[slug(old)] = self._find(new) if new.strip() else ""
        if unknown := [new for new in renamed.values() if new.strip() and self._find(new) is None]:
            raise UserError(
                f"--map: there is no class {unknown[0]!r}; there are {', '.join(taxonomy.labels)}"
            )

    def _add(self, label: str, *texts: str) -> None:
        for text in {slug(text) for text in texts}:
            self._meant.setdefault(text, []).append(label)

    def _find(self, text: str) -> str | None:
        """The label; where a coarse and a fine one have the same name, the fine one, which says both."""
        found = dict.fromkeys(self._meant.get(slug(text), []))
        fine = [label for label in found if "-" in label.split("_", 1)[0]]
        candidates = fine or list(found)
        return candidates[0] if len(candidates) == 1 else None

    def of(self, text: str) -> str | None:
        """The label of a class; "" if it is to be taken for none of them, None if it is not known."""
        renamed = self._renamed.get(slug(text))
        return self._find(text) if renamed is None else renamed
