"""Every hyperparameter: its type, what it may be, and how a wrong one is reported."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ust.errors import UserError, listing
from ust.yamls import read_yaml

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
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


class PitchShift(Section):
    enabled: bool
    proportion: Share
    semitones: Positive


class Volume(Section):
    enabled: bool
    proportion: Share
    gain_db: Positive


class Noise(Section):
    enabled: bool
    proportion: Share
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


class VGGish(Section):
    weights: Literal["audioset", "random"]
    checkpoint: str | None
    pca: str | None
    seed: Seed
    final_relu: bool
    batch_clips: Count

    @model_validator(mode="after")
    def _both_files(self) -> "VGGish":
        if (self.checkpoint is None) != (self.pca is None):
            raise ValueError("checkpoint and pca go together: give both files, or neither to download them")
        return self


class Model(Section):
    fusion: Literal["concat", "bilinear"]
    conv_dropout: Rate
    head_dropout: Rate


class Train(Section):
    seed: Seed
    labels: Literal["all", "fine", "coarse"]
    lr: Positive
    batch_size: Annotated[int, Field(ge=2)]
    max_epochs: Count
    pos_weight_power: Annotated[float, Field(ge=0, le=1)]
    patience: Annotated[int, Field(ge=0)]
    reduce_factor: Annotated[float, Field(gt=0, lt=1)]
    min_lr: Positive
    factor_step: Rate


class Predict(Section):
    split: Split
    batch_size: Count


class Evaluate(Section):
    split: Split
    bootstrap: Annotated[int, Field(ge=10)]
    seed: Seed


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
    predict: Predict
    evaluate: Evaluate
    compute: Compute


def load(path: Path, *sections: str) -> list[Any]:
    """Check the whole of a parameter file and give the sections asked for, in that order.

    The whole file is checked, so that a mistake in the last stage's section stops the first stage.

    Raises
    ------
    UserError
        Naming every wrong parameter in full, what was given and what is allowed.
    """
    try:
        params = Params.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(
            f"{path}: {error.error_count()} wrong parameter(s):\n{listing(_explain(error))}"
        ) from None
    return [getattr(params, section) for section in sections]


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, _names(Params), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            lines.append(f"{name}: there is no such parameter{hint}")
        elif problem["type"] == "missing":
            lines.append(f"{name}: is missing, should be given")
        else:
            wanted = problem["msg"].removeprefix("Value error, ").removeprefix("Input ").removesuffix(".")
            given = "" if isinstance(problem["input"], dict) else f"is {problem['input']!r}, "
            lines.append(f"{name}: {given}{wanted}")
    return lines


def _names(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for key, field in model.model_fields.items():
        name = prefix + (field.alias or key)
        names.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _names(field.annotation, name + ".")
    return names
