"""Synthetic annotators: volunteers who miss, imagine and confuse things, a team, and the agreed truth."""

from collections.abc import Iterator, Mapping

from ust.annotations.taxonomy import Taxonomy, is_incomplete
from ust.datasets.synthetic.scene import Event
from ust.datasets.synthetic.signals import Generator
from ust.util.seeding import random_stream

VOLUNTEERS = 60
VOLUNTEERS_PER_CLIP = 3
CONFUSED = 0.06
UNSURE = {True: 0.05, False: 0.2}  # near, far
TRUTH_UNCERTAIN = 0.2  # share of far events of which even the team cannot tell more than the group
PROXIMITY_UNSURE = 0.1

Row = dict[str, int | str]


class Annotators:
    """Everybody who annotates a city.

    Parameters
    ----------
    taxonomy : Taxonomy
    seed : int
        Of the per-class rates at which volunteers miss (5 to 30 %) and imagine (0 to 2 %) a class.
    """

    def __init__(self, taxonomy: Taxonomy, seed: int) -> None:
        self.taxonomy = taxonomy
        rng = random_stream(seed, "annotators")
        self.miss = dict(zip(taxonomy.fine, rng.uniform(0.05, 0.3, len(taxonomy.fine)), strict=True))
        self.imagine = dict(zip(taxonomy.fine, rng.uniform(0.0, 0.02, len(taxonomy.fine)), strict=True))
        self._by_name = {label.split("_", 1)[1]: label for label in taxonomy.fine}

    def rows(self, clip: Mapping[str, int | str], events: list[Event], rng: Generator) -> Iterator[Row]:
        """The annotation rows of a clip; `clip` gives split, sensor_id and audio_filename."""
        truth = {self._truth_label(event, rng): event for event in events}
        heard = [self._volunteer(events, rng) for _ in range(VOLUNTEERS_PER_CLIP)]
        people = rng.choice(VOLUNTEERS, size=VOLUNTEERS_PER_CLIP, replace=False) + 1
        for person, labels in zip(sorted(people), heard, strict=True):
            yield self._row(clip, int(person), labels, rng)
        if clip["split"] == "validate":
            for group in self._disputed(heard):
                for member in (-1, -2):
                    yield self._row(clip, member, truth, rng, only_group=group)
            yield self._row(clip, 0, truth, rng)

    def _truth_label(self, event: Event, rng: Generator) -> str:
        label = self._by_name[event.name]
        uncertain = not event.near and rng.random() < TRUTH_UNCERTAIN
        return (uncertain and self._incomplete_of(label)) or label

    def _incomplete_of(self, label: str) -> str | None:
        x = self.taxonomy.incomplete(self.taxonomy.group[self.taxonomy.fine.index(label)])
        return None if x is None else self.taxonomy.fine[x]

    def _volunteer(self, events: list[Event], rng: Generator) -> dict[str, Event | None]:
        labels: dict[str, Event | None] = {}
        for event in events:
            label = self._by_name[event.name]
            miss = self.miss[label] * (0.5 if event.near else 1.5)
            draw = rng.random(4)
            if draw[0] < miss:
                continue
            sisters = self.taxonomy.complete(self.taxonomy.group[self.taxonomy.fine.index(label)])
            if draw[1] < UNSURE[event.near]:
                label = self._incomplete_of(label) or label
            elif draw[2] < CONFUSED:
                label = self.taxonomy.fine[sisters[int(draw[3] * len(sisters))]]
            labels[label] = event
        for label in self.taxonomy.fine:
            if rng.random() < self.imagine[label] and not is_incomplete(label):
                labels.setdefault(label, None)
        return labels

    def _disputed(self, heard: list[dict[str, Event | None]]) -> list[int]:
        groups = []
        for g in range(len(self.taxonomy.coarse)):
            members = {
                label
                for label, group in zip(self.taxonomy.fine, self.taxonomy.group, strict=True)
                if group == g
            }
            if len({frozenset(labels.keys() & members) for labels in heard}) > 1:
                groups.append(g)
        return groups

    def _row(
        self,
        clip: Mapping[str, int | str],
        annotator: int,
        labels: Mapping[str, Event | None],
        rng: Generator,
        only_group: int | None = None,
    ) -> Row:
        row: Row = {**clip, "annotator_id": annotator}
        for label, group in zip(self.taxonomy.fine, self.taxonomy.group, strict=True):
            asked = only_group in (None, group)
            row[f"{label}_presence"] = int(label in labels) if asked else -1
            # As in the real file, only volunteers say how near a sound is.
            row[f"{label}_proximity"] = (
                self._proximity(labels[label], rng) if annotator > 0 and label in labels else "-1"
            )
        for g, label in enumerate(self.taxonomy.coarse):
            members = [
                f for f, group in zip(self.taxonomy.fine, self.taxonomy.group, strict=True) if group == g
            ]
            row[f"{label}_presence"] = max(int(row[f"{f}_presence"]) for f in members)
        return row

    @staticmethod
    def _proximity(event: Event | None, rng: Generator) -> str:
        if event is None or rng.random() < PROXIMITY_UNSURE:
            return "notsure"
        return "near" if event.near else "far"
