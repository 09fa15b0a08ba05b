"""Import of label tables: times, unusable lines, several sources, and presence of each class."""

import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_sources import label_studio_export, read_labels, write_annotations, write_noise

from ust.annotations.annotations import read_annotations
from ust.annotations.taxonomy import Taxonomy, read_taxonomy
from ust.cli import console
from ust.cli.import_ import main as import_labels
from ust.cli.init import main as init
from ust.datasets.collection import Collection
from ust.datasets.formats.base import Annotation, Status
from ust.datasets.importing import (
    guess_group_pattern,
    import_recordings,
    import_unlabelled,
    taxonomy_from_classes,
)
from ust.datasets.local import link_dataset
from ust.datasets.presence import combine_statuses, convert_to_presence, find_contradictions
from ust.evaluation.predictions import read_predictions
from ust.util.errors import UserError

NFC, NFD = (unicodedata.normalize(form, "Brücke.wav") for form in ("NFC", "NFD"))
TRAIN = {"renamed": {}, "split": "train", "validate": 0, "seed": 0}


@pytest.fixture
def street(tmp_path):
    return write_noise(tmp_path / "street.wav", 60)


@pytest.fixture
def collection(tmp_path):
    return Collection.create(
        tmp_path / "city", taxonomy_from_classes(["tram", "bell", "market: voices", "market: cart"])
    )


def import_file(collection, source, *, form=None, columns=(), **options):
    """Import a label file as the command does; return the problems and the contradictions."""
    found = read_labels(source, form, columns=dict(columns))
    given = TRAIN | {"source_name": source.name} | options
    added = import_recordings(collection, found.annotations, source.parent, **given)
    return [*found.problems, *added.problems], added.contradictions


def presence(collection, label, source="street.wav"):
    """Return a label of a recording's clips in annotations.csv, in order; None for clips without a row."""
    clips = collection.clips()
    clips = clips[clips["source"].map(lambda name: name.endswith(source))].sort_values("start")
    rows = collection.annotations().set_index("audio_filename")[label]
    return [int(rows[name]) if name in rows.index else None for name in clips.index]


# --- Times


TIME_COLUMNS = {
    "BirdNET": "Start (s),End (s),Common name,File\n12,15,tram,/mnt/x/street.wav\n",
    "AudioSet": "filename,start_seconds,end_seconds,label\nstreet.wav,12,15,tram\n",
    "DCASE": "filename\tonset\toffset\tevent_label\nstreet.wav\t12.0\t15.0\ttram\n",
    "t_start": "filename,t_start,t_stop,label\nstreet.wav,12,15,tram\n",
    "Raven's": "file,Begin Time (s),End Time (s),label\nstreet.wav,12,15,tram\n",
    "camel case": "file,startTime,endTime,label\nstreet.wav,12,15,tram\n",
    "duration": "file,onset,duration,label\nstreet.wav,12,3,tram\n",
    "offset and duration": "file,start,duration_s,label\nstreet.wav,12,3,tram\n",
    "milliseconds": "file,start_ms,end_ms,label\nstreet.wav,12000,15000,tram\n",
    "millis": "file,start_millis,duration_ms,label\nstreet.wav,12000,3000,tram\n",
}


@pytest.mark.parametrize("name", TIME_COLUMNS)
def test_time_columns_of_common_names_are_understood(tmp_path, street, name):
    content = TIME_COLUMNS[name]
    table = tmp_path / f"labels.{'tsv' if chr(9) in content else 'csv'}"
    table.write_text(content)
    assert read_labels(table, "csv").annotations == [Annotation(street, "tram", 12.0, 15.0)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("file,label,t_in_sec\nstreet.wav,tram,12\n", "'t_in_sec'.*--column start="),
        ("file,label,time\nstreet.wav,tram,12.5\n", "'time'.*--column start="),
        ("file,label,clip_start,clip_end\nstreet.wav,tram,12,15\n", "'clip_start', 'clip_end'"),
        ("file,label,start_min\nstreet.wav,tram,12\n", "'start_min'"),
        ("file,label,time\nstreet.wav,tram,00:00:12\n", "'time'"),
        ("file,label,offset\nstreet.wav,tram,12\n", "'offset', but no start"),
        ("file,label,duration\nstreet.wav,tram,12\n", "'duration', but no start"),
        ("file,label,start,finished_sec\nstreet.wav,tram,12,13\n", "'finished_sec'.*--column end="),
        ("file,label,onset\nstreet.wav,tram,12\n", "start 'onset', but no end"),
        ("street.wav\t12.0\t15.0\ttram\n", "labels.csv: has no header line: its first line is 'street"),
        ("street\t12.0\t15.0\ttram\n", "labels.csv: has no header line: its first line is 'street"),
        ('file,label\nstreet.wav,"tram\nstreet.wav,bell\n', "labels.csv: line 2: .*quotation mark"),
    ],
)
def test_unclear_table_stops_the_import(tmp_path, street, content, words):
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(UserError, match=words):
        read_labels(tmp_path / "labels.csv")


def test_the_column_option_sets_time_columns(tmp_path, street):
    table = tmp_path / "labels.csv"
    table.write_text("file,label,from_t,to_t\nstreet.wav,tram,12,15\n")
    whole = [Annotation(street, "tram")]
    assert read_labels(table, columns={"start": ""}).annotations == whole
    assert read_labels(table, columns={"start": "from_t", "end": "to_t"}).annotations == [
        Annotation(street, "tram", 12.0, 15.0)
    ]
    milliseconds = read_labels(table, columns={"start_ms": "from_t", "end_ms": "to_t"}).annotations
    assert milliseconds == [Annotation(street, "tram", 0.012, 0.015)]
    assert read_labels(table, columns={"start": "from_t", "end": ""}).annotations == [
        Annotation(street, "tram", 12.0)
    ]
    with pytest.raises(UserError, match="--column: there is no 'begin', should be one of path, label"):
        read_labels(table, columns={"begin": "from_t"})


def test_columns_without_time_values_are_ignored(tmp_path, street):
    table = tmp_path / "labels.csv"
    table.write_text("file,label,time,gender,confidence,year\nstreet.wav,tram,morning,1,0.9,2019\n")
    assert read_labels(table).annotations == [Annotation(street, "tram")]


def test_quotes_in_tables_of_tabs_are_text(tmp_path, street, collection):
    table = tmp_path / "street.Table.1.selections.txt"
    table.write_text(
        "Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\tNotes\n"
        '1\t1\t2\ttram\t"\n2\t11\t12\tbell\t\n3\t21\t22\t"tram"\t5" gun\n'
    )
    assert [annotation.label for annotation in read_labels(table).annotations] == ["tram", "bell", '"tram"']
    assert import_file(collection, table) == ([], [])
    assert presence(collection, "2_bell") == [0, 1, 0, 0, 0, 0]


def test_row_with_wrong_number_of_cells_affects_no_other_row(tmp_path, street):
    table = tmp_path / "labels.csv"
    table.write_text("file,label\nstreet.wav,tram,bell\n\nstreet.wav,tram,\nstreet.wav\n")
    found = read_labels(table)
    assert found.problems == [
        f"{table}: line {line}: has {count} columns, should have 2 as the header"
        for line, count in ((2, 3), (5, 1))
    ]
    doubtful = Annotation(street, None, status=Status.UNCERTAIN)
    assert found.annotations == [Annotation(street, "tram"), doubtful, doubtful]
    assert [annotation.where[-1] for annotation in found.annotations] == ["4", "2", "5"]


def test_the_sep_line_of_excel_sets_the_separator(tmp_path, street):
    (tmp_path / "labels.csv").write_text("sep=;\r\nfile;label\r\nstreet.wav;tram\r\n")
    assert read_labels(tmp_path / "labels.csv").annotations == [Annotation(street, "tram")]


# --- Unusable lines


@pytest.mark.parametrize(
    ("lines", "reason", "tram", "bell"),
    [
        ("street.wav,tram,70,75", "from 70 to 75 s lies outside", [-1, 1, -1, -1, -1, -1], [0] * 6),
        ("street.wav,tram,55,75", None, [0, 1, 0, 0, 0, 1], [0] * 6),
        (
            "street.wav,tram,30,20",
            "from '30' to '20' is not a time interval",
            [-1, 1, -1, -1, -1, -1],
            [0] * 6,
        ),
        ('street.wav,tram,"1,5","2,5"', "write 1.5", [-1, 1, -1, -1, -1, -1], [0] * 6),
        ("street.wav,tram,12,", "has no end", [-1, 1, -1, -1, -1, -1], [0] * 6),
        ("street.wav,,32,34", "has no label", [0, 1, 0, None, 0, 0], [0, 0, 0, None, 0, 0]),
        ("street.wav,trum,32,34", "the label 'trum'", [0, 1, 0, None, 0, 0], [0, 0, 0, None, 0, 0]),
        ("street.wav,trum,70,75", "the label 'trum'", [None, 1, *[None] * 4], [None, -1, *[None] * 4]),
        ("gone.wav,tram,32,34", "there is no recording", [0, 1, 0, 0, 0, 0], [0] * 6),
        ("street.wav,bell,60.2,60.4", "lies outside", [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, -1]),
    ],
)
def test_unusable_line_is_listed_and_its_class_becomes_unknown(
    tmp_path, street, collection, lines, reason, tram, bell
):
    table = tmp_path / "labels.csv"
    table.write_text(f"file,label,start,end\nstreet.wav,tram,12,15\n{lines}\n")
    problems, _ = import_file(collection, table)
    assert len(problems) == (reason is not None)
    if reason:
        assert problems[0].startswith(f"{table}: line 3: ")
        assert reason in problems[0]
    assert presence(collection, "1_tram") == tram
    assert presence(collection, "2_bell") == bell


def test_ambiguous_recording_makes_the_class_unknown_in_all_candidates(tmp_path, collection):
    """Recordings with nothing but ambiguous lines are left out."""
    for name in ("a/1.wav", "b/1.wav", "a/2.wav", "b/2.wav"):
        write_noise(tmp_path / name, 10)
    table = tmp_path / "labels.csv"
    table.write_text("file,label\na/1.wav,bell\nb/1.wav,market\n1.wav,tram\n2.wav,tram\n")
    problems, _ = import_file(collection, table)
    assert "line 4: '1.wav' may be a/1.wav, b/1.wav" in problems[0]
    assert set(collection.clips()["source"]) == {"a/1.wav", "b/1.wav"}
    assert presence(collection, "1_tram", "a/1.wav") == presence(collection, "1_tram", "b/1.wav") == [-1]
    assert presence(collection, "2_bell", "a/1.wav") == [1]
    assert presence(collection, "2_bell", "b/1.wav") == [0]


def test_the_end_of_a_path_identifies_a_recording(tmp_path):
    for folder in ("a", "b"):
        write_noise(tmp_path / folder / "1.wav", 1)
    (tmp_path / "labels.csv").write_text("file,label\nC:\\rec\\a\\1.wav,tram\n/mnt/b/1.wav,bell\n")
    assert read_labels(tmp_path / "labels.csv").annotations == [
        Annotation(tmp_path / "a" / "1.wav", "tram"), Annotation(tmp_path / "b" / "1.wav", "bell")
    ]  # fmt: skip


def test_uncertainty_extends_to_the_other_level(tmp_path, street, collection):
    """An unusable coarse label makes its fine labels unknown; an unusable fine label its coarse one."""
    for label, other in (("market", "3-1_voices"), ("market: voices", "3_market")):
        table = tmp_path / "labels.csv"
        table.write_text(f"file,label,start,end\nstreet.wav,tram,12,15\nstreet.wav,{label},70,75\n")
        import_file(collection, table, replace=True)
        assert presence(collection, other) == [-1] * 6
    assert presence(collection, "3-2_cart") == [0] * 6


def test_times_that_look_like_milliseconds_are_reported(tmp_path, street, collection):
    table = tmp_path / "labels.csv"
    table.write_text("file,label,start,end\nstreet.wav,tram,12500,15000\n")
    (problem,), _ = import_file(collection, table)
    assert "--column start_ms=NAME --column end_ms=NAME" in problem
    assert presence(collection, "1_tram") == [-1] * 6
    columns = {"start_ms": "start", "end_ms": "end"}
    assert import_file(collection, table, columns=columns) == ([], [])
    assert presence(collection, "1_tram")[1] == 1


def test_short_label_across_two_clips_counts_in_one(street, collection, tmp_path):
    import_recordings(collection, [Annotation(street, "tram", 9.93, 10.08)], tmp_path, **TRAIN)
    assert presence(collection, "1_tram") == [0, 1, 0, 0, 0, 0]


def test_a_raven_table_of_several_recordings_needs_the_offset(tmp_path, collection):
    for name in ("street.wav", "square.wav"):
        write_noise(tmp_path / name)
    table = tmp_path / "both.txt"
    table.write_text(
        "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n"
        "1\t1\t2\tstreet.wav\ttram\n2\t61\t64\tsquare.wav\tbell\n"
    )
    found = read_labels(table)
    assert len(found.problems) == 2
    assert not found.usable
    assert "'File Offset (s)'" in found.problems[1]
    found = read_labels(table, columns={"start": "Begin Time (s)"})
    assert [annotation.start for annotation in found.annotations] == [1.0, 61.0]


def test_broken_selection_table_affects_no_other_table(tmp_path, street):
    head = "Begin Time (s)\tEnd Time (s)\tSpecies\n"
    (tmp_path / "street.txt").write_text(f"{head}1\t2\ttram\n")
    write_noise(tmp_path / "other.wav", 1)
    (tmp_path / "other.txt").write_bytes(head.encode() + b"1\t2\tStra\xdfe\n")
    found = read_labels(tmp_path, "raven")
    assert [annotation.label for annotation in found.annotations if annotation.status == Status.PRESENT] == [
        "tram"
    ]
    assert found.problems == [
        f"{tmp_path}/other.txt: line 2: is not text in UTF-8; save the table with that encoding"
    ]


def test_the_command_fails_without_usable_labels(tmp_path, street, collection, caplog):
    table = tmp_path / "labels.csv"
    table.write_text("file;label;start;end\nstreet.wav;tram;1,5;3,0\n")
    with pytest.raises(UserError, match="no label could be used; recordings without labels"):
        import_labels("ust import", [str(collection.folder), str(table)])
    assert "line 2: from '1,5' to '3,0'" in caplog.text
    assert not (collection.folder / "annotations.csv").exists()
    assert not (collection.folder / "clips.csv").exists()


# --- Label Studio


def task(audio, *results, **more):
    annotation = {"completed_by": 1, "result": list(results)}
    return {"id": 1, "data": {"audio": audio}, "annotations": [annotation]} | more


def result(kind, value, number="r1"):
    return {"id": number, "type": kind, "value": value}


def export(tmp_path, *tasks):
    return label_studio_export(tmp_path / "export.json", *tasks)


BARE = result("region", {"start": 41, "end": 44})


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([BARE, result("choices", {"start": 41, "end": 44, "choices": ["bell"]})], ("bell", 41.0, 44.0)),
        ([BARE, result("choices", {"choices": ["bell"]})], ("bell", 41.0, 44.0)),
        ([BARE, result("choices", {"choices": ["bell"]}), result("textarea", {"text": ["?"]})],
         ("bell", 41.0, 44.0)),
        ([result("choices", {"choices": ["bell"]})], ("bell", 0.0, None)),
        ([result("taxonomy", {"taxonomy": [["market", "voices"]]})], ("market: voices", 0.0, None)),
        ([result("taxonomy", {"start": 1, "end": 4, "taxonomy": [["market"]]})], ("market", 1.0, 4.0)),
    ],
)  # fmt: skip
def test_label_studio_labels_apply_to_their_region(tmp_path, street, results, expected):
    found = read_labels(export(tmp_path, task("street.wav", *results)))
    label, start, end = expected
    assert found.annotations == [Annotation(street, label, start, end, "1")]
    assert found.problems == []


@pytest.mark.parametrize(
    ("other", "problem", "fifth"),
    [
        (BARE, "task 1: a result of the type 'region' from 41 to 44 s", None),
        (result("textarea", {"text": ["windy"]}, "r3"), "1 result(s) of the type 'textarea' are not", 0),
    ],
    ids=["region without label", "comment"],
)
def test_label_studio_results_without_labels_are_listed(tmp_path, street, collection, other, problem, fifth):
    """The class of a region is unknown in its clip; a comment changes nothing."""
    tram = result("labels", {"start": 2, "end": 5, "labels": ["tram"]}, "r2")
    problems, _ = import_file(collection, export(tmp_path, task("street.wav", tram, other)))
    assert len(problems) == 1
    assert problems[0].startswith(f"{tmp_path}/export.json: {problem}")
    assert presence(collection, "1_tram") == [1, 0, 0, 0, fifth, 0]


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("a+b.wav", "/data/local-files/?d=city/a+b.wav"),
        ("take #2.wav", "/data/local-files/?d=city/take #2.wav"),
        ("take #2.wav", "/data/upload/1/1a2b3c4d-take%20%232.wav"),
        ("take #2.wav", "take #2.wav"),
        ("100%25.wav", "/data/local-files/?d=100%25.wav"),
        ("street.wav", "https://host/x/street.wav?signature=a/b#t=1"),
        ("street.wav", "s3://bucket/street.wav"),
    ],
)
def test_label_studio_file_names_are_decoded(tmp_path, name, address):
    sound = write_noise(tmp_path / name, 1)
    tram = result("labels", {"start": 0, "end": 1, "labels": ["tram"]})
    found = read_labels(export(tmp_path, task(address, tram)))
    assert found.annotations == [Annotation(sound, "tram", 0.0, 1.0, "1")]


def test_label_studio_reads_old_exports_and_predictions(tmp_path, street):
    tram = result("labels", {"start": 2, "end": 5, "labels": ["tram"]})
    old = {"id": 1, "data": {"audio": "street.wav"}, "completions": [{"id": 1, "result": [tram]}]}
    assert read_labels(export(tmp_path, old)).annotations == [Annotation(street, "tram", 2.0, 5.0)]
    predicted = {"data": {"audio": "street.wav"}, "annotations": [], "predictions": [{"result": [tram]}]}
    found = read_labels(export(tmp_path, predicted))
    assert found.annotations == []
    assert "has no annotations (1 such tasks); predictions of a model are not imported" in found.problems[0]
    with pytest.raises(UserError, match="not as JSON-MIN"):
        read_labels(
            export(tmp_path, {"audio": "street.wav", "label": [{"start": 1, "end": 2, "labels": ["tram"]}]})
        )


# --- Several sources


def write_table(tmp_path, name, *rows):
    path = tmp_path / name
    path.write_text("file,label,start,end\n" + "".join(f"street.wav,{row}\n" for row in rows))
    return path


def test_tables_add_up_in_any_order_and_repetition(tmp_path, street):
    """The second table also has an unusable line, which makes a class unknown."""
    tables = [
        write_table(tmp_path, "trams.csv", "tram,2,4", "market,32,33"),
        write_table(tmp_path, "bells.csv", "bell,12,14", "bell,70,72", "market: cart,32,33"),
    ]
    stored = []
    for order in (tables, tables[::-1], [*tables, *tables]):
        collection = Collection.create(
            tmp_path / f"c{len(stored)}", taxonomy_from_classes(["tram", "bell", "market: cart"])
        )
        for table in order:
            import_file(collection, table)
            import_unlabelled(collection, [street], tmp_path)  # which adds no label
        stored.append(collection.annotations())
    assert presence(collection, "1_tram") == [1, 0, 0, 0, 0, 0]
    assert presence(collection, "2_bell") == [-1, 1, -1, -1, -1, -1]
    assert presence(collection, "3-1_cart") == [0, 0, 0, 1, 0, 0]
    for other in stored[1:]:
        pd.testing.assert_frame_equal(stored[0], other)


def test_corrected_source_resolves_unknown_labels(tmp_path, street, collection):
    """Renaming a label or correcting a time makes unknown labels known."""
    table = write_table(tmp_path, "labels.csv", "tram,2,4", "wind,12,14", "bell,70,72")
    assert len(import_file(collection, table)[0]) == 2
    other = write_table(tmp_path, "trams.csv", "tram,22,24")
    import_file(collection, other)
    assert presence(collection, "1_tram") == [1, None, 1, 0, 0, 0]
    assert presence(collection, "2_bell") == [-1, None, -1, -1, -1, -1]
    write_table(tmp_path, "labels.csv", "tram,2,4", "wind,12,14", "bell,50,52")
    assert import_file(collection, table, renamed={"wind": ""}) == ([], [])
    assert presence(collection, "1_tram") == [1, 0, 1, 0, 0, 0]
    assert presence(collection, "2_bell") == [0, 0, 0, 0, 0, 1]


def test_the_same_sound_in_two_class_folders_has_both_classes(tmp_path, collection):
    sound = write_noise(tmp_path / "sounds" / "tram" / "1.wav", 10)
    (tmp_path / "sounds" / "bell").mkdir()
    (tmp_path / "sounds" / "bell" / "1.wav").write_bytes(sound.read_bytes())
    import_file(collection, tmp_path / "sounds", form="folder")
    assert presence(collection, "1_tram", "1.wav") == presence(collection, "2_bell", "1.wav") == [1]
    assert presence(collection, "3_market", "1.wav") == [0]


def test_classes_missing_from_a_table_are_not_absent(tmp_path, street, collection):
    trams = write_table(tmp_path, "trams.csv", "tram,2,4")
    bells = write_table(tmp_path, "bells.csv", "bell,12,14")
    import_file(collection, trams, asked=["tram"])
    assert presence(collection, "1_tram") == [1, 0, 0, 0, 0, 0]
    assert presence(collection, "2_bell") == [-1] * 6
    import_file(collection, bells, asked=["bell"])
    assert presence(collection, "2_bell") == [0, 1, 0, 0, 0, 0]
    assert presence(collection, "3_market") == [-1] * 6
    with pytest.raises(UserError, match="--asked: there is no class 'dog'"):
        import_file(collection, bells, asked=["dog"])


def test_replace_answers_replaces_earlier_labels(tmp_path, street, collection):
    import_file(collection, write_table(tmp_path, "labels.csv", "tram,2,4"))
    import_file(collection, write_table(tmp_path, "labels.csv", "bell,2,4"), replace=True)
    assert presence(collection, "1_tram") == [0] * 6
    assert presence(collection, "2_bell") == [1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("explicit_first", [True, False])
def test_contradictions_are_reported_and_kept_as_present(tmp_path, street, collection, explicit_first):
    """One table has a label that another marks as absent."""
    labels = collection.taxonomy.labels
    explicit = [Annotation(street, label, status=Status.ABSENT) for label in labels]
    sources = [explicit, [Annotation(street, "tram", 2, 4)]]
    found = [
        import_recordings(collection, annotation, tmp_path, **TRAIN).contradictions
        for annotation in (sources if explicit_first else sources[::-1])
    ]
    assert found[0] == []
    assert len(found[1]) == 1
    assert "street.wav: clip street_00000.flac: '1_tram' is present in one source" in found[1][0]
    assert presence(collection, "1_tram") == [1, 0, 0, 0, 0, 0]


def test_unsure_reviews_stay_unknown_after_an_import(tmp_path, street, collection):
    annotation = [Annotation(street, "tram", 2, 4, annotator="Ada")]
    import_unlabelled(collection, [street], tmp_path)
    clip = collection.clips().index[1]
    collection.upsert_annotations([(clip, "Ada", {"2_bell": Status.NOT_ASKED, "1_tram": Status.ABSENT})])
    import_recordings(collection, annotation, tmp_path, **TRAIN)
    row = collection.annotations().set_index("audio_filename").loc[clip]
    assert (row["2_bell"], row["1_tram"]) == (-1, 0)


ANSWERS = st.dictionaries(
    st.sampled_from(["1_a", "2_b", "2-1_c", "2-2_d"]),
    st.sampled_from(
        [Status.PRESENT, Status.ABSENT, Status.UNCERTAIN, Status.INFERRED_ABSENT, Status.NOT_ASKED]
    ),
)


@given(ANSWERS, ANSWERS, ANSWERS)
def test_statuses_combine_in_any_order_and_positives_are_kept(first, second, third):
    taxonomy = Taxonomy(("1_a", "2_b"), ("2-1_c", "2-2_d"), (1, 1))

    def known(answer):
        return {label: value for label, value in answer.items() if value != Status.NOT_ASKED}

    assert known(combine_statuses(first, second)) == known(combine_statuses(second, first))
    assert combine_statuses(combine_statuses(first, second), third) == combine_statuses(
        first, combine_statuses(second, third)
    )
    assert combine_statuses(first, first) == first
    together = combine_statuses(combine_statuses(first, second), third)
    written = convert_to_presence(together, taxonomy)
    for label in taxonomy.labels:
        statuses = {answer.get(label, Status.NOT_ASKED) for answer in (first, second, third)}
        if Status.PRESENT in statuses:
            assert written[label] == 1
        elif Status.ABSENT not in statuses and Status.UNCERTAIN in statuses and label != "2_b":
            assert written[label] == -1
    for label in find_contradictions(first, second):
        assert written[label] == 1


# --- Names


def test_recording_names_compare_in_nfc(tmp_path, collection):
    sound = write_noise(tmp_path / "rec" / "Straße" / NFD, 10)
    (tmp_path / "labels.csv").write_text(f"file,label\n{NFC},tram\n", encoding="utf-8")
    (tmp_path / "paths.csv").write_text(f"file,label\nStraße/{NFC},tram\n", encoding="utf-8")
    (tmp_path / "rec" / NFC.replace(".wav", ".txt")).write_text("0\t1\ttram\n")
    for source in (tmp_path / "labels.csv", tmp_path / "paths.csv"):
        assert read_labels(source, audio=tmp_path / "rec").annotations == [Annotation(sound, "tram")]
    assert [annotation.path for annotation in read_labels(tmp_path / "rec", "audacity").annotations] == [
        sound
    ]
    studio = export(tmp_path, task(f"/data/local-files/?d={NFC}"))
    assert [annotation.path for annotation in read_labels(studio, audio=tmp_path / "rec").annotations] == [
        sound
    ]


def test_dataset_tables_compare_names_in_nfc(tmp_path):
    sound = write_noise(tmp_path / "audio" / NFD, 1)
    (tmp_path / "meta").mkdir()
    meta = tmp_path / "meta" / "esc50.csv"
    meta.write_text(f"filename,fold,category,src_file\n{NFC},1,dog,1\n", encoding="utf-8")
    assert [annotation.path for annotation in read_labels(meta).annotations] == [sound]


def test_labels_compare_in_nfc(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "Straßenbähn") for form in ("NFC", "NFD"))
    assert taxonomy_from_classes([nfd]) == taxonomy_from_classes([nfc]) == {"coarse": {1: "Straßenbähn"}}
    collection = Collection.create(tmp_path / "city", taxonomy_from_classes([nfc]))
    street = write_noise(tmp_path / "street.wav", 10)
    for name, renamed in ((nfd, {}), ("Bähn", {unicodedata.normalize("NFD", "Bähn"): nfd})):
        given = TRAIN | {"renamed": renamed}
        assert import_recordings(collection, [Annotation(street, name)], tmp_path, **given).problems == []
    assert presence(collection, "1_Straßenbähn") == [1]


def test_local_data_and_predictions_compare_names_in_nfc(tmp_path, taxonomy_file):
    taxonomy = read_taxonomy(taxonomy_file)
    root, target = tmp_path / "set", tmp_path / "raw"
    write_noise(root / "audio" / NFD, 1)
    (root / "dcase-ust-taxonomy.yaml").write_bytes(taxonomy_file.read_bytes())
    write_annotations(root / "annotations.csv", taxonomy, [("train", NFC, 0, {})])
    target.mkdir()
    assert link_dataset(root, target, skip_bad=False).clips == {"train": 1}
    assert (target / "audio" / "train" / NFC).is_file()
    clips = list(read_annotations(target / "annotations.csv", taxonomy)["audio_filename"])
    predictions = pd.DataFrame(0.5, index=[NFD], columns=list(taxonomy.labels))
    predictions.to_csv(tmp_path / "predictions.csv", index_label="audio_filename")
    table, _ = read_predictions(tmp_path / "predictions.csv", clips, taxonomy)
    assert list(table.index) == [NFC]


# --- Classes


def test_classes_may_stand_in_any_order(tmp_path):
    wanted = {"coarse": {1: "dog"}, "fine": {1: {1: "barking"}}}
    for classes in (["dog: barking", "dog"], ["dog", "dog: barking"], ["dog: barking"]):
        assert taxonomy_from_classes(classes) == wanted
    with pytest.raises(UserError, match="the class 'dog' is listed twice"):
        taxonomy_from_classes(["dog", "dog: barking", "dog"])


@pytest.mark.parametrize("loose", ["a_other.wav", "other.wav"])
def test_class_folders_may_hold_recordings_beside_folders(tmp_path, loose):
    """Names sort before and after the folder of the fine class."""
    write_noise(tmp_path / "a" / "dog" / "barking" / "1.wav", 1)
    write_noise(tmp_path / "a" / "dog" / loose, 1)
    init("ust init", [str(tmp_path / "city"), "--from", str(tmp_path / "a"), "--weights", "random"])
    assert Collection(tmp_path / "city").taxonomy.labels == ("1_dog", "1-1_barking")


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["a_1.wav", "a_2.wav", "b_1.wav", "b_2.wav", "c_1.wav"], "^([^_]+)_"),
        (["1.wav", "2.wav", "3.wav"], None),
        ([], None),
    ],
)
def test_slices_of_one_source_are_recognised(names, pattern):
    found = guess_group_pattern(names)
    assert (found and found[0]) == pattern


def test_import_proposes_a_group(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(console.log, "propagate", True)
    Collection.create(tmp_path / "city", taxonomy_from_classes(["tram", "bell"]))
    for name in ("tram/134-0-1.wav", "tram/134-0-2.wav", "bell/90-3-0.wav", "bell/90-3-1.wav"):
        write_noise(tmp_path / "sounds" / name, 2)
    words = [str(tmp_path / "city"), str(tmp_path / "sounds")]
    import_labels("ust import", words)
    assert "such as 134-0-1.wav and 134-0-2.wav" in caplog.text
    assert "--group '^([^-]+)-'" in caplog.text
    caplog.clear()
    import_labels("ust import", [*words, "--group", "^([^-]+)-"])
    assert "--group" not in caplog.text
    with pytest.raises(UserError, match="--unlabelled"):
        import_labels("ust import", [*words, "--format", "nothing"])
