"""What every benchmark result says about where it comes from."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from nestvec.jobs.provenance import git_commit, package_versions


def describe_run() -> dict[str, Any]:
    """Return commit, versions, hardware and the command of this process."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "command": shlex.join(["python", *sys.argv]),
        "commit": git_commit(Path(__file__).parent),
        "hardware": {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory_gib, 1), "gpu": gpu},
        "versions": package_versions(),
    }
