"""Inputs of the pairs: a small synthetic city, its features, and weights of VGGish."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

import joblib
import numpy as np
import torch

from ust.annotations.taxonomy import read_taxonomy
from ust.audio.recordings import load_audio
from ust.datasets.synthetic.city import build_city, write_taxonomy
from ust.features.extraction import extract
from ust.features.feature import Embed
from ust.features.registry import FEATURES
from ust.features.store import Row, find_rows, open_feature_files
from ust.features.vggish.weights import draw_random_variables, save_weights

ROOT = Path(__file__).parent.parent
RATE = 44_100
LOGMEL = {"sample_rate": RATE, "n_fft": 2048, "hop_length": 512, "n_mels": 128}
BATCH = 32


class Bench:
    """Inputs of the pairs, computed when they are first used.

    Networks and peers run on `device`. Files are written to `folder`, and `stack` closes open files.
    """

    def __init__(self, folder: Path, device: torch.device, stack: ExitStack) -> None:
        self.folder, self.device, self.stack = folder, device, stack
        self.settings = {
            "logmel": LOGMEL,
            "vggish": {"batch_clips": 4, "final_relu": True, "precision": "float32"},
        }
        write_taxonomy(folder / "taxonomy.yaml")
        self.taxonomy = read_taxonomy(folder / "taxonomy.yaml")

    @cached_property
    def rows(self) -> list[Row]:
        """64 clips of a synthetic city."""
        build_city(self.folder / "city", seed=2019, clips={"train": 64})
        return find_rows(self.folder / "city" / "audio")

    @cached_property
    def clip(self) -> np.ndarray:
        """Samples of one clip."""
        return load_audio(self.rows[0].path, RATE)

    @cached_property
    def variables(self) -> dict[str, np.ndarray]:
        """Random weights of VGGish."""
        return draw_random_variables(2019, final_relu=True)

    def synchronised(self, function: Callable[[], object]) -> Callable[[], object]:
        """Return a function that also waits for the kernels that the call started on a GPU."""

        def call() -> None:
            function()
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return call

    def vggish(self) -> Embed:
        """Load the VGGish network with weights from files, as extraction does."""
        folder, feature = self.folder / "weights", FEATURES["vggish"]
        save_weights(folder, self.variables, weights="random")
        return feature.load(folder, feature.config_from(self.settings["vggish"]), self.device)

    def extract(self, rows: list[Row], embed: Embed) -> None:
        """Extract log-mels and VGGish embeddings of rows, as the stage extract does."""
        for name, network in (("logmel", None), ("vggish", embed)):
            path = self.folder / f"{name}.h5"
            path.unlink(missing_ok=True)  # otherwise extraction would reuse the file
            extract(path, name, FEATURES[name], rows, self.settings[name], embed=network)

    @cached_property
    def features(self) -> list[Path]:
        """Feature files of all clips."""
        self.extract(self.rows, self.vggish())
        return [self.folder / "logmel.h5", self.folder / "vggish.h5"]

    def opened(self, cache_gib: float = 0.0) -> dict:
        """Open the feature files."""
        folder = self.features[0].parent
        inputs = {"logmel": "logmel", "vggish": "vggish"}
        return self.stack.enter_context(open_feature_files(folder, inputs, cache_gib=cache_gib))

    @cached_property
    def pickles(self) -> Path:
        """Folder of the same features as one float32 pickle per clip."""
        folder = self.folder / "loading"
        folder.mkdir()
        opened = self.opened().values()
        for index in range(len(self.rows)):
            values = (features[np.array([index])][0].astype(np.float32) for features in opened)
            joblib.dump(tuple(values), folder / str(index))
        return folder


@contextmanager
def bench(device: torch.device) -> Iterator[Bench]:
    """Yield the inputs in a temporary folder."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        yield Bench(Path(folder), device, stack)
