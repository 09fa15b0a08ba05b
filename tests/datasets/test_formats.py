"""Label formats of annotation tools and data sets, and the errors of invalid files."""

import json

import pytest
from label_sources import label_studio_export, read_labels, write_annotations, write_noise

from ust.datasets.formats.base import Annotation
from ust.datasets.formats.registry import detect_format
from ust.util.errors import UserError


@pytest.fixture
def street(tmp_path):
    return write_noise(tmp_path / "street.wav")


def test_class_folders_are_read(tmp_path):
    a, b = (
        write_noise(tmp_path / "tram" / "1.wav"),
        write_noise(tmp_path / "market" / "voices" / "day" / "2.flac"),
    )
    write_noise(tmp_path / "loose.wav")
    found = read_labels(tmp_path)
    assert found.annotations == [Annotation(b, "market: voices"), Annotation(a, "tram")]
    assert "loose.wav: is not in the folder of a class" in found.problems[0]
    assert detect_format(tmp_path) == "folder"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_tables_of_any_separator(tmp_path, street, separator):
    table = tmp_path / "labels.csv"
    rows = [["File", "Category", "onset", "offset", "user"], ["street.wav", "tram", "1.5", "3", "Ada"],
            ["street", "", "", "", "Ada"]]  # fmt: skip
    table.write_text("\ufeff" + "".join(separator.join(row) + "\r\n" for row in rows), encoding="utf-8")
    assert read_labels(table).annotations == [
        Annotation(street, "tram", 1.5, 3.0, "Ada"),
        Annotation(street, None, annotator="Ada"),
    ]


def test_columns_with_other_names_are_set_by_option(tmp_path, street):
    (tmp_path / "t.csv").write_text("wav,what,where\nstreet.wav,tram,square\n")
    with pytest.raises(UserError, match="which column holds the path"):
        read_labels(tmp_path / "t.csv")
    columns = {"path": "wav", "label": "what", "group": "where"}
    assert read_labels(tmp_path / "t.csv", columns=columns).annotations == [
        Annotation(street, "tram", group="square")
    ]


def test_esc50_is_read(tmp_path):
    clip = write_noise(tmp_path / "audio" / "1-100032-A-0.wav")
    other = write_noise(tmp_path / "audio" / "2-9-A-0.wav")
    (tmp_path / "meta").mkdir()
    meta = tmp_path / "meta" / "esc50.csv"
    meta.write_text(
        "filename,fold,target,category,esc10,src_file,take\n1-100032-A-0.wav,1,0,dog,True,100032,A\n"
        "2-9-A-0.wav,2,0,dog,True,9,A\n"
    )
    assert detect_format(meta) == "esc50"
    assert read_labels(meta).annotations == [
        Annotation(clip, "dog", group="100032"),
        Annotation(other, "dog", group="9"),
    ]
    assert [annotation.split for annotation in read_labels(meta, validate_folds=("2",)).annotations] == [
        "train",
        "validate",
    ]


def test_urbansound8k_is_read(tmp_path):
    """Start and end are times in the source recording, not in the slice."""
    clip = write_noise(tmp_path / "audio" / "fold5" / "100032-3-0-0.wav")
    (tmp_path / "metadata").mkdir()
    meta = tmp_path / "metadata" / "UrbanSound8K.csv"
    meta.write_text(
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
        "100032-3-0-0.wav,100032,10.0,10.317551,1,5,3,dog_bark\n"
    )
    assert detect_format(meta) == "urbansound8k"
    assert read_labels(meta).annotations == [Annotation(clip, "dog_bark", group="100032")]


def test_audacity_labels_are_read(tmp_path, street):
    """A label with frequencies has a second line, which begins with a backslash."""
    (tmp_path / "street.txt").write_text("1.000000\t2.500000\ttram\n\\\t100.0\t900.0\n4.0\t4.0\tbell\n\n")
    quiet = write_noise(tmp_path / "quiet.flac")
    (tmp_path / "quiet.txt").write_text("")
    assert detect_format(tmp_path / "street.txt") == "audacity"
    assert read_labels(tmp_path, "audacity").annotations == [
        Annotation(quiet, None), Annotation(street, "tram", 1.0, 2.5), Annotation(street, "bell", 4.0, 4.0)
    ]  # fmt: skip


RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tBegin File\t"
    "File Offset (s)\tSpecies\n"
    "1\tWaveform 1\t1\t61.0\t62.0\t0\t4000\tstreet.wav\t1.0\ttram\n"
    "1\tSpectrogram 1\t1\t61.0\t62.0\t0\t4000\tstreet.wav\t1.0\ttram\n"
    "2\tSpectrogram 1\t1\t70.5\t71.0\t0\t4000\tstreet.wav\t10.5\tbell\n"
)


def test_raven_tables_are_read(tmp_path, street):
    """A selection in two views counts once."""
    table = tmp_path / "two.Table.1.selections.txt"
    table.write_text(RAVEN)
    assert detect_format(table) == "raven"
    assert read_labels(table).annotations == [
        Annotation(street, "tram", 1.0, 2.0),
        Annotation(street, "bell", 10.5, 11.0),
    ]
    plain = tmp_path / "street.Table.1.selections.txt"
    plain.write_text(
        "Selection\tView\tBegin Time (s)\tEnd Time (s)\tAnnotation\n1\tSpectrogram 1\t3\t4\ttram\n"
    )
    assert read_labels(plain).annotations == [Annotation(street, "tram", 3.0, 4.0)]


def test_label_studio_exports_are_read(tmp_path, street):
    """Covers regions, choices, a prefix of uploads, cancelled and empty annotations."""

    def task(number, audio, *annotations):
        return {"id": number, "data": {"audio": audio}, "annotations": list(annotations)}

    def region(start, end, *labels):
        return {
            "type": "labels",
            "from_name": "label",
            "value": {"start": start, "end": end, "labels": labels},
        }

    ada = {"completed_by": {"id": 3, "email": "ada@example.org"}, "result": [region(1, 2.5, "tram", "bell")]}
    choice = {"type": "choices", "value": {"choices": ["market"]}}
    export = label_studio_export(
        tmp_path / "project-1.json",
        task(1, "/data/upload/1/1a2b3c4d-street.wav", ada, {"completed_by": 4, "result": [choice]}),
        task(2, "/data/local-files/?d=city/street.wav", {"completed_by": 4, "result": []}),
        task(3, "s3://bucket/street.wav", {"completed_by": 4, "was_cancelled": True, "result": [choice]}),
    )
    assert detect_format(export) == "label-studio"
    assert read_labels(export).annotations == [
        Annotation(street, "tram", 1.0, 2.5, "ada@example.org"),
        Annotation(street, "bell", 1.0, 2.5, "ada@example.org"),
        Annotation(street, "market", annotator="4"), Annotation(street, None, annotator="4"),
    ]  # fmt: skip


def test_sonyc_annotations_are_read(tmp_path, taxonomy_file, taxonomy):
    clip = write_noise(tmp_path / "audio" / "train" / "07_000001.wav")
    (tmp_path / "dcase-ust-taxonomy.yaml").write_bytes(taxonomy_file.read_bytes())
    values = dict.fromkeys(taxonomy.labels, 0) | {"1_engine": 1, taxonomy.fine[0]: 1, taxonomy.fine[-1]: -1}
    rows = [("train", clip.name, annotator, values) for annotator in (5, 0)]
    write_annotations(tmp_path / "annotations.csv", taxonomy, rows)
    found = read_labels(tmp_path)
    assert detect_format(tmp_path) == "sonyc"
    assert found.annotations[0] == Annotation(clip, taxonomy.labels[0], 0.0, None, "SONYC 5", "7", "train", 1)
    assert [annotation.status for annotation in found.annotations[:37]] == list(values.values())
    assert {annotation.annotator for annotation in found.annotations} == {"SONYC 5", ""}


RAVEN_HEAD = "Begin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n"
GOOD_HEAD = "path,label,start,end\n"
BROKEN = {
    "csv": ("labels.csv", [
        b"", b"path,label\n", b"\0\0\0\0", b"one\ntwo\n", (GOOD_HEAD + "gone.wav,tram,,\n").encode(),
        (GOOD_HEAD + "street.wav,tram,x,2\n").encode(), (GOOD_HEAD + "street.wav,tram,5,2\n").encode(),
        (GOOD_HEAD + "street.wav,tram,-1,2\n").encode(), (GOOD_HEAD + "../../etc/passwd,tram,,\n").encode(),
        "path,label\nstreet.wav,café\n".encode("utf-16"),
    ]),
    "esc50": ("esc50.csv", [
        b"", b"\xff\xfe\0", b"filename,fold\n1.wav,1\n", b"filename,fold,category\na,1,dog\n", b"a;b\n1;2\n",
        *(f"filename,fold,category,src_file\n{name},1,dog,1\n".encode() for name in (
            "gone.wav", "", "..", "street.mp3", "a/b.wav")),
    ]),
    "urbansound8k": ("UrbanSound8K.csv", [
        b"", b"\xff\xfe\0", b"slice_file_name,fold\n1.wav,1\n", b"fsID,fold,class\n1,1,dog\n", b"a;b\n1;2\n",
        *(f"slice_file_name,fsID,fold,class\n{name},1,1,dog\n".encode() for name in (
            "gone.wav", "", "..", "street.mp3", "a/b.wav")),
    ]),
    "audacity": ("street.txt", [
        b"tram\n", b"1\ttram\n", b"x\ty\ttram\n", b"2\t1\ttram\n", b"-1\t1\ttram\n", b"1\t2\t\n",
        b"nan\t2\ttram\n", b"inf\tinf\ttram\n", b"\xff\xfe1\t2\ttram", b"1,5\t2,5\ttram\n",
    ]),
    "raven": ("street.Table.1.selections.txt", [
        b"Selection\tBegin Time (s)\n1\t2\n", b"Begin Time (s)\tEnd Time (s)\n1\t2\n", b"\xff\xfe\0\0",
        *((RAVEN_HEAD + "\t".join(row) + "\n").encode() for row in (
            ("x", "2", "street.wav", "tram"), ("3", "2", "street.wav", "tram"),
            ("1", "2", "gone.wav", "tram"),
            ("1", "2", "street.wav", ""), ("", "", "street.wav", "tram"), ("-1", "2", "street.wav", "tram"),
            ("1", "nan", "street.wav", "tram"))),
    ]),
    "label-studio": ("export.json", [
        b"", b"{", b"{}", b"[1]", b"[" * 100_000, b'[{"audio": "street.wav", "label": []}]', b"\xff",
        *(json.dumps([task]).encode() for task in (
            {"data": {}, "annotations": []},
            {"data": {"audio": "gone.wav"}, "annotations": []},
            {"data": {"audio": "street.wav"}, "annotations": [{"result": [{"value": {"labels": ["a"]}}]}]},
            {"data": {"audio": "street.wav"}, "annotations": [{"result": 5}]},
            {"data": {"audio": "street.wav"},
             "annotations": [{"result": [{"value": {"start": 3, "end": 1, "labels": ["a"]}}]}]})),
    ]),
    "sonyc": ("annotations.csv", [
        b"", b"\0", b"split\ntrain\n", b"a,b\n1,2\n", b"split,sensor_id,audio_filename,annotator_id\n",
        b"split,sensor_id,audio_filename,annotator_id\ntrain,1,a.wav,1\n", b"\xff\xfe\0", b"x;y\n1;2\n",
        b"split,split\n1,2\n",
        b"split,sensor_id,audio_filename,annotator_id,9_x_presence\ntrain,1,a.wav,1,1\n",
    ]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "number"), [(form, n) for form, (_, contents) in BROKEN.items() for n in range(len(contents))]
)
def test_invalid_sources_are_reported_and_not_changed(tmp_path, street, taxonomy_file, form, number):
    name, contents = BROKEN[form]
    path = tmp_path / name
    path.write_bytes(contents[number])
    (tmp_path / "dcase-ust-taxonomy.yaml").write_bytes(taxonomy_file.read_bytes())
    before = {other: other.read_bytes() for other in tmp_path.rglob("*") if other.is_file()}
    try:
        found = read_labels(path, form)
    except UserError as error:
        assert name in str(error)
    else:
        assert found.problems
        assert all(name in problem for problem in found.problems)
        assert not found.usable
    assert before == {other: other.read_bytes() for other in tmp_path.rglob("*") if other.is_file()}


@pytest.mark.parametrize("make", [
    lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x"),
    lambda path: write_noise(path / "loose.wav"), lambda path: (path / "empty").mkdir(parents=True),
    lambda path: write_noise(path / ".hidden.wav"), lambda path: write_noise(path / "a" / ".hidden.wav"),
    lambda path: (path / "a").mkdir(parents=True) or (path / "a" / "b.txt").write_text("x"),
    lambda path: (path / "a" / "x.wav").mkdir(parents=True),
    lambda path: (path / "a").mkdir(parents=True) or (path / "a" / "x.wav").symlink_to(path / "gone"),
])  # fmt: skip
def test_folders_without_classes(tmp_path, make):
    make(tmp_path / "given")
    with pytest.raises(UserError, match="given"):
        read_labels(tmp_path / "given", "folder")


def test_an_unknown_format_is_an_error(tmp_path):
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(UserError, match=r"unknown label format; set --format .*, or --unlabelled"):
        detect_format(tmp_path / "notes.docx")
    with pytest.raises(UserError, match="no such file"):
        detect_format(tmp_path / "gone")


def test_missing_recordings_are_summarized_in_one_line(tmp_path, street):
    """The table has 36 lines about three missing recordings and one line about an existing one."""
    rows = [f"field{index % 3}.wav,tram,{index},{index + 1}" for index in range(36)]
    (tmp_path / "t.csv").write_text(
        "path,label,start,end\n" + "\n".join([*rows, "street.wav,tram,0,1"]) + "\n"
    )
    found = read_labels(tmp_path / "t.csv")
    assert found.annotations == [Annotation(street, "tram", 0.0, 1.0)]
    (problem,) = found.problems
    assert problem.startswith(f"3 recordings of 36 lines not found in {tmp_path}: field0.wav, field1.wav, ")
    assert problem.endswith("--audio FOLDER sets the folder of the recordings")
    (tmp_path / "t.csv").write_text("path,label\nfield0.wav,tram\n")
    (problem,) = read_labels(tmp_path / "t.csv").problems
    assert "line 2: there is no recording 'field0.wav'" in problem
    assert "--audio FOLDER" in problem
