"""What a plan is: the whole search that an index and a server are to do, as a TOML file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from nestvec.errors import PlanError, SourceNotFoundError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["FirstStage", "Plan", "SecondStage", "dump_plan", "parse_plan", "read_plan"]

# What quantization.check_precision takes, which this module cannot import: a plan is read without numpy.
_PRECISION = re.compile(r"float32|float16|int8|int4|binary|pq[1-9][0-9]{0,3}(x8)?")


def _check_precision(text: str) -> str:
    if not _PRECISION.fullmatch(text):
        raise ValueError(f"unknown precision {text!r}: float32, float16, int8, int4, binary, or pq and bytes (pq16)")
    return text


Precision = Annotated[str, AfterValidator(_check_precision)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FirstStage(_Section):
    """What is scanned for every query."""

    dim: Count
    """Leading dimensions of every vector that are encoded."""
    precision: Precision
    """How, in memory."""
    lists: Count | None = None
    """IVF lists (nlist); None scans all codes, or leaves the number to how many documents there are."""
    probes: Count | None = None
    """IVF lists that a query scans, on average (nprobe); None leaves it to tuning."""


class SecondStage(_Section):
    """What orders the first stage's shortlist anew."""

    precision: Precision
    """How the full vectors are stored, on disk."""
    shortlist: Count
    """Candidates that are rescored with them, at most."""
    margin: Annotated[float, Field(ge=0)] | None = None
    """Of these, candidates whose code score is no more below the k-th are rescored; None leaves it to tuning."""


class Plan(_Section):
    """What to store and how to search it, and the measurement that this follows from.

    Attributes:
        model: The model folder or id whose vectors are stored; `vectors:` and a folder where they were ready-made, the
            file of an adaptor and `=` before it where they were adapted. Paths are absolute, or relative to the plan's
            file.
        full_dim: Dimensions of its full vectors.
        first_stage: What is scanned.
        second_stage: What rescores the shortlist; None where codes are all that is stored.
        recall: Share of what this search finds that is to be left when lists, probes and margin make it faster.
        fitted_on: What ranges and codebooks are learned from: `documents`, or a file of texts or rows.
        reason: Why this one, in one sentence.
        measured: Scores with bounds, costs and savings, as they were when the plan was made; nothing obeys them.
    """

    model: str
    full_dim: Count
    first_stage: FirstStage
    second_stage: SecondStage | None = None
    recall: Annotated[float, Field(gt=0, lt=1)] = 0.99
    fitted_on: str = "documents"
    reason: str = ""
    measured: dict[str, Any] = {}

    @model_validator(mode="after")
    def _within_the_vector(self) -> Plan:
        if self.first_stage.dim > self.full_dim:
            raise ValueError(f"first_stage.dim is {self.first_stage.dim} and full_dim {self.full_dim}")
        if self.first_stage.probes is not None and self.first_stage.lists is None:
            raise ValueError("first_stage.probes are of lists: say how many lists there are")
        return self


def read_plan(path: str | Path) -> Plan:
    """Read a plan from its file.

    Args:
        path: A TOML file, as `nestvec plan` writes it.

    Returns:
        The plan.

    Raises:
        SourceNotFoundError: There is no such file.
        PlanError: It is no plan; every wrong key and value is named.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceNotFoundError(f"There is no plan {path}. Make one: nestvec plan GRID --target 'retention>=0.99'")
    try:
        return parse_plan(path.read_text(encoding="utf-8"), source=str(path))
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is no plan: {error}") from error


def parse_plan(text: str, *, source: str = "plan") -> Plan:
    """Read a plan from TOML.

    Args:
        text: The TOML.
        source: What to call it in an error.

    Returns:
        The plan.

    Raises:
        PlanError: It is no TOML, or no plan; every wrong key and value is named.

    Example:
        >>> first_stage = FirstStage(dim=64, precision="int8")
        >>> parse_plan(dump_plan(Plan(model="minilm", full_dim=384, first_stage=first_stage))).first_stage.dim
        64
    """
    try:
        return Plan.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{source} is not valid TOML: {error}") from error
    except ValidationError as error:
        problems = (f"\n  {'.'.join(map(str, one['loc'])) or 'plan'}: {one['msg']}" for one in error.errors())
        raise PlanError(f"{source} cannot be used:{''.join(problems)}") from None


def dump_plan(plan: Plan) -> str:
    """Write a plan as TOML; reading it gives the same plan.

    Args:
        plan: The plan.

    Returns:
        TOML.
    """
    return tomli_w.dumps(plan.model_dump(exclude_none=True))
