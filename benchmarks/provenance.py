"""What every benchmark result says about where it comes from, and where it goes."""

from __future__ import annotations

import datetime
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nestvec.jobs.provenance import git_commit, hardware, package_versions

RESULTS = Path(__file__).parent / "results"


def describe_run(*packages: str) -> dict[str, Any]:
    """Return commit, hardware, the command of this process, and versions, also of other packages that take part."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": shlex.join(["python", *map(_anywhere, sys.argv)]),
        "commit": git_commit(Path(__file__).parent),
        "hardware": {**hardware(), "gpu": gpu},
        "versions": package_versions(*packages),
    }


def write_result(question: str, result: Mapping[str, Any]) -> None:
    """Write a result as today's answer to a question, and print it as one JSON line."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.date.today().isoformat()}-{question}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _anywhere(argument: str) -> str:
    """An argument, of an absolute path the last two parts alone: the rest says something of one machine."""
    path = Path(argument)
    return str(Path("...", *path.parts[-2:])) if path.is_absolute() else argument
