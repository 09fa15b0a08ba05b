"""The system ``audioset`` made of published weights alone, without pipeline, training or labels."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from ust.annotations.audioset import audioset_taxonomy, sonyc_taxonomy
from ust.annotations.taxonomy import Taxonomy, label_name, read_taxonomy
from ust.datasets.download import cache_folder, download_file
from ust.datasets.source import TAXONOMY
from ust.features.efficientat.weights import RANDOM, RELEASE, RELEASED, EfficientATConfig, find_released_name
from ust.features.feature import FetchFile
from ust.features.registry import FEATURES, write_network
from ust.models.audioset import AudioSet
from ust.models.checkpoints import SavedNetwork, save_network
from ust.tagging.pretrained import FORMAT, is_packed, pack
from ust.util.config import Section, read_sections
from ust.util.digests import digest, file_digest, source_digest, versions
from ust.util.documents import read_yaml
from ust.util.errors import UserError
from ust.util.folders import atomic_folder

NAME, FEATURE, NETWORK = "audioset", "mn_windows", "efficientat"
DEFAULTS = EfficientATConfig(weights="mn04_as")
INFERENCE_OPTIONS = {"coarse_at_least_fine": True}
PARAMS = "params.yaml"
RETRIES = 2  # fewer than in the stages, as a user waits for this download


class ProjectClasses(Section):
    """The section ``audioset`` of a project's params.yaml: the AudioSet classes of each label."""

    classes: dict[str, list[str]]


def prepare_audioset(*, checkpoint: Path | None = None, every_class: bool = False) -> Path:
    """Return a packed folder with the system ``audioset`` in the cache; create it if it does not exist."""
    settings = DEFAULTS
    if checkpoint is not None:
        settings = settings.model_copy(
            update={"weights": _find_weights_name(checkpoint), "checkpoint": str(checkpoint)}
        )
    taxonomy, config = sonyc_taxonomy(), AudioSet.Config()
    if every_class:
        taxonomy = audioset_taxonomy()
        classes = {label: [label_name(label)] for label in taxonomy.labels}
        # These settings leave AudioSet's probabilities as they are.
        config = AudioSet.Config(classes=classes, typical=0.0, scale=1.0, shift=0.0)
    config = config.complete_for_labels(taxonomy, taxonomy.labels)
    return _prepare_system(NAME, taxonomy, config, settings, weights_fetcher(Path(), option="--checkpoint"))


def _find_weights_name(checkpoint: Path) -> str:
    """Return the release's name of the weights in a file, such as mn04_as."""
    file, _ = RELEASED[DEFAULTS.weights]
    advice = f"--checkpoint should name weights of EfficientAT's release, such as {RELEASE}/{file}"
    if not checkpoint.exists():
        raise UserError(f"{checkpoint}: no such file; {advice}")
    try:
        return find_released_name(checkpoint)
    except UserError as error:
        raise UserError(f"{error}; {advice}") from None


def prepare_project(folder: Path) -> Path:
    """Return a packed folder with a system for the classes of a project that has not been trained."""
    path = folder / PARAMS
    taxonomy = read_taxonomy(folder / TAXONOMY)
    (settings,) = read_sections(path, efficientat=EfficientATConfig)
    try:
        config = AudioSet.Config(classes=read_classes(path)).complete_for_labels(taxonomy, taxonomy.labels)
    except ValueError as error:
        raise UserError(f"{path}: audioset.{error}") from None
    return _prepare_system(folder.resolve().name, taxonomy, config, settings, weights_fetcher(folder))


def read_classes(params: Path) -> dict[str, list[str]] | None:
    """Return the AudioSet classes of each label in a project's params.yaml; None without that section."""
    if NAME not in read_yaml(params):
        return None
    (section,) = read_sections(params, **{NAME: ProjectClasses})
    return section.classes


def _prepare_system(
    name: str, taxonomy: Taxonomy, config: AudioSet.Config, settings: EfficientATConfig, fetch: FetchFile
) -> Path:
    """Return the packed folder of a system of AudioSet's classes; create it in the cache if necessary."""
    weights = _locate_weights(settings, fetch)
    settings = settings.model_copy(update={"checkpoint": weights and str(weights)})
    feature = FEATURES[FEATURE]
    extraction_config = feature.config_from(feature.settings().model_dump() | settings.model_dump())
    shapes = {"embedding": feature.shape(extraction_config)}
    classifier = AudioSet(config, len(config.classes), shapes)
    # The key covers everything that determines the folder's content, this source code included.
    key = digest(
        str(FORMAT), name, str(asdict(taxonomy)), str(config), str(extraction_config),
        file_digest(weights) if weights else f"seed {settings.seed}",
        source_digest("ust/features/efficientat", "ust/models/audioset.py", "ust/tagging/audioset.py"),
        *(tensor.numpy().tobytes() for tensor in classifier.state_dict().values()),
    )  # fmt: skip
    out = cache_folder() / "models" / f"{NAME}-{key[:16]}"
    if is_packed(out):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch, atomic_folder(out, by=NAME) as packed:
        networks, system = Path(scratch, "pretrained"), Path(scratch, NAME)
        network = write_network(networks / NETWORK, NETWORK, settings, lambda path, **_: Path(path))
        metadata = {
            "architecture": config.description,
            "epochs": 0,
            "versions": versions("numpy", "torch"),
            "taxonomy": asdict(taxonomy),
            "inputs": {"embedding": FEATURE},
            "features": {FEATURE: {"kind": FEATURE} | network | extraction_config.model_dump()},
        }
        save_network(system, SavedNetwork(classifier, NAME, config, list(config.classes), metadata, shapes))
        pack(packed, name, system, networks, INFERENCE_OPTIONS)
    return out


def _locate_weights(settings: EfficientATConfig, fetch: FetchFile) -> Path | None:
    """Return the file of published weights, downloaded if necessary; None for random weights."""
    if settings.weights == RANDOM:
        return None
    if settings.checkpoint is not None:
        path = fetch(settings.checkpoint)
        if not path.is_file():
            raise UserError(f"{path}: no such file, should be the weights {settings.weights}")
        return path
    file, checksum = RELEASED[settings.weights]
    return fetch(f"{RELEASE}/{file}", checksum=f"sha256:{checksum}" if checksum else None)


def weights_fetcher(folder: Path, *, option: str = "efficientat.checkpoint of params.yaml") -> FetchFile:
    """Return a function that finds a file of weights: relative to a folder, or downloaded to the cache."""

    def fetch(source: str, *, checksum: str | None = None) -> Path:
        if "://" not in source:
            return folder / source
        name, cache = source.rpartition("/")[2], cache_folder() / NETWORK
        try:
            return download_file(source, cache, name=name, checksum=checksum, retries=RETRIES)
        except UserError as error:
            raise UserError(f"{error}, save the file as {cache / name}, or name it by {option}") from None

    return fetch
