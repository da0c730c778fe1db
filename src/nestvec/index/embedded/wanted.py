"""What the search of an index is tuned for: a recall of the exact best, or what the search of its plan finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.index.embedded.state import State
from nestvec.index.settings import DEFAULT_SHORTLIST, CodeSettings
from nestvec.index.tuning import Tuned, tune
from nestvec.plan import Plan
from nestvec.progress import Progress

__all__ = ["DEFAULT_RECALL", "Wanted"]

Float32s = NDArray[np.float32]

DEFAULT_RECALL = 0.99


@dataclass(frozen=True)
class Wanted:
    """What the search of an index is tuned for.

    Attributes:
        recall: Share of the exact best to find, or of what the search of a plan finds.
        queries: Vectors of queries to measure it on; None uses documents.
        shortlist: That of a plan; None finds one.
        said: What the plan says of what tuning may change, to be kept with what it found.
    """

    recall: float
    queries: Float32s | None = None
    shortlist: int | None = None
    said: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(plan: Plan, queries: Float32s | None = None, codes: CodeSettings | None = None) -> Wanted:
        """Return what a plan asks for: its search, in less time where lists and a margin leave its recall.

        Args:
            plan: The plan.
            queries: Vectors of queries.
            codes: The first stage in place of the plan's.
        """
        second = plan.second_stage
        shortlist = DEFAULT_SHORTLIST if second is None else second.shortlist
        said = {
            "lists": plan.first_stage.lists if codes is None else codes.lists,
            "probes": plan.first_stage.probes,
            "margin": None if second is None else second.margin,
            "shortlist": shortlist,
            "recall": plan.recall,
        }
        return Wanted(plan.recall, queries, shortlist, {"plan": said})

    @staticmethod
    def again(tuned: Mapping[str, Any] | None, recall: float | None, queries: Float32s | None = None) -> Wanted:
        """Return what an index is to be tuned for once more.

        Args:
            tuned: What it was tuned for and found; None where it was not tuned.
            recall: Share of the exact best to find; None keeps to the plan, or where there is none, to what was asked
                for before.
            queries: Vectors of queries.
        """
        before: Mapping[str, Any] = tuned or {}
        plan = before.get("plan")
        if recall is None and plan is not None:
            return Wanted(plan["recall"], queries, plan["shortlist"], {"plan": plan})
        return Wanted(before.get("target", DEFAULT_RECALL) if recall is None else recall, queries)

    def tune(self, state: State, *, k: int = 10, dim: int | None = None, seed: int, progress: Progress) -> Tuned:
        """Tune the search of one state; what is measured has what the plan says."""
        found = tune(
            state,
            recall=self.recall,
            k=k,
            queries=self.queries,
            dim=dim,
            shortlist=self.shortlist,
            seed=seed,
            progress=progress,
        )
        return found._replace(measured={**found.measured, **self.said})
