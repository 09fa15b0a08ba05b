"""Every hyperparameter: its type, what it may be, and how a wrong one is reported."""

import difflib
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ust.clips import CLIP_SECONDS
from ust.errors import UserError, listing
from ust.table1 import fewest, output_size
from ust.yamls import read_yaml

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["float32", "bfloat16"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Split = Literal["train", "validate", "test"]


def _ordered(pair: list[float]) -> list[float]:
    if pair[0] > pair[1]:
        raise ValueError("Input should be [lowest, highest]")
    return pair


Interval = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_ordered)]


class Section(BaseModel):
    """A part of params.yaml; unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Synthetic(Section):
    seed: Seed
    train: Count
    validate_: Count = Field(alias="validate")


class Data(Section):
    source: Literal["synthetic", "local", "sonyc-ust-v1", "sonyc-ust-v2"]
    path: str | None
    on_bad_audio: Literal["fail", "skip"]
    synthetic: Synthetic

    @model_validator(mode="after")
    def _local_needs_path(self) -> "Data":
        if self.source == "local" and not self.path:
            raise ValueError("source 'local' needs data.path, the folder that holds annotations.csv")
        return self


class Labels(Section):
    threshold: Rate
    soft: bool


class Variant(Section):
    """What every kind of variant has."""

    enabled: bool
    proportion: Share
    copies: Count


class PitchShift(Variant):
    semitones: Positive


class Volume(Variant):
    gain_db: Positive


class Noise(Variant):
    colours: Annotated[list[Literal["white", "pink", "brown"]], Field(min_length=1)]
    level_db: Interval


class Augment(Section):
    seed: Seed
    pitch_shift: PitchShift
    volume: Volume
    noise: Noise


class LogMel(Section):
    sample_rate: Annotated[int, Field(ge=8000, le=192000)]
    n_fft: Annotated[int, Field(ge=16)]
    hop_length: Count
    n_mels: Count

    @model_validator(mode="after")
    def _fits_the_network(self) -> "LogMel":
        frames = 1 + CLIP_SECONDS * self.sample_rate // self.hop_length
        bands_left, frames_left = output_size(self.n_mels, frames)
        if bands_left < 1:
            raise ValueError(
                f"n_mels is {self.n_mels}, should be at least {fewest(0)}: the network's "
                "convolutions (the report's Table 1) leave nothing of fewer bands"
            )
        if frames_left < 1:
            raise ValueError(
                f"sample_rate and hop_length give {frames} frames, should be at least {fewest(1)}: the "
                "network's convolutions (the report's Table 1) leave nothing of fewer; take a shorter hop"
            )
        return self


class VGGish(Section):
    weights: Literal["audioset", "random"]
    checkpoint: str | None
    pca: str | None
    seed: Seed
    final_relu: bool
    precision: Precision
    batch_clips: Count

    @model_validator(mode="after")
    def _both_files(self) -> "VGGish":
        if (self.checkpoint is None) != (self.pca is None):
            raise ValueError("checkpoint and pca go together: give both files, or neither to download them")
        return self


class Model(Section):
    fusion: Literal["concat", "bilinear", "none"]
    vggish_scale: Literal["whitened", "raw"] | None
    conv_dropout: Rate
    head_dropout: Rate


class Network(Section):
    """What the recipes of both kinds of networks have."""

    seed: Seed
    lr: Positive
    batch_size: Annotated[int, Field(ge=2)]
    max_epochs: Count
    optimizer: Literal["adam", "rmsprop"]
    pos_weight_power: Share
    precision: Precision
    cache_gib: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Train(Network):
    patience: Annotated[int, Field(ge=0)]
    reduce_factor: Factor
    min_lr: Positive
    factor_step: Rate
    restart: Literal["reached", "passed"]


class TrainHierarchical(Train):
    """The same for the networks of a hierarchy."""


class TrainHierarchicalCode(Network):
    reduce_patience: Annotated[int, Field(ge=0)]
    reduce_factor: Factor
    stop_patience: Count


class TrainBaseline(Section):
    seed: Seed
    lr: Positive
    batch_size: Count
    max_epochs: Count
    stop_patience: Count
    l2: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    standardize: bool
    hidden_layers: Annotated[int, Field(ge=0)]
    hidden_size: Count


class CNN(Model, Network):
    """What the systems of convolutional networks have."""

    @property
    def scale(self) -> str:
        """What the embeddings are fed as; as the authors' code, raw, where the fusion is theirs."""
        return self.vggish_scale or ("raw" if self.fusion == "bilinear" else "whitened")

    @property
    def architecture(self) -> str:
        """In words."""
        return "CNN" if self.fusion == "none" else f"CNN and VGGish embeddings ({self.fusion})"


class FlatSystem(CNN, Train):
    recipe: Literal["train"]
    outputs: Literal["all", "fine", "coarse"]


class Hierarchical(CNN):
    """What the systems of hierarchies have."""

    root: Literal["flat", "own"]
    flat: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)?$")]
    negatives: bool

    @property
    def architecture(self) -> str:
        """In words."""
        return f"local classifier per parent node, each a {super().architecture}"


class HierarchicalSystem(Hierarchical, TrainHierarchical):
    recipe: Literal["train_hierarchical"]


class HierarchicalCodeSystem(Hierarchical, TrainHierarchicalCode):
    recipe: Literal["train_hierarchical_code"]


class BaselineSystem(TrainBaseline):
    recipe: Literal["train_baseline"]
    outputs: Literal["fine", "coarse"]

    @property
    def architecture(self) -> str:
        """In words."""
        return f"{'multilayer perceptron' if self.hidden_layers else 'logistic regression'} of VGGish frames"


# By table and recipe: the system, and the sections a row of the table is completed from.
RECIPES: dict[str, dict[str, tuple[type[Section], tuple[str, ...]]]] = {
    "systems": {
        "train": (FlatSystem, ("model", "train")),
        "train_baseline": (BaselineSystem, ("train_baseline",)),
    },
    "hierarchies": {
        "train_hierarchical": (HierarchicalSystem, ("model", "train_hierarchical")),
        "train_hierarchical_code": (HierarchicalCodeSystem, ("model", "train_hierarchical_code")),
    },
}


class HierarchicalRule(Section):
    threshold: Share
    unselected: Literal["keep", "zero"]


class Baseline(Section):
    pooling: Literal["mean", "max", "softmax"]


class Predict(Section):
    split: Split
    batch_size: Count


class Evaluate(Section):
    split: Split
    bootstrap: Annotated[int, Field(ge=10)]
    seed: Seed


class Author(Section):
    lastname: str
    firstname: str
    email: str
    affiliation: str


class Submit(Section):
    label: Name
    name: str
    authors: Annotated[list[Author], Field(min_length=1)]


class Compute(Section):
    threads: Count
    device: Literal["auto", "cpu", "cuda"]


class Params(Section):
    """All of params.yaml."""

    data: Data
    labels: Labels
    augment: Augment
    logmel: LogMel
    vggish: VGGish
    model: Model
    train: Train
    train_hierarchical: TrainHierarchical
    train_hierarchical_code: TrainHierarchicalCode
    train_baseline: TrainBaseline
    systems: dict[Name, dict[str, Any]]
    hierarchies: dict[Name, dict[str, Any]]
    predict: Predict
    hierarchical: HierarchicalRule
    baseline: Baseline
    evaluate: Evaluate
    submission: Name
    submit: Submit
    compute: Compute


def load(path: Path, *sections: str) -> list[Any]:
    """Check the whole of a parameter file and give the sections asked for, in that order.

    The whole file is checked, so that a mistake in the last stage's section stops the first stage.

    Raises
    ------
    UserError
        Naming every wrong parameter in full, what was given and what is allowed.
    """
    params, _ = _check(path)
    return [getattr(params, section) for section in sections]


def load_system(path: Path, name: str) -> Any:
    """Check a parameter file and give a row of systems or hierarchies, completed from its recipe's sections.

    Returns
    -------
    FlatSystem, HierarchicalSystem, HierarchicalCodeSystem or BaselineSystem

    Raises
    ------
    UserError
        As `load`; or if there is no such system.
    """
    _, systems = _check(path)
    if name not in systems:
        raise UserError(f"{path}: systems has no {name!r}; it has {', '.join(systems)}")
    return systems[name]


def _check(path: Path) -> tuple[Params, dict[str, Any]]:
    try:
        params = Params.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(
            f"{path}: {error.error_count()} wrong parameter(s):\n{listing(_explain(error, Params))}"
        ) from None
    systems, problems = {}, []
    for table in RECIPES:
        for name, row in getattr(params, table).items():
            if name in systems:
                problems.append(f"{table}.{name}: there is a system of that name; give it another")
            try:
                systems[name] = _complete(params, table, row)
            except ValidationError as error:
                kind, _ = _recipe(table, row)
                problems += _explain(error, kind, f"{table}.{name}.")
    if problems:
        raise UserError(f"{path}: {len(problems)} wrong parameter(s):\n{listing(problems)}")
    return params, systems


def _recipe(table: str, row: dict[str, Any]) -> tuple[type[Section], tuple[str, ...]]:
    """What a row's recipe makes of it; of one that the table does not have the first, which will say so."""
    recipes = RECIPES[table]
    return recipes.get(str(row.get("recipe")), next(iter(recipes.values())))


def _complete(params: Params, table: str, row: dict[str, Any]) -> Section:
    """A system from what its row gives and, for what the row leaves out or null, its recipe's sections."""
    kind, sections = _recipe(table, row)
    given = {key: value for key, value in row.items() if value is not None}
    return kind.model_validate(
        {key: value for section in sections for key, value in getattr(params, section)} | given
    )


def _explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, _names(model), n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else ""
            lines.append(f"{prefix}{name}: there is no such parameter{hint}")
        elif problem["type"] == "missing":
            lines.append(f"{prefix}{name}: is missing, should be given")
        else:
            wanted = problem["msg"].removeprefix("Value error, ").removeprefix("Input ").removesuffix(".")
            given = "" if isinstance(problem["input"], dict) else f"is {reprlib.repr(problem['input'])}, "
            lines.append(f"{prefix}{name}: {given}{wanted}")
    return lines


def _names(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for key, field in model.model_fields.items():
        name = prefix + (field.alias or key)
        names.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _names(field.annotation, name + ".")
    return names
