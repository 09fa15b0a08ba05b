"""Sections of a parameter file: what a value may be, and how a wrong one is reported."""

import difflib
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from ust.util.documents import read_yaml
from ust.util.errors import UserError, bullet_list

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["float32", "bfloat16"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Place = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)?$")]  # of a model below models/


def _ordered(pair: list[float]) -> list[float]:
    if pair[0] > pair[1]:
        raise ValueError("Input should be [lowest, highest]")
    return pair


Interval = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_ordered)]


class Section(BaseModel):
    """A part of a parameter file; unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def read_sections(path: Path, **kinds: Any) -> list[Any]:
    """Check some sections of a parameter file and give them, in the order asked.

    Parameters
    ----------
    path : Path
    **kinds : type
        By the section's name, what it should be.

    Raises
    ------
    UserError
        Naming every wrong parameter in full, what was given and what is allowed.
    """
    content = read_yaml(path)
    model = create_model("Params", __base__=Section, **{name: (kind, ...) for name, kind in kinds.items()})
    try:
        found = model.model_validate({name: content[name] for name in kinds if name in content})
    except ValidationError as error:
        raise parameter_error(path, explain_validation_error(error, model)) from None
    return [getattr(found, name) for name in kinds]


def parameter_error(path: Path, problems: list[str]) -> UserError:
    """The error that says what is wrong with the parameters of a file."""
    return UserError(f"{path}: {len(problems)} wrong parameter(s):\n{bullet_list(problems)}")


def explain_validation_error(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """A line for each problem: the parameter, what it is, what it should be.

    Parameters
    ----------
    error : pydantic.ValidationError
    model : type
        What was validated.
    prefix : str
        Where it stands in the file.
    """
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
            lines.append(f"{prefix}{name}: {given}{wanted}".removeprefix(": "))
    return lines


def _names(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for key, field in model.model_fields.items():
        name = prefix + (field.alias or key)
        names.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _names(field.annotation, name + ".")
    return names


class Compute(Section):
    """The section ``compute`` of params.yaml."""

    threads: Count
    device: Literal["auto", "cpu", "cuda"]
    processes: Count
    synchronise: bool
    scheduler: Annotated[str, Field(pattern=r"^(local:[1-9][0-9]*|slurm|[a-z]+://.+)$")] | None
    shard_clips: Count
