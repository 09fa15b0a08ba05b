"""Fixtures: the taxonomy, the real annotations where they are at hand, small feature files."""

import os
from pathlib import Path

# Before NumPy and PyTorch are imported: the tests run two at a time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import soundfile as sf

from ust.city.build import write_taxonomy
from ust.features import Row, write_features
from ust.sonyc import TAXONOMY
from ust.taxonomy import read_taxonomy

ROOT = Path(__file__).parent.parent
RATE = 44_100
# Half a minute to five. They come first, so that at the end no worker is left alone with one; and those that
# look at the finished pipeline apart, so that none waits while another makes it.
LONGEST = ("pipeline", "faults", "fuzz", "vggish", "experiments", "docs", "training", "export")


def pytest_collection_modifyitems(items):
    """Put the longest modules first."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem.removeprefix("test_"), len(ranks)))


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
