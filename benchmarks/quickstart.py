"""What does the quickstart gain at each size, and how long does it take?

Runs `nestvec quickstart` in a process of its own for each base, prints the tables and one JSON line last, and
writes it to benchmarks/results.

    python benchmarks/quickstart.py [--bases minilm static] [--seed 42]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from provenance import describe_run, write_result


def measure(base: str, seed: int, out: Path) -> dict[str, Any]:
    """Run the quickstart for one base; seconds are wall time of the whole process."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "nestvec", "quickstart", "--base", base, "--seed", str(seed), "--out", str(out)]
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return {"base": base, "process_seconds": round(seconds, 1), **report}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", default=["minilm", "static"])
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [measure(base, arguments.seed, Path(folder) / base) for base in arguments.bases]
    for run in runs:
        print(
            f"\n{run['base']}: {run['process_seconds']:.0f} s in all, {run['seconds']['train']:.0f} s of them training"
        )
        before = {cell["dim"]: cell for cell in run["cells"] if cell["model"] == "before"}
        for cell in (cell for cell in run["cells"] if cell["model"] == "after"):
            earlier, later = (one["metrics"]["MRR@10"]["value"] for one in (before[cell["dim"]], cell))
            print(f"  {cell['dim']:4d}  MRR@10 {earlier:.3f} -> {later:.3f}  gain {cell['gain']['value']:+.3f}")
    result = {**describe_run(), "runs": runs}
    write_result("quickstart", result)


if __name__ == "__main__":
    main()
