"""Simulated annotators: volunteers with misses, false alarms and confusions, a team, and the ground truth."""

from collections.abc import Iterator, Mapping

from ust.annotations.taxonomy import Taxonomy, is_incomplete, label_name
from ust.datasets.synthetic.scene import Event
from ust.datasets.synthetic.signals import Generator
from ust.util.seeding import random_stream

VOLUNTEERS = 60
VOLUNTEERS_PER_CLIP = 3
CONFUSED = 0.06  # probability of a random fine label of the same group, perhaps the same one
UNSURE = {True: 0.05, False: 0.2}  # probability of the -X label, for near (True) and far events
TRUTH_UNCERTAIN = 0.2  # fraction of far events with an -X label in the ground truth
PROXIMITY_UNSURE = 0.1  # probability of the proximity "notsure"

Row = dict[str, int | str]


class Annotators:
    """All annotators of a city."""

    def __init__(self, taxonomy: Taxonomy, seed: int) -> None:
        self.taxonomy = taxonomy
        rng = random_stream(seed, "annotators")
        self.miss_rate = dict(zip(taxonomy.fine, rng.uniform(0.05, 0.3, len(taxonomy.fine)), strict=True))
        self.false_alarm_rate = dict(
            zip(taxonomy.fine, rng.uniform(0.0, 0.02, len(taxonomy.fine)), strict=True)
        )
        self._by_name = {label_name(label): label for label in taxonomy.fine}

    def rows(self, clip: Mapping[str, int | str], events: list[Event], rng: Generator) -> Iterator[Row]:
        """Yield the annotation rows of a clip; `clip` has split, sensor_id and audio_filename."""
        truth = {self._truth_label(event, rng): event for event in events}
        volunteers = [self._annotate(events, rng) for _ in range(VOLUNTEERS_PER_CLIP)]
        ids = rng.choice(VOLUNTEERS, size=VOLUNTEERS_PER_CLIP, replace=False) + 1
        for annotator, labels in zip(sorted(ids), volunteers, strict=True):
            yield self._row(clip, int(annotator), labels, rng)
        if clip["split"] == "validate":
            for group in self._disputed_groups(volunteers):
                for member in (-1, -2):
                    yield self._row(clip, member, truth, rng, only_group=group)
            yield self._row(clip, 0, truth, rng)

    def _truth_label(self, event: Event, rng: Generator) -> str:
        """Return the ground-truth label of an event."""
        label = self._by_name[event.name]
        uncertain = not event.near and rng.random() < TRUTH_UNCERTAIN
        return (uncertain and self._incomplete_of(label)) or label

    def _incomplete_of(self, label: str) -> str | None:
        """Return the -X label in the group of a fine label, or None."""
        x = self.taxonomy.incomplete(self.taxonomy.group[self.taxonomy.fine.index(label)])
        return None if x is None else self.taxonomy.fine[x]

    def _annotate(self, events: list[Event], rng: Generator) -> dict[str, Event | None]:
        """Return the labels that a volunteer gives a clip, with their event; None for a false alarm."""
        labels: dict[str, Event | None] = {}
        for event in events:
            label = self._by_name[event.name]
            miss = self.miss_rate[label] * (0.5 if event.near else 1.5)
            draw = rng.random(4)
            if draw[0] < miss:
                continue
            siblings = self.taxonomy.complete(self.taxonomy.group[self.taxonomy.fine.index(label)])
            if draw[1] < UNSURE[event.near]:
                label = self._incomplete_of(label) or label
            elif draw[2] < CONFUSED:
                label = self.taxonomy.fine[siblings[int(draw[3] * len(siblings))]]
            labels[label] = event
        for label in self.taxonomy.fine:
            if rng.random() < self.false_alarm_rate[label] and not is_incomplete(label):
                labels.setdefault(label, None)
        return labels

    def _disputed_groups(self, volunteers: list[dict[str, Event | None]]) -> list[int]:
        """Return the groups whose fine labels differ between volunteers."""
        groups = []
        for group in range(len(self.taxonomy.coarse)):
            members = set(self.taxonomy.fine_labels(group))
            if len({frozenset(labels.keys() & members) for labels in volunteers}) > 1:
                groups.append(group)
        return groups

    def _row(
        self,
        clip: Mapping[str, int | str],
        annotator: int,
        labels: Mapping[str, Event | None],
        rng: Generator,
        only_group: int | None = None,
    ) -> Row:
        """Return a row of annotations.csv; labels outside `only_group` are -1 (not asked)."""
        row: Row = {**clip, "annotator_id": annotator}
        for label, group in zip(self.taxonomy.fine, self.taxonomy.group, strict=True):
            asked = only_group in (None, group)
            row[f"{label}_presence"] = int(label in labels) if asked else -1
            # As in the real file, only volunteers annotate the proximity.
            row[f"{label}_proximity"] = (
                self._proximity(labels[label], rng) if annotator > 0 and label in labels else "-1"
            )
        for group, label in enumerate(self.taxonomy.coarse):
            members = self.taxonomy.fine_labels(group)
            row[f"{label}_presence"] = max(int(row[f"{member}_presence"]) for member in members)
        return row

    @staticmethod
    def _proximity(event: Event | None, rng: Generator) -> str:
        """Return the proximity that a volunteer annotates."""
        if event is None or rng.random() < PROXIMITY_UNSURE:
            return "notsure"
        return "near" if event.near else "far"
