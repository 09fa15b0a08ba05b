"""Shared fixtures: taxonomy, annotations, feature files, and a finished project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Set before NumPy and PyTorch are imported, as two tests run at a time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from ust.annotations.annotations import read_annotations
from ust.annotations.rules.any import AnyConfig
from ust.annotations.rules.majority import MajorityConfig
from ust.annotations.rules.registry import RULES
from ust.annotations.taxonomy import read_taxonomy
from ust.datasets.source import ANNOTATIONS, TAXONOMY
from ust.datasets.synthetic.city import write_taxonomy
from ust.features.efficientat.weights import EfficientATConfig, prepare
from ust.features.feature import NETWORK_FILE
from ust.features.store import Row, write_features
from ust.util.documents import write_json

ROOT = Path(__file__).parent.parent
RATE = 44_100
# The longest modules come first, so that at the end no worker is left alone with one. The first of them makes
# the `project` that others use; these come later, so that no worker waits for it.
LONGEST = ("pipeline", "faults", "leaderboard", "archive", "v2", "recipes", "fuzz", "resume",
           "train_finetune", "vggish", "dependencies", "experiments", "docs", "training", "export",
           "project", "review")  # fmt: skip

# Modules that `make test-fast` leaves out: they start processes or train networks of full size.
WHOLE = {"architecture", "benchmarks", "distributed", "efficientat", "environment", "hierarchy",
         "label_quality", "learns", "loops", "mistakes", "models", "onnx", "package", "page", "tagger",
         "train_finetune", "train_head", *LONGEST}  # fmt: skip


def pytest_collection_modifyitems(items):
    """Put the longest modules first, and mark those that `make test-fast` leaves out."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    for item in items:
        if item.path.stem.removeprefix("test_") in WHOLE:
            item.add_marker("whole")
    items.sort(key=lambda item: ranks.get(item.path.stem.removeprefix("test_"), len(ranks)))


def aggregate(annotations, taxonomy, *, threshold, soft):
    """Return labels by the report's rule."""
    settings = MajorityConfig(threshold=threshold, soft=soft)
    return RULES["majority"].aggregate(annotations, taxonomy, settings)


def aggregate_any(annotations, taxonomy):
    """Return labels by the rule of the challenge's baseline."""
    return RULES["any"].aggregate(annotations, taxonomy, AnyConfig())


@pytest.fixture(scope="module", autouse=True)
def workers():
    """Stop joblib's worker processes after each module, as they stay in the folder of their start."""
    yield
    if "commands" in sys.modules:
        sys.modules["commands"].stop_workers()


@pytest.fixture(scope="session")
def taxonomy_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("taxonomy") / TAXONOMY
    write_taxonomy(path)
    return path


@pytest.fixture(scope="session")
def taxonomy(taxonomy_file):
    return read_taxonomy(taxonomy_file)


@pytest.fixture(scope="session")
def sonyc_ust_v1():
    """The folder of the real annotations.csv, $SONYC_UST_V1 or beside the checkout."""
    folder = Path(os.environ.get("SONYC_UST_V1", ROOT.parent / "shared" / "sonyc-ust-v1"))
    if not (folder / "annotations.csv").is_file():
        pytest.skip("the real annotations are not here; SONYC_UST_V1 can name their folder")
    return folder


@pytest.fixture(scope="session")
def published():
    """The folder of published weights and reference values, $UST_WEIGHTS or beside the checkout."""
    folder = Path(os.environ.get("UST_WEIGHTS", ROOT.parent / "shared" / "weights"))
    if not (folder / "mn04_reference.npz").is_file():
        pytest.skip("the published weights are not here; UST_WEIGHTS can name their folder")
    return folder


@pytest.fixture(scope="session", params=["ours", "real"])
def annotated(request, taxonomy):
    """Annotations and their taxonomy, from a small synthetic city and from the real file."""
    if request.param == "ours":
        return read_annotations(Path(__file__).parent / "data" / ANNOTATIONS, taxonomy), taxonomy
    folder = request.getfixturevalue("sonyc_ust_v1")
    published = read_taxonomy(folder / TAXONOMY)
    return read_annotations(folder / ANNOTATIONS, published), published


@pytest.fixture
def server():
    """A local HTTP server; see `records.Server`."""
    from records import Server

    server = Server()
    yield server
    server.ended.set()
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def noise():
    """Ten seconds of quiet noise [shape=(441000,), float32]."""
    return (0.1 * np.random.default_rng(0).standard_normal(10 * RATE)).astype(np.float32)


@pytest.fixture
def wav(tmp_path, noise):
    """A function that writes samples to a WAV file and returns its path."""

    def write(name="clip.wav", samples=noise, rate=RATE, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, samples, rate, **options)
        return path

    return write


@pytest.fixture
def feature_files(tmp_path):
    """A function that writes log-mel and VGGish files for (clip, variant, split) rows."""

    def write(keys):
        rng = np.random.default_rng(1)
        rows = [Row(clip, variant, split, Path(clip)) for clip, variant, split in sorted(keys)]
        paths = {}
        for name, shape, dtype in (("logmel", (128, 862), "float16"), ("vggish", (10, 128), "uint8")):
            values = rng.integers(0, 255, (len(rows), *shape))
            values = values / 255 * -80 if name == "logmel" else values
            attributes = {"weights": "random", "sha256": "0" * 64} if name == "vggish" else {}
            paths[name] = tmp_path / f"{name}.h5"
            contents = [f"{name} {row.clip} {row.variant}" for row in rows]
            write_features(
                paths[name], name, rows, contents, values, shape=shape, dtype=dtype, attributes=attributes
            )
        return paths["logmel"], paths["vggish"]

    return write


@pytest.fixture
def stored():
    """Features of ten train clips, of which two have a variant, and of six validate clips."""
    from tiny import Stored

    keys = [(f"t{i}.wav", "original", "train") for i in range(10)]
    keys += [("t3.wav", "noise", "train"), ("t7.wav", "noise", "train")]
    keys += [(f"v{i}.wav", "original", "validate") for i in range(6)]
    clip, variant, split = (np.array(column, object) for column in zip(*sorted(keys), strict=True))
    rng = np.random.default_rng(0)
    vggish = rng.integers(0, 256, (len(keys), 10, 128)).astype(np.uint8)
    vggish[:, 0, 0] = np.arange(len(keys))
    logmel = np.zeros((len(keys), 1, 1), np.float16)
    return {"logmel": Stored(logmel, clip, variant, split), "vggish": Stored(vggish, clip, variant, split)}


@pytest.fixture
def tables(taxonomy):
    """Two different label tables, for the majority rule and for the any rule."""
    rng = np.random.default_rng(1)
    clips = [f"t{i}.wav" for i in range(10)] + [f"v{i}.wav" for i in range(6)]

    def table():
        values = pd.DataFrame(rng.integers(0, 2, (16, 37)), clips, list(taxonomy.labels))
        values.insert(0, "split", ["train"] * 10 + ["validate"] * 6)
        return values.rename_axis("audio_filename")

    return table(), table()


@pytest.fixture
def data(stored, tables, taxonomy):
    from tiny import FLAT

    from ust.training.context import training_data

    return training_data(FLAT, tables[0], stored, taxonomy)


@pytest.fixture
def work(tmp_path, taxonomy, monkeypatch):
    """A training context whose networks are tiny."""
    import torch
    from tiny import CPU, EpochRecorder, Tiny

    from ust.training.context import TrainingContext

    callbacks = EpochRecorder()

    def build_network(self, system, outputs, name, examples):
        torch.manual_seed(len(name))
        callbacks.network = Tiny(outputs)
        return callbacks.network

    monkeypatch.setattr(TrainingContext, "build_network", build_network)
    (tmp_path / "states").mkdir()
    inputs = {"logmel": "logmel", "vggish": "vggish"}
    metadata = {
        "architecture": "tiny",
        "taxonomy": None,
        "inputs": inputs,
        "features": {"logmel": {}, "vggish": {}},
    }
    return TrainingContext(
        "a", taxonomy, CPU, tmp_path / "out", tmp_path / "states", metadata, None, callbacks
    )


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a small disk or remounts it with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")

    def change(options):
        again = "remount," if folder.is_mount() else ""
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", again + options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("a small disk can only be mounted by root")
        return folder

    if not mount or os.geteuid() != 0:
        pytest.skip("a small disk can only be mounted by root")
    yield change
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def tf():
    """TensorFlow."""
    return pytest.importorskip("tensorflow")


def checkpoint_variables(tf, arrays, path):
    """Write arrays as a TensorFlow V1 single-file checkpoint."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, array in arrays.items():
            value = tf.compat.v1.placeholder(array.dtype, array.shape)
            variable = tf.compat.v1.get_variable(f"vggish/{name}", initializer=value)
            session.run(variable.initializer, {value: array})
        saver = tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V1)
        saver.save(session, str(path), write_meta_graph=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone of the working tree with a tiny city, in which `dvc repro` has run and all is committed."""
    from project import finished

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return finished(shared, tmp_path_factory.mktemp("clone") / "project")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Random weights as the stage weights@efficientat writes them."""
    folder = tmp_path_factory.mktemp("pretrained") / "efficientat"
    write_json(folder / NETWORK_FILE, prepare(folder, EfficientATConfig(seed=1), None))
    return folder
