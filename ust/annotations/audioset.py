"""AudioSet's classes: names and typical logits, and the classes that stand for labels of a taxonomy."""

import csv
import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np

from ust.annotations.taxonomy import Taxonomy, label_name, label_number
from ust.util.documents import read_yaml

FOLDER = Path(__file__).parent
MIN_SIMILARITY = 0.82  # ratio of difflib from which names are similar
MIN_SIMILAR_LENGTH = 6  # shorter names never are: "cart" would be similar to "car"

ClassesByLabel = dict[str, list[str]]


@cache
def class_indices() -> dict[str, int]:
    """Return the index of each of AudioSet's 527 classes by name, in the order of the network's logits.

    Examples
    --------
    >>> class_indices()["Jackhammer"], len(class_indices())
    (420, 527)
    """
    return {row["name"]: int(row["index"]) for row in _table()}


@cache
def typical_logits() -> np.ndarray:
    """Return the typical logit of each class in city clips [shape=(527,), float32].

    It is the median over 600 clips of the class's highest logit by mn04_as in windows of 2.5 s;
    ``benchmarks/audioset.py`` computes it.
    """
    return np.array([float(row["typical_logit"]) for row in _table()], np.float32)


def _table() -> list[dict[str, str]]:
    """Read the names of the classes (Gemmeke et al., ICASSP 2017) and their typical logits."""
    with (FOLDER / "audioset_classes.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def _sonyc_classes() -> ClassesByLabel:
    """Read the classes of SONYC-UST's labels."""
    return read_yaml(FOLDER / "audioset_labels.yaml")


def sonyc_taxonomy() -> Taxonomy:
    """Return the taxonomy of SONYC-UST.

    Examples
    --------
    >>> len(sonyc_taxonomy().coarse), len(sonyc_taxonomy().fine)
    (8, 29)
    """
    labels = list(_sonyc_classes())
    coarse = [label for label in labels if "-" not in label_number(label)]
    fine = [label for label in labels if label not in coarse]
    numbers = list(map(label_number, coarse))
    group = (numbers.index(label_number(label).split("-")[0]) for label in fine)
    return Taxonomy(tuple(coarse), tuple(fine), tuple(group))


def audioset_taxonomy() -> Taxonomy:
    """Return a taxonomy with a coarse label for each of AudioSet's classes, such as ``0_Speech``."""
    return Taxonomy(tuple(f"{index}_{name}" for name, index in class_indices().items()), (), ())


def map_labels_to_classes(taxonomy: Taxonomy) -> ClassesByLabel:
    """Return the AudioSet classes of each label of a taxonomy, none for labels without a match.

    Labels with a name of SONYC-UST's have the classes of ``audioset_labels.yaml``. Other labels have those of
    `match_classes`, and if they are coarse also the classes of their fine labels.

    Returns
    -------
    dict of str to list of str
        Coarse labels first.

    Examples
    --------
    >>> map_labels_to_classes(Taxonomy(("1_tram", "2_jackhammer"), (), ()))
    {'1_tram': [], '2_jackhammer': ['Jackhammer']}
    """
    known = {label_name(label): classes for label, classes in _sonyc_classes().items()}
    classes = {
        label: list(known.get(label_name(label)) or match_classes(label_name(label)))
        for label in taxonomy.labels
    }
    for group, label in enumerate(taxonomy.coarse):
        if label_name(label) not in known:
            members = taxonomy.fine_labels(group)
            classes[label] = list(dict.fromkeys(chain(*(classes[member] for member in (label, *members)))))
    return classes


def match_classes(name: str) -> list[str]:
    """Return the AudioSet classes whose names match a label's name.

    The first of these rules that matches any class decides; words are compared without their endings.

    1. Equal names: "car horn" and "Vehicle horn, car horn, honking".
    2. The same words: "crying baby" and "Baby cry".
    3. Similar spelling: "air conditioner" and "Air conditioning".
    4. The class has all words of the label: "horn" and "Train horn".
    5. The label has all words of the class: "street music" and "Music". Of several such classes, those with
       the most words match.

    Parameters
    ----------
    name : str
        Name of a label, such as ``church-bell``.

    Examples
    --------
    >>> match_classes("church-bells"), match_classes("street music"), match_classes("tram")
    (['Church bell'], ['Music'], [])
    """
    words, letters = _words(name), _letters(name)
    parts = {class_: _parts(class_) for class_ in class_indices()}
    if equal := [class_ for class_ in parts if letters in map(_letters, parts[class_])]:
        return equal
    if same_words := [class_ for class_ in parts if words in map(_words, parts[class_])]:
        return same_words
    if len(letters) >= MIN_SIMILAR_LENGTH and (
        similar := [class_ for class_ in parts if _similarity(letters, parts[class_]) >= MIN_SIMILARITY]
    ):
        return similar
    if containing := [class_ for class_ in parts if words and words <= _words(class_)]:
        return containing
    contained = {
        class_: max((len(_words(part)) for part in names if _words(part) <= words), default=0)
        for class_, names in parts.items()
    }
    most = max(contained.values())
    return [class_ for class_, count in contained.items() if most and count == most]


def _parts(name: str) -> list[str]:
    """Return a class's name and its parts: "Bee, wasp, etc.", "Bee", "wasp" and "etc."."""
    plain = re.sub(r"\(.*?\)", "", name)
    return list(dict.fromkeys(part.strip() for part in (name, plain, *plain.split(","))))


@cache
def _words(text: str) -> frozenset[str]:
    """Return the words of a name in lower case, without their endings."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return frozenset(re.sub(r"(?<=...)(ing|es|e|s)$", "", word) for word in words)


@cache
def _letters(text: str) -> str:
    """Return the letters of a name in lower case."""
    return re.sub(r"[\W\d_]+", "", text.lower())


def _similarity(letters: str, parts: list[str]) -> float:
    """Return the highest ratio of similarity to one of the names."""
    return max(difflib.SequenceMatcher(None, letters, _letters(part)).ratio() for part in parts)


def check_classes(classes: Mapping[str, Iterable[str]]) -> None:
    """Check that every class exists and that at least one label has one."""
    known = class_indices()
    for label, names in classes.items():
        for name in names:
            if name not in known:
                near, *_ = match_classes(name) or difflib.get_close_matches(name, known, cutoff=0)
                raise ValueError(f"classes.{label}: AudioSet has no class {name!r}; did you mean {near!r}?")
    if not any(classes.values()):
        raise ValueError("classes: no label has any; name at least one AudioSet class of one label")
