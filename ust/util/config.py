"""Typed sections of a parameter file, and error messages for wrong values."""

import difflib
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from ust.util.documents import read_yaml
from ust.util.errors import UserError, bullet_list, plural

# Types of values, for the fields of sections.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
FractionBelowOne = Annotated[float, Field(ge=0, lt=1)]  # such as a dropout rate
OpenFraction = Annotated[float, Field(gt=0, lt=1)]  # such as a decay
Precision = Literal["float32", "bfloat16"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
# Path of a model below models/.
ModelPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)?$")]


def _check_order(pair: list[float]) -> list[float]:
    if pair[0] > pair[1]:
        raise ValueError("Input should be [lowest, highest]")
    return pair


Interval = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_check_order)]


class Section(BaseModel):
    """Base class of a section of a parameter file; unknown keys and values of the wrong type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def read_sections(path: Path, **kinds: Any) -> list[Any]:
    """Read and validate sections of a parameter file; return them in the order of the arguments."""
    content = read_yaml(path)
    model = create_model("Params", __base__=Section, **{name: (kind, ...) for name, kind in kinds.items()})
    try:
        sections = model.model_validate({name: content[name] for name in kinds if name in content})
    except ValidationError as error:
        raise parameter_error(path, explain_validation_error(error, model)) from None
    return [getattr(sections, name) for name in kinds]


def parameter_error(path: Path, problems: list[str]) -> UserError:
    """Return the error that lists the wrong parameters of a file."""
    return UserError(f"{path}: {plural(len(problems), 'wrong parameter')}:\n{bullet_list(problems)}")


def explain_validation_error(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return one line per wrong parameter: its name, its value and the allowed values."""
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, _parameter_names(model), n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else ""
            lines.append(f"{prefix}{name}: there is no such parameter{hint}")
        elif problem["type"] == "missing":
            lines.append(f"{prefix}{name}: is missing, should be given")
        else:
            expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input ").removesuffix(".")
            found = "" if isinstance(problem["input"], dict) else f"is {reprlib.repr(problem['input'])}, "
            lines.append(f"{prefix}{name}: {found}{expected}".removeprefix(": "))
    return lines


def _parameter_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all parameters of a section."""
    names = []
    for key, field in model.model_fields.items():
        name = prefix + (field.alias or key)
        names.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _parameter_names(field.annotation, name + ".")
    return names


class Compute(Section):
    """The section ``compute`` of params.yaml."""

    threads: PositiveInt = 2
    """Threads of PyTorch; rounding depends on them, so they are needed to reproduce a run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of networks; auto is the GPU if there is one."""
    processes: PositiveInt = 1
    """Processes that train one network together, for trainers that support it."""
    synchronise: bool = True
    """Whether batch norms use the batch of all processes."""
    scheduler: Annotated[str, Field(pattern=r"^(local:[1-9][0-9]*|slurm|[a-z]+://.+)$")] | None = None
    """Where shards are computed: null for this machine, or on Dask: local:N, tcp://host:8786 or slurm."""
    shard_clips: PositiveInt = 1000
    """Recordings per shard."""
