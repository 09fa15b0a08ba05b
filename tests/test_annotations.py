"""Taxonomy and annotations: the real layout is read, anything else is explained."""

import pandas as pd
import pytest

from ust.annotations.reading import ground_truth, read_annotations
from ust.annotations.taxonomy import read_taxonomy
from ust.files.errors import UserError
from ust.sources.city.build import annotation_columns


@pytest.fixture
def table(taxonomy):
    """A small valid annotation table, as strings."""
    rows = []
    for split, name in (("train", "08_000000.wav"), ("validate", "00_500000.wav")):
        for annotator in ("1", "2", "0"):
            row = dict.fromkeys(annotation_columns(taxonomy), "0")
            row |= {"split": split, "sensor_id": "8", "audio_filename": name, "annotator_id": annotator}
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture
def read(tmp_path, taxonomy):
    def write_and_read(table, **options):
        table.to_csv(tmp_path / "annotations.csv", index=False, **options)
        return read_annotations(tmp_path / "annotations.csv", taxonomy)

    return write_and_read


def test_taxonomy_has_the_labels_of_sonyc_ust(taxonomy):
    assert len(taxonomy.coarse) == 8
    assert len(taxonomy.fine) == 29
    assert taxonomy.coarse[0] == "1_engine"
    assert taxonomy.fine[0] == "1-1_small-sounding-engine"
    assert taxonomy.fine[3] == "1-X_engine-of-uncertain-size"
    assert taxonomy.complete(1) == [4, 5, 6, 7]
    assert taxonomy.incomplete(1) == 8
    assert taxonomy.incomplete(2) is None


def test_taxonomy_equals_the_published_one(taxonomy, sonyc_ust_v1):
    assert read_taxonomy(sonyc_ust_v1 / "dcase-ust-taxonomy.yaml") == taxonomy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fine: {1: {1: a}}\n", "needs the mapping"),
        ("coarse: {1: engine}\nfine: {2: {1: a}}\n", "does not have: 2"),
        ("coarse: {1: engine}\nfine: {1: [small]}\n", "needs a name"),
        ("coarse: {1: engine}\nfine: {1: {1: 5}}\n", "must be names"),
    ],
)
def test_a_wrong_taxonomy_is_explained(tmp_path, text, message):
    (tmp_path / "taxonomy.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_taxonomy(tmp_path / "taxonomy.yaml")


def test_the_real_file_is_read(sonyc_ust_v1):
    taxonomy = read_taxonomy(sonyc_ust_v1 / "dcase-ust-taxonomy.yaml")
    annotations = read_annotations(sonyc_ust_v1 / "annotations.csv", taxonomy)
    assert len(annotations) == 10_349
    assert len(ground_truth(annotations, "validate")) == 443
    assert list(pd.read_csv(sonyc_ust_v1 / "annotations.csv", nrows=1)) == annotation_columns(taxonomy)


def test_other_columns_bom_crlf_and_spaces_do_no_harm(read, table, taxonomy):
    table.insert(4, "borough", "3")
    table["1_engine_presence"] = " 1.0 "
    found = read(table, encoding="utf-8-sig", lineterminator="\r\n")
    assert (found["1_engine"] == 1).all()
    assert len(found) == 6


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("1_engine_presence", 1, "7", "line 3: 1_engine_presence is '7', should be 1, 0 or -1"),
        ("1_engine_presence", 0, "", "line 2: 1_engine_presence is '', should be"),
        ("8-1_dog-barking-whining_presence", 0, "0.5", "is '0.5'"),
        ("split", 2, "evaluate", "line 4: split is 'evaluate', should be one of train, validate, test"),
        ("annotator_id", 0, "me", "annotator_id is 'me', should be a whole number"),
        ("audio_filename", 0, "../../etc/x.wav", "should be a plain file name"),
        ("audio_filename", 0, "a\\b.wav", "should be a plain file name"),
        ("audio_filename", 0, "clip.txt", "a plain file name of a recording"),
        ("split", 0, "validate", "clip 08_000000.wav is in the splits train and validate"),
        ("annotator_id", 3, "0", "clip 00_500000.wav has 2 ground-truth rows"),
    ],
)
def test_a_wrong_cell_is_named(read, table, column, row, value, message):
    table.loc[row, column] = value
    with pytest.raises(UserError) as error:
        read(table)
    assert message in str(error.value)


def test_all_problems_are_listed_at_once(read, table):
    table.loc[0, "1_engine_presence"] = "7"
    table.loc[4, "8_dog_presence"] = "x"
    with pytest.raises(UserError, match="2 problem") as error:
        read(table)
    assert "line 2" in str(error.value)
    assert "line 6" in str(error.value)


def test_columns_must_match_the_taxonomy(read, table):
    renamed = table.rename(columns={"8_dog_presence": "8_cat_presence"})
    with pytest.raises(UserError) as error:
        read(renamed)
    assert "1 column(s) are missing: 8_dog_presence" in str(error.value)
    assert "1 column(s) name a label that the taxonomy does not have: 8_cat_presence" in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\xfe\x01", b"\xff\xfe\x00a,b", b'a,"b\n1,2\n', b"a,b\n1,2,3\n"]
)
def test_what_is_no_csv_is_explained(tmp_path, taxonomy, content):
    path = tmp_path / "annotations.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"annotations\.csv"):
        read_annotations(path, taxonomy)


def test_a_split_without_ground_truth_cannot_be_scored(read, table):
    annotations = read(table[table["annotator_id"] != "0"])
    with pytest.raises(UserError, match="no ground-truth rows"):
        ground_truth(annotations, "validate")
