"""Collections: labels of clips, cutting, splits and reviews."""

import os
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from ust.annotations.annotations import KEYS
from ust.cli.import_ import main as import_command
from ust.custom.project import create_project
from ust.custom.training import aggregate_labels
from ust.datasets.collection import Collection
from ust.datasets.formats.base import Annotation, Status
from ust.datasets.importing import (
    LabelResolver,
    import_recordings,
    import_unlabelled,
    split_groups,
    taxonomy_from_classes,
)
from ust.util.errors import UserError

RATE = 8000
CLASSES = ("tram", "church bell", "market: voices", "market: cart")


@pytest.fixture
def collection(tmp_path):
    return Collection.create(tmp_path / "city", taxonomy_from_classes(CLASSES))


@pytest.fixture
def record(tmp_path):
    def write(name="street.wav", seconds=25.0):
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(list(name.encode()))
        sf.write(path, 0.1 * rng.standard_normal((round(seconds * RATE), 2)), RATE)
        return path

    return write


@pytest.fixture
def clip(collection, record, tmp_path):
    """The name of the first clip of a recording with ground truth."""
    import_sounds(collection, [Annotation(record(), "tram")], tmp_path)
    return collection.clips().index[0]


def import_sounds(collection, annotation, tmp_path, **options):
    given = {"renamed": {}, "split": "train", "validate": 0.2, "seed": 0} | options
    return import_recordings(collection, annotation, tmp_path / "sounds", **given)


def test_class_names_become_labels(collection):
    assert collection.taxonomy.labels == ("1_tram", "2_church bell", "3_market", "3-1_voices", "3-2_cart")
    labels = LabelResolver(collection.taxonomy, {"Glocke": "church bell", "wind": ""})
    for text, label in {"Church_Bell": "2_church bell", "market: voices": "3-1_voices", "cart": "3-2_cart",
                        "MARKET": "3_market", "3-1_voices": "3-1_voices", "glocke": "2_church bell",
                        "wind": "", "dog": None}.items():  # fmt: skip
        assert labels.resolve(text) == label
    with pytest.raises(UserError, match="there is no class 'dog'"):
        LabelResolver(collection.taxonomy, {"hound": "dog"})


@pytest.mark.parametrize(
    "classes", [[], ["a", "A"], ["a: b: c"], ["!"], ["a: b", "a: b"], ["a", "a: b", "a"]]
)
def test_invalid_class_names(classes):
    with pytest.raises(UserError, match="class"):
        taxonomy_from_classes(classes)


def test_clips_get_the_labels_that_overlap_them(collection, record, tmp_path):
    path = record()
    before = path.read_bytes()
    annotation = [
        Annotation(path, "tram", 8, 12),
        Annotation(path, "market", 19, 21),
        Annotation(path, "voices", 22, 23, "Ada"),
    ]
    found = import_sounds(collection, annotation, tmp_path)
    assert (found.clips, found.known, found.problems) == (3, 0, [])
    clips = collection.clips()
    assert [(row.start, row.end) for row in clips.itertuples()] == [(0, 10), (10, 20), (20, 25)]
    assert set(clips["sensor_id"]) == {"street"}
    rows = collection.annotations().set_index(["audio_filename", "annotator_id"])
    names, labels = list(clips.index), list(collection.taxonomy.labels)
    assert [rows.loc[(name, 0), "1_tram"] for name in names] == [1, 1, 0]
    # A coarse label without fine labels leaves these unknown.
    assert rows.loc[(names[1], 0), labels].tolist() == [1, 0, 1, -1, -1]
    assert rows.loc[(names[0], 0), labels].tolist() == [1, 0, 0, 0, 0]
    assert rows.loc[(names[2], 1), labels].tolist() == [0, 0, 1, 1, 0]
    assert collection.annotators() == {"Ada": 1}
    samples, rate = sf.read(collection.clip_path(names[2]))
    wanted = sf.read(path)[0][20 * RATE :].mean(axis=1)
    assert rate == RATE
    np.testing.assert_allclose(samples, wanted, atol=2**-15)
    assert path.read_bytes() == before


def test_repeated_import_changes_nothing(collection, record, tmp_path):
    annotation = [Annotation(record(), "tram", 1, 2)]
    import_sounds(collection, annotation, tmp_path)
    before = {path: path.read_bytes() for path in collection.folder.rglob("*") if path.is_file()}
    found = import_sounds(collection, annotation, tmp_path)
    assert (found.clips, found.known) == (0, 3)
    assert before == {path: path.read_bytes() for path in collection.folder.rglob("*") if path.is_file()}


def test_unknown_labels_are_not_negatives(collection, record, tmp_path):
    annotation = [
        Annotation(record("a.wav"), "wind"),
        Annotation(record("b.wav"), "wind"),
        Annotation(record("b.wav"), "tram"),
    ]
    found = import_sounds(collection, annotation, tmp_path)
    assert set(collection.clips()["source"]) == {"b.wav"}
    assert "the label 'wind' (2 times) is none of the classes; --map 'wind'=CLASS" in found.problems[0]
    assert import_sounds(collection, annotation, tmp_path, renamed={"wind": ""}).clips == 3


def test_unusable_items_are_listed_and_the_others_imported(collection, record, tmp_path):
    good, cut, silent = record("good.wav", 3), record("cut.wav", 3), record("silent.wav", 3)
    cut.write_bytes(cut.read_bytes()[:5000])
    sf.write(silent, np.zeros(3 * RATE), RATE)
    found = import_sounds(
        collection, [Annotation(path, "tram") for path in (good, cut, silent, tmp_path / "gone")], tmp_path
    )
    assert found.clips == 2
    assert [problem.partition(": ")[2] for problem in found.problems] == [
        "is silent from second 0: every sample is 0"
    ]
    assert found.unreadable == [f"{tmp_path / 'gone'}: no such file"]
    assert found.warnings == [f"{cut}: incomplete: read 0.2 s of 3.0 s"]
    assert sorted(collection.clips()["source"]) == ["cut.wav", "good.wav"]


def test_stored_clips_keep_quiet_and_loud_samples(collection, record, tmp_path):
    """Quiet 24-bit sounds and peaks above full scale are kept, with the gain in clips.csv."""
    quiet, loud = record("quiet.wav", 3), record("loud.wav", 3)
    values = np.random.default_rng(0).integers(-3, 4, 3 * RATE)
    sf.write(quiet, values / 2**23, RATE, subtype="PCM_24")
    sf.write(loud, 4 * np.sin(np.arange(3 * RATE)), RATE, subtype="FLOAT")
    found = import_sounds(collection, [Annotation(quiet, "tram"), Annotation(loud, "tram")], tmp_path)
    assert (found.clips, found.problems, found.unreadable) == (2, [], [])
    clips = collection.clips().reset_index().set_index("source")
    stored, _ = sf.read(collection.clip_path(clips.loc["quiet.wav", "audio_filename"]))
    np.testing.assert_array_equal(stored * 2**23, values)
    stored, _ = sf.read(collection.clip_path(clips.loc["loud.wav", "audio_filename"]))
    gain = 10 ** (clips.loc["loud.wav", "gain_db"] / 20)
    np.testing.assert_allclose(stored / gain, 4 * np.sin(np.arange(3 * RATE)), atol=1e-3)
    assert clips["gain_db"].round(1).to_dict() == {"loud.wav": -12.0, "quiet.wav": 0.0}


def test_clips_that_quantise_to_silence_are_rejected(collection, record, tmp_path):
    path = record("faint.wav", 3)
    sf.write(path, np.full(3 * RATE, 1e-9), RATE, subtype="FLOAT")
    found = import_sounds(collection, [Annotation(path, "tram")], tmp_path)
    assert found.problems == [f"{path}: is silent from second 0: every sample is 0"]
    assert list(tmp_path.glob("city/audio/*")) == []


def test_clips_csv_without_gain_db_is_read(collection, record, tmp_path):
    import_sounds(collection, [Annotation(record("a.wav", 3), "tram")], tmp_path)
    path = collection.folder / "clips.csv"
    lines = path.read_text().splitlines()
    path.write_text("".join(line.rsplit(",", 1)[0] + "\n" for line in lines))
    assert collection.clips()["gain_db"].tolist() == [0]
    import_sounds(collection, [Annotation(record("b.wav", 3), "tram")], tmp_path)
    assert collection.clips()["gain_db"].tolist() == [0, 0]


def test_non_utf8_name_is_imported(collection, record, tmp_path):
    path = record("a.wav", 3)
    odd = path.rename(path.with_name(os.fsdecode(b"stra\xdfe.wav")))
    found = import_sounds(collection, [Annotation(odd, "tram")], tmp_path)
    assert (found.clips, found.problems, found.unreadable) == (1, [], [])
    assert collection.clips()["source"].tolist() == ["stra\\xdfe.wav"]


def test_the_command_names_the_reason_of_a_single_unreadable_recording(collection, tmp_path):
    words = [str(collection.folder), str(tmp_path), "--unlabelled"]
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(UserError) as error:
        import_command(argv=words)
    assert str(error.value).startswith(f"{tmp_path / 'a.wav'}: cannot be decoded as audio")
    (tmp_path / "b.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"^2 recordings cannot be read:\n"):
        import_command(argv=words)


def test_the_command_lists_unreadable_recordings_and_imports_the_others(collection, record, tmp_path):
    sounds = tmp_path / "sounds"
    record("tram/a.wav", 3)
    (sounds / "tram" / "b.m4a").write_bytes(bytes(range(256)))
    (sounds / "tram" / "c.wav").write_bytes(b"no sound")
    with pytest.raises(UserError) as error:
        import_command(argv=[str(collection.folder), str(sounds), "--split", "train"])
    assert "2 recordings cannot be read, the others are used" in str(error.value)
    assert "b.m4a: .m4a files cannot be read here; convert it" in str(error.value)
    assert "c.wav: cannot be decoded as audio" in str(error.value)
    assert collection.clips()["source"].tolist() == ["tram/a.wav"]


def test_group_stays_in_its_split(collection, record, tmp_path):
    annotation = [Annotation(record(f"{name}.wav", 3), "tram", group=name[0]) for name in ("a1", "a2", "b1")]
    import_sounds(collection, annotation[:1], tmp_path, split="validate")
    import_sounds(collection, annotation, tmp_path, split="train")
    clips = collection.clips()
    assert dict(zip(clips["source"], clips["split"], strict=True)) == {
        "a1.wav": "validate", "a2.wav": "validate", "b1.wav": "train"
    }  # fmt: skip


def test_recording_in_two_splits_or_groups_is_reported(collection, record, tmp_path):
    path = record("a.wav", 3)
    annotation = [
        Annotation(path, "tram", split="validate", group="one"),
        Annotation(path, "church bell", split="train", group="two"),
    ]
    assert import_sounds(collection, annotation, tmp_path).problems == [
        f"{path}: is in the splits validate and train, should be in one; validate is used",
        f"{path}: is in the groups one and two, should be in one; one is used",
    ]


def test_labels_of_many_overlapping_annotations(collection, record, tmp_path):
    """The labels of each clip equal those of a comparison with every annotation."""
    rng, path = np.random.default_rng(0), record(seconds=65)
    starts = rng.uniform(0, 60, 40)
    ends = np.where(rng.random(40) < 0.1, np.inf, starts + rng.choice([0, 0.05, 3, 30], 40))
    labels = rng.choice(["tram", "church bell"], 40)
    annotation = [
        Annotation(path, str(label), start, None if np.isinf(end) else end)
        for label, start, end in zip(labels, starts, ends, strict=True)
    ]
    import_sounds(collection, annotation, tmp_path)
    rows = collection.annotations().set_index("audio_filename")
    for name, clip in collection.clips().iterrows():
        overlap = np.minimum(ends, clip["end"]) - np.maximum(starts, clip["start"])
        inside = (overlap >= np.minimum(0.1, (ends - starts) / 2) - 1e-9) & (starts < clip["end"])
        for label in ("tram", "church bell"):
            column = "1_tram" if label == "tram" else "2_church bell"
            assert rows.loc[name, column] == (inside & (labels == label)).any()


def test_only_labelled_skips_unlabelled_clips(collection, record, tmp_path):
    annotation = [Annotation(record(), "tram", 1, 2)]
    assert import_sounds(collection, annotation, tmp_path, only_labelled=True).clips == 1


def test_recordings_to_review_have_no_labels(collection, record, tmp_path):
    import_unlabelled(collection, [record()], tmp_path)
    assert len(collection.clips()) == 3
    with pytest.raises(UserError, match="nothing is labelled yet"):
        collection.annotations()


def test_an_annotation_replaces_the_earlier_one_of_its_annotator(collection, clip):
    everything = dict.fromkeys(collection.taxonomy.labels, Status.ABSENT)
    for who, answer in (("Ada", 1), ("Bo", 0), ("Ada", -1)):
        collection.upsert_annotations([(clip, who, everything | {"1_tram": answer})])
    rows = collection.annotations()
    rows = rows[rows["audio_filename"] == clip].set_index("annotator_id")["1_tram"]
    assert rows.to_dict() == {0: 1, 1: Status.NOT_ASKED, 2: 0}


def test_a_reviewed_group_without_fine_labels_is_kept(collection, clip):
    """A coarse label can be present without any of its fine labels."""
    answer = {"3_market": 1, "3-1_voices": 0, "3-2_cart": 0}
    collection.upsert_annotations([(clip, "me", answer)])
    table = collection.annotations()
    row = table[table["annotator_id"] == 1].iloc[0]
    assert {label: int(row[label]) for label in answer} == answer


def test_unlabelled_classes_are_not_absent(tmp_path, record):
    """The reviewer labelled one class of the first clip and none of the second."""
    create_project(tmp_path / "city", taxonomy_from_classes(CLASSES))
    collection = Collection(tmp_path / "city")
    import_unlabelled(collection, [record()], tmp_path)
    first, second, third = collection.clips().index
    everything = dict.fromkeys(collection.taxonomy.labels, Status.ABSENT)
    answers = [(first, {"1_tram": 1}), (second, {"1_tram": Status.NOT_ASKED}), (third, everything)]
    collection.upsert_annotations([(clip, "me", answer) for clip, answer in answers])
    labels = aggregate_labels(collection, "majority")
    assert list(labels.index) == [first, third]
    assert labels.loc[first, "1_tram"] == 1
    assert labels.loc[first].drop(["split", "1_tram"]).isna().all()
    assert (labels.loc[third].drop("split") == 0).all()


def test_rows_that_were_edited_by_hand_are_kept(collection, clip):
    """1.0 is a presence, and an annotator may have two rows of a clip."""
    collection.upsert_annotations([(clip, "Ada", {"1_tram": 1})])
    path = collection.folder / "annotations.csv"
    *others, row = path.read_text().splitlines()
    keys = row.split(",")[: len(KEYS)]
    edited = [",".join([*keys, *cells]) for cells in (["1.0", *"0000"], [*"01000"])]
    path.write_text("\n".join([*others, *edited]) + "\n")
    before = collection.annotations()
    collection.upsert_annotations([(clip, "Bo", {"1_tram": 0})])
    after = collection.annotations()
    pd.testing.assert_frame_equal(after[after["annotator_id"] < 2], before)
    collection.merge({(clip, "Ada"): {"3_market": Status.PRESENT}})
    table = collection.annotations().set_index(["audio_filename", "annotator_id"])
    assert table.loc[(clip, 1), ["1_tram", "2_church bell", "3_market"]].tolist() == [1, 1, 1]


def test_a_row_with_too_few_cells_is_named(collection, clip):
    path = collection.folder / "annotations.csv"
    path.write_text(path.read_text() + "train,7\n")
    with pytest.raises(UserError, match="line 5: audio_filename is ''"):
        collection.upsert_annotations([(clip, "Ada", {"1_tram": 0})])


@pytest.mark.parametrize("name", ["../../x", "<script>alert(1)</script>", 'a,"b', "=1+1", "Ада", "0"])
def test_annotator_names_are_stored_literally(collection, clip, name):
    collection.upsert_annotations([(clip, name, {"1_tram": 1})])
    assert Collection(collection.folder).annotators() == {name: 1}
    assert 1 in set(collection.annotations()["annotator_id"])


@pytest.mark.parametrize("name", ["a\nb", "x" * 81, " a", "\0"])
def test_invalid_annotator_names(collection, clip, name):
    before = (collection.folder / "annotations.csv").read_bytes()
    with pytest.raises(UserError, match=r"annotator's name is .*, should have 1 to 80 printable characters"):
        collection.upsert_annotations([(clip, name, {})])
    assert (collection.folder / "annotations.csv").read_bytes() == before


def test_annotations_of_unknown_clips_are_an_error(collection):
    with pytest.raises(UserError, match=r"there is no clip '\.\./x'"):
        collection.upsert_annotations([("../x", "Ada", {})])
    assert not (collection.folder / "annotations.csv").exists()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=4, max_size=40), st.integers(0, 5)
)
def test_each_group_is_in_one_split(counts, seed):
    groups = {f"g{index}": np.array(row) for index, row in enumerate(counts)}
    found = split_groups(groups, validate=0.25, seed=seed)
    assert set(found) == set(groups)
    assert found == split_groups(groups, validate=0.25, seed=seed)
    assert set(found.values()) <= {"train", "validate"}


def test_validate_has_its_fraction_of_every_class():
    rng = np.random.default_rng(0)
    groups = {f"g{index}": np.eye(5, dtype=int)[rng.integers(5)] * rng.integers(1, 4) for index in range(200)}
    groups |= {f"r{index}": np.array([0, 0, 0, 0, 0, 1]) for index in range(4)}
    groups = {name: np.pad(row, (0, 6 - len(row))) for name, row in groups.items()}
    found = split_groups(groups, validate=0.25, seed=1)
    total = sum(groups.values())
    validate = sum(row for name, row in groups.items() if found[name] == "validate")
    assert validate[5] == 1
    np.testing.assert_allclose(validate / total, 0.25, atol=0.06)
    assert Counter(split_groups(groups, validate=0, seed=1).values()) == {"train": 204}
