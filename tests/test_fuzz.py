"""Fuzzed files are either read or refused by a `UserError`."""

import io
import json
import resource
import struct
from contextlib import suppress
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile as sf
from conftest import RATE, ROOT, checkpoint_variables
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ust.annotations.annotations import read_annotations
from ust.annotations.labels import read_labels
from ust.annotations.taxonomy import Taxonomy, read_taxonomy
from ust.audio.recordings import read_recording
from ust.cli.parameters import check_params
from ust.datasets.local import link_dataset
from ust.datasets.synthetic.city import annotation_columns, write_taxonomy
from ust.evaluation.predictions import read_predictions
from ust.features.store import Row, open_features, write_features
from ust.features.vggish.weights import read_checkpoint, variable_shapes
from ust.models.checkpoints import SavedNetwork, load_system, save_network
from ust.models.cnn import CNN
from ust.models.frames import FrameClassifier
from ust.training.registry import read_system_config
from ust.util.errors import UserError

MEBIBYTES = 1024
TAXONOMY = Taxonomy(("1_engine",), ("1-1_small-sounding-engine",), (0,))
fuzzed = settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def _bounded_memory():
    with suppress(OSError):  # Linux: what other tests needed before does not count
        Path("/proc/self/clear_refs").write_text("5")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEBIBYTES * 2**10


def survives(function, *args):
    """Call a function; return its result, or None if it raises a short UserError."""
    try:
        return function(*args)
    except UserError as error:
        assert str(error).strip()
        assert len(str(error)) < 20_000
        return None


def damages(content: bytes):
    """Strategy: the content truncated, with bytes changed, inserted or removed."""
    places = st.integers(0, len(content) - 1)

    def apply(cut, changes, inserted):
        damaged = bytearray(content)
        for place, byte in changes:
            damaged[place] = byte
        if inserted is not None:
            place, more = inserted
            damaged[place:place] = more
        return bytes(damaged[:cut])

    near_the_start = st.integers(0, min(200, len(content) - 1))
    return st.builds(
        apply,
        st.one_of(st.none(), places),
        st.lists(st.tuples(st.one_of(near_the_start, places), st.integers(0, 255)), max_size=8),
        st.one_of(st.none(), st.tuples(places, st.binary(max_size=20))),
    )


extreme = st.one_of(st.sampled_from([0, 1, 2, 3, 255, 256, 2**15, 2**16 - 1]), st.integers(0, 2**16 - 1))
extreme_long = st.one_of(
    st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, RATE]), st.integers(0, 2**32 - 1)
)


@cache
def sound(format, subtype):
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    sf.write(buffer, 0.1 * rng.standard_normal(2000), RATE, format=format, subtype=subtype)
    return buffer.getvalue()


KINDS = [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "DOUBLE"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]


class TestAudio:
    """Recordings."""

    def check(self, folder, content):
        path = folder / "clip.wav"
        path.write_bytes(content)
        recording = survives(read_recording, path)
        if recording is not None:
            assert np.isfinite(recording.samples).all()
            assert len(recording.samples) > 0
            assert recording.sample_rate > 0

    @pytest.mark.parametrize("kind", KINDS, ids="-".join)
    @fuzzed
    @given(data=st.data())
    def test_damaged(self, tmp_path_factory, kind, data):
        self.check(tmp_path_factory.getbasetemp(), data.draw(damages(sound(*kind))))

    @fuzzed
    @given(
        st.sampled_from([b"RIFF", b"RIFX", b"RF64"]), extreme_long, extreme, extreme, extreme_long,
        extreme_long, extreme, extreme, extreme_long, st.binary(max_size=400),
    )  # fmt: skip
    def test_absurd_headers(
        self, tmp_path_factory, magic, size, kind, channels, rate, byte_rate, align, bits, data_size, payload
    ):
        order = ">" if magic == b"RIFX" else "<"
        content = magic + struct.pack(order + "I", size) + b"WAVE" + b"fmt "
        content += struct.pack(order + "IHHIIHH", 16, kind, channels, rate, byte_rate, align, bits)
        content += b"data" + struct.pack(order + "I", data_size) + payload
        self.check(tmp_path_factory.getbasetemp(), content)

    @fuzzed
    @given(st.lists(st.floats(width=64), min_size=1, max_size=50), st.sampled_from(["FLOAT", "DOUBLE"]))
    def test_any_floats(self, tmp_path_factory, samples, subtype):
        buffer = io.BytesIO()
        with np.errstate(over="ignore"):
            sf.write(buffer, np.array(samples), RATE, format="WAV", subtype=subtype)
        self.check(tmp_path_factory.getbasetemp(), buffer.getvalue())


names = st.one_of(
    st.sampled_from(
        [
            "../up.wav",
            "/etc/passwd",
            "a/b.wav",
            "..",
            "",
            "a\\b.wav",
            "C:\\x.wav",
            "ä€.wav",
            "a\0b.wav",
            "nul",
        ]
    ),
    st.text(max_size=20),
    st.text(max_size=8).map(lambda text: text + ".wav"),
)
cells = st.one_of(
    st.sampled_from(["1", "0", "-1", "", " 1", "1.0", "2", "nan", "inf", "1e400", '"', "0x1", "yes"]),
    st.text(max_size=5),
)


class TestTables:
    """CSV files."""

    @fuzzed
    @given(data=st.data())
    def test_annotations(self, tmp_path_factory, taxonomy, data):
        columns = annotation_columns(taxonomy)
        header = ",".join(columns)
        rows = []
        for _ in range(data.draw(st.integers(0, 4))):
            row = dict.fromkeys(columns, "0") | {"split": "train", "annotator_id": "1"}
            row["audio_filename"] = data.draw(names)
            for column in data.draw(st.lists(st.sampled_from(columns), max_size=3)):
                row[column] = data.draw(cells)
            rows.append(",".join(row.values()))
        newline = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
        text = data.draw(st.sampled_from(["", "\ufeff"])) + newline.join([header, *rows, *rows[:1]])
        encoding = data.draw(st.sampled_from(["utf-8", "utf-16", "latin-1"]))
        folder = tmp_path_factory.mktemp("city")
        content = text.encode(encoding, "replace")
        if data.draw(st.booleans()) and content:
            content = data.draw(damages(content))
        self.check_annotations(folder, content, taxonomy)

    def check_annotations(self, folder, content, taxonomy):
        root, target = folder / "root", folder / "target"
        root.mkdir()
        target.mkdir()
        write_taxonomy(root / "dcase-ust-taxonomy.yaml")
        (root / "annotations.csv").write_bytes(content)
        before = sorted(path for path in folder.rglob("*") if target not in path.parents)
        annotations = survives(read_annotations, root / "annotations.csv", taxonomy)
        if annotations is not None:
            for name in annotations["audio_filename"]:
                assert (target / name).resolve().parent == target.resolve()
            survives(lambda: link_dataset(root, target, skip_bad=True))
        assert sorted(path for path in folder.rglob("*") if target not in path.parents) == before

    @fuzzed
    @given(data=st.data())
    def test_predictions_and_labels(self, tmp_path_factory, taxonomy, data):
        columns = ["audio_filename", *taxonomy.fine, *taxonomy.coarse]
        lines = [",".join(columns)]
        for name in data.draw(st.lists(st.one_of(st.just("a.wav"), names), max_size=3)):
            row = dict.fromkeys(columns, "0.5") | {"audio_filename": name}
            for column in data.draw(st.lists(st.sampled_from(columns), max_size=2)):
                row[column] = data.draw(cells)
            lines.append(",".join(row.values()))
        content = data.draw(damages("\n".join(lines).encode("utf-8", "replace")))
        path = tmp_path_factory.getbasetemp() / "table.csv"
        path.write_bytes(content)
        found = survives(read_predictions, path, ["a.wav"], taxonomy)
        if found is not None:
            assert found[0].to_numpy().min() >= 0
            assert found[0].to_numpy().max() <= 1
        survives(read_labels, path, taxonomy)

    def test_a_line_of_a_gigabyte(self, tmp_path, taxonomy):
        path = tmp_path / "annotations.csv"
        with path.open("wb") as file:
            file.truncate(2**30)
        with pytest.raises(UserError, match="line 1 is longer than a megabyte"):
            read_annotations(path, taxonomy)


yaml_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [*{a}, *{a}, *{a}, *{a}]}}\n"
    for a, b in zip("abcdefghijklmnopqrstuvwxy", "bcdefghijklmnopqrstuvwxyz", strict=True)
)


class TestParameters:
    """YAML files."""

    @fuzzed
    @given(data=st.data())
    def test_damaged(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "any.yaml"
        write_taxonomy(path)
        for original, read in (
            ((ROOT / "params.yaml").read_bytes(), lambda: check_params(path)),
            (path.read_bytes(), lambda: read_taxonomy(path)),
        ):
            path.write_bytes(data.draw(damages(original)))
            survives(read)

    @settings(fuzzed, max_examples=50)  # a tenth of a second each
    @given(data=st.data())
    def test_any_value_anywhere(self, tmp_path_factory, data):
        content = YAML(typ="safe").load(ROOT / "params.yaml")
        section, key = content, data.draw(st.sampled_from(sorted(content)))
        while section[key] and isinstance(section[key], dict) and data.draw(st.integers(0, 3)):
            section = section[key]
            key = data.draw(st.sampled_from(sorted(section)))
        section[data.draw(st.one_of(st.just(key), st.text(max_size=5)))] = data.draw(yaml_values)
        path = tmp_path_factory.getbasetemp() / "any.yaml"
        path.write_text(json.dumps(content), "utf-8")  # which is YAML
        survives(check_params, path)
        survives(read_system_config, path, "cnn")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (BOMB, "line 2: aliases"),
            (MERGE_BOMB, "line 2: aliases"),
            ("a: !!python/object/apply:os.system [touch pwned]", "not valid YAML"),
            ("a: 1\na: 2", "not valid YAML"),
            ("[" * 100_000, "more than 20 nested levels"),
            ("a: " + "x" * 300_000, "300,003 bytes"),
            ("- a", "should be a mapping"),
            ("", "should be a mapping"),
            ("train: {lr: 1", "not valid YAML"),
        ],
    )
    def test_bombs_and_tags(self, tmp_path, text, message):
        path = tmp_path / "params.yaml"
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            check_params(path)
        assert list(tmp_path.iterdir()) == [path]


dtypes = st.sampled_from(["<f2", "<f4", "u1", "<i8", "S3", "?"])


class TestBinaries:
    """HDF5 and safetensors files."""

    def use(self, path):
        with open_features(path, "vggish", cache_gib=0.001) as features:
            return features[np.arange(len(features.clip))]

    @fuzzed
    @given(data=st.data())
    def test_damaged_features(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "vggish.h5"
        path.write_bytes(data.draw(damages(feature_file(tmp_path_factory.getbasetemp()))))
        found = survives(self.use, path)
        if found is not None:
            wanted = np.arange(3 * 1280, dtype=np.uint8).reshape(3, 10, 128)
            assert np.array_equal(found, wanted)

    @fuzzed
    @given(
        st.dictionaries(
            st.sampled_from(["clip", "variant", "split", "content", "vggish", "other"]),
            st.tuples(st.lists(st.integers(0, 5), max_size=3), dtypes),
        )
    )
    def test_other_features(self, tmp_path_factory, datasets):
        path = tmp_path_factory.getbasetemp() / "vggish.h5"
        with h5py.File(path, "w") as file:
            for name, (shape, dtype) in datasets.items():
                file.create_dataset(name, shape, dtype)
        survives(self.use, path)

    @pytest.mark.parametrize("kind", ["flat", "frames"])
    @fuzzed
    @given(data=st.data())
    def test_damaged_models(self, tmp_path_factory, kind, data):
        folder = tmp_path_factory.getbasetemp() / kind
        files = model_files(kind, folder)
        name = data.draw(st.sampled_from(sorted(files)))
        (folder / name).write_bytes(data.draw(damages(files[name])))
        survives(lambda: load_system(folder, taxonomy=TAXONOMY))
        (folder / name).write_bytes(files[name])

    @fuzzed
    @given(
        st.dictionaries(
            st.sampled_from(["kind", "architecture", "config", "shapes", "labels", "metadata", "nodes"]),
            yaml_values,
        )
    )
    def test_other_descriptions(self, tmp_path_factory, description):
        folder = tmp_path_factory.getbasetemp() / "flat"
        files = model_files("flat", folder)
        given = json.loads(files["model.json"]) | description
        (folder / "model.json").write_text(json.dumps(given))
        survives(lambda: load_system(folder, taxonomy=TAXONOMY))
        (folder / "model.json").write_bytes(files["model.json"])


class TestCheckpoints:
    """TensorFlow checkpoints and NumPy archives."""

    @fuzzed
    @given(data=st.data())
    def test_damaged(self, tf, tmp_path_factory, data):
        folder = tmp_path_factory.getbasetemp() / "released"
        files = checkpoint_files(tf, folder)
        name = data.draw(st.sampled_from(sorted(files)))
        (folder / name).write_bytes(data.draw(damages(files[name])))
        assert survives(read_checkpoint, folder / "vggish.ckpt", folder / "pca.npz") is None
        (folder / name).write_bytes(files[name])


@cache
def checkpoint_files(tf, folder):
    folder.mkdir()
    some = list(variable_shapes().items())[:4]
    arrays = {name: np.ones(shape, np.float32) for name, shape in some}
    checkpoint_variables(tf, arrays, folder / "vggish.ckpt")
    np.savez(folder / "pca.npz", pca_eigen_vectors=np.eye(128), pca_means=np.zeros((128, 1)))
    return {name: (folder / name).read_bytes() for name in ("vggish.ckpt", "pca.npz")}


@cache
def feature_file(folder):
    path = folder / "whole.h5"
    rows = [Row(f"{index}.wav", "original", "train", path) for index in range(3)]
    values = np.arange(3 * 1280, dtype=np.uint8).reshape(3, 10, 128)
    write_features(path, "vggish", rows, ["", "", ""], values, shape=(10, 128), dtype="uint8", attributes={})
    return path.read_bytes()


@cache
def model_files(kind, folder):
    labels = ["1_engine", "1-1_small-sounding-engine"]
    if kind == "flat":
        config = CNN.Config(conv_dropout=0.5, head_dropout=0.2)
        save_network(folder, SavedNetwork(CNN(config, 2), "cnn", config, labels, {}))
    else:
        config = FrameClassifier.Config(hidden_layers=1, hidden_size=8)
        save_network(
            folder, SavedNetwork(FrameClassifier(config, 2), "frames", config, labels, {}), kind="frames"
        )
    return {path.name: path.read_bytes() for path in folder.iterdir()}
