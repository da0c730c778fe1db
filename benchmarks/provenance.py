"""What every benchmark result says about where it comes from."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from nestvec.jobs.provenance import git_commit, hardware, package_versions


def describe_run() -> dict[str, Any]:
    """Return commit, versions, hardware and the command of this process."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": shlex.join(["python", *sys.argv]),
        "commit": git_commit(Path(__file__).parent),
        "hardware": {**hardware(), "gpu": gpu},
        "versions": package_versions(),
    }
