"""Reading the taxonomy and the annotations, and the errors of invalid files."""

import logging

import pandas as pd
import pytest

from ust.annotations.annotations import (
    AS_GIVEN,
    correct_coarse,
    read_annotations,
    read_coarse_mode,
    read_ground_truth,
    require_ground_truth,
    select_ground_truth,
)
from ust.annotations.taxonomy import Taxonomy, read_taxonomy
from ust.datasets.synthetic.city import annotation_columns
from ust.util.errors import UserError


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
def test_invalid_taxonomy_is_reported(tmp_path, text, message):
    (tmp_path / "taxonomy.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_taxonomy(tmp_path / "taxonomy.yaml")


def test_published_annotations_are_read(sonyc_ust_v1):
    taxonomy = read_taxonomy(sonyc_ust_v1 / "dcase-ust-taxonomy.yaml")
    annotations = read_annotations(sonyc_ust_v1 / "annotations.csv", taxonomy)
    assert len(annotations) == 10_349
    assert len(select_ground_truth(annotations, "validate")) == 443
    assert list(pd.read_csv(sonyc_ust_v1 / "annotations.csv", nrows=1)) == annotation_columns(taxonomy)


def test_extra_columns_bom_crlf_and_spaces_are_accepted(read, table, taxonomy):
    table.insert(4, "borough", "3")
    table["1_engine_presence"] = table["1-1_small-sounding-engine_presence"] = " 1.0 "
    found = read(table, encoding="utf-8-sig", lineterminator="\r\n")
    assert (found["1_engine"] == 1).all()
    assert len(found) == 6


def test_line_numbers_count_empty_lines_and_line_breaks_in_cells(table, tmp_path, taxonomy):
    table.insert(0, "note", ["two\nlines", *5 * [""]])
    table.loc[[0, 5], "split"] = "dev"
    path = tmp_path / "annotations.csv"
    header, rows = table.to_csv(index=False).split("\n", 1)
    path.write_text(f"{header}\n\n{rows}")
    with pytest.raises(UserError, match=r"(?s)line 3: split is 'dev'.*line 9: split is 'dev'"):
        read_annotations(path, taxonomy)


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
def test_invalid_cell_names_line_and_column(read, table, column, row, value, message):
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
def test_invalid_csv_is_reported(tmp_path, taxonomy, content):
    path = tmp_path / "annotations.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"annotations\.csv"):
        read_annotations(path, taxonomy)


def test_split_without_ground_truth_is_refused(read, table):
    annotations = read(table[table["annotator_id"] != "0"])
    with pytest.raises(UserError, match="no ground-truth rows"):
        select_ground_truth(annotations, "validate")


GROUPS = Taxonomy(("1_dog", "2_tram"), ("1-1_barking", "1-X_other-dog"), (0, 0))


@pytest.mark.parametrize(
    ("coarse", "fine", "wanted"),
    [
        (1, (0, 0), 0),  # the error of SONYC-UST 0.1
        (0, (0, 1), 1),
        (-1, (1, -1), 1),  # one present fine class suffices
        (1, (1, 0), 1),
        (1, (-1, -1), 1),  # coarse-only truth, or "open which"
        (0, (-1, -1), 0),
        (1, (0, -1), 1),  # the unlabelled fine class may be present
        (0, (0, -1), 0),
        (-1, (0, 0), -1),  # not labelled
        (-1, (-1, -1), -1),
    ],
)
def test_contradicting_coarse_values_become_the_maximum_of_fine(coarse, fine, wanted):
    columns = dict(zip(GROUPS.labels, (coarse, 1, *fine), strict=True))
    table = pd.DataFrame([{"split": "train"} | columns])
    found = correct_coarse(table, GROUPS)
    assert found.loc[0, "1_dog"] == wanted
    assert found.loc[0, "2_tram"] == 1  # a group without fine labels has no maximum
    assert table.loc[0, "1_dog"] == coarse


def test_contradictions_are_counted_by_column_and_split(read, table, taxonomy, tmp_path, caplog):
    table.loc[[0, 1, 3], "2_machinery-impact_presence"] = "1"
    table.loc[[3, 4, 5], "2-1_rock-drill_presence"] = "1"
    caplog.set_level(logging.INFO, "ust")
    found = read(table)
    assert found["2_machinery-impact"].tolist() == [0, 0, 0, 1, 1, 1]
    assert [record.getMessage() for record in caplog.records] == [
        (
            "2_machinery-impact_presence contradicts its fine columns in 2 train, 2 validate row(s); "
            "the maximum of the fine columns is used (data.coarse)"
        )
    ]
    caplog.clear()
    given = read_annotations(tmp_path / "annotations.csv", taxonomy, AS_GIVEN)
    assert given["2_machinery-impact"].tolist() == [1, 1, 0, 1, 0, 0]
    assert not caplog.records


def test_only_the_documented_error_is_corrected_in_the_real_file(sonyc_ust_v1, caplog):
    """Until release 0.4, machinery-impact was marked wherever non-machinery-impact was present."""
    taxonomy = read_taxonomy(sonyc_ust_v1 / "dcase-ust-taxonomy.yaml")
    caplog.set_level(logging.INFO, "ust")
    found = read_annotations(sonyc_ust_v1 / "annotations.csv", taxonomy)
    given = read_annotations(sonyc_ust_v1 / "annotations.csv", taxonomy, AS_GIVEN)
    assert [record.getMessage()[:75] for record in caplog.records] == [
        "2_machinery-impact_presence contradicts its fine columns in 315 train, 167 v"[:75]
    ]
    wrong = found["2_machinery-impact"] != given["2_machinery-impact"]
    assert (given.loc[wrong, "3_non-machinery-impact"] == 1).all()
    kinds = given[wrong].groupby(["split", given["annotator_id"].clip(-1, 1)]).size()
    assert kinds.to_dict() == {
        ("train", 1): 315, ("validate", 1): 35, ("validate", -1): 60, ("validate", 0): 72
    }  # fmt: skip
    truths = [select_ground_truth(table, "validate")["2_machinery-impact"].sum() for table in (given, found)]
    assert truths == [88, 16]
    others = [label for label in taxonomy.labels if label != "2_machinery-impact"]
    pd.testing.assert_frame_equal(found[others], given[others])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("data: {coarse: as_given}", "as_given"), ("data: {path: null}", "from_fine"), ("mn: {}", "from_fine")],
)
def test_coarse_mode_as_given_and_from_fine(tmp_path, text, wanted):
    (tmp_path / "params.yaml").write_text(text)
    assert read_coarse_mode(tmp_path / "params.yaml") == wanted
    assert read_coarse_mode(tmp_path / "nowhere.yaml") == "from_fine"


def test_an_unknown_coarse_mode_is_an_error(tmp_path):
    (tmp_path / "params.yaml").write_text("data: {coarse: max}")
    with pytest.raises(UserError, match=r"data\.coarse is 'max', should be one of from_fine, as_given"):
        read_coarse_mode(tmp_path / "params.yaml")


class TestTruth:
    def test_table_with_only_coarse_truth_is_read(self, tmp_path, taxonomy, table):
        """Such tables have no fine columns and no split."""
        columns = ["audio_filename", "sensor_id", "annotator_id"]
        columns += [f"{label}_presence" for label in taxonomy.coarse]
        table.loc[table["annotator_id"] == "0", columns].to_csv(tmp_path / "truth.csv", index=False)
        truth, others = read_ground_truth(tmp_path / "truth.csv", taxonomy, "test")
        assert truth["audio_filename"].tolist() == ["00_500000.wav", "08_000000.wav"]
        assert set(truth["split"]) == {"test"}
        assert set(taxonomy.coarse) <= set(truth) and not set(taxonomy.fine) & set(truth)
        assert others == []

    def test_missing_fine_column_is_an_error(self, tmp_path, taxonomy, table):
        table.drop(columns="8-1_dog-barking-whining_presence").to_csv(tmp_path / "truth.csv", index=False)
        with pytest.raises(UserError, match=r"1 column\(s\) are missing: 8-1_dog"):
            read_ground_truth(tmp_path / "truth.csv", taxonomy, "validate")

    def test_published_coarse_truth_is_the_corrected_one(self, sonyc_ust_v1):
        folder = sonyc_ust_v1.parent / "sonyc-truth"
        if not folder.is_dir():
            pytest.skip("the published coarse truth is not here: ../shared/sonyc-truth")
        taxonomy = read_taxonomy(sonyc_ust_v1 / "dcase-ust-taxonomy.yaml")
        sizes = {"v1_test": 274, "v1_validate": 442, "v2_validate": 538, "v2_test": 664}
        tables = {
            name: read_ground_truth(folder / f"{name}_coarse.csv", taxonomy, name.split("_")[1])[0]
            for name in sizes
        }
        assert {name: len(table) for name, table in tables.items()} == sizes
        ours, _ = read_ground_truth(sonyc_ust_v1 / "annotations.csv", taxonomy, "validate")
        ours = ours.set_index("audio_filename")[list(taxonomy.coarse)]
        theirs = tables["v1_validate"].set_index("audio_filename")[list(taxonomy.coarse)]
        pd.testing.assert_frame_equal(ours.loc[theirs.index], theirs)


def test_every_split_without_ground_truth_is_named(read, table):
    annotations = read(table[~((table["annotator_id"] == "0") & (table["split"] == "validate"))])
    require_ground_truth(annotations, ["train"], "a.csv")
    with pytest.raises(UserError) as error:
        require_ground_truth(annotations, ["validate", "test"], "a.csv")
    message = str(error.value)
    assert "the split 'validate' has 1 clip(s), none with ground truth" in message
    assert "the split 'test' has 0 clip(s)" in message
    assert "one row with annotator_id 0 for each clip" in message
