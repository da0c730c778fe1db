"""What the search of an index is tuned for: a recall of the exact best, or what the search of its plan finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.index.embedded.state import State
from nestvec.index.settings import DEFAULT_SHORTLIST, CodeSettings, SearchSettings
from nestvec.index.tuning import Tuned, tune
from nestvec.plan import Plan
from nestvec.progress import Progress

__all__ = ["DEFAULT_RECALL", "TuningTarget", "said_of", "search_of"]

Float32s = NDArray[np.float32]

DEFAULT_RECALL = 0.99


def said_of(plan: Plan, codes: CodeSettings | None) -> dict[str, Any]:
    """Return what an index keeps of a plan: what tuning, and more or fewer documents, may change, as JSON values.

    Args:
        plan: The plan.
        codes: The first stage in place of the plan's, whose IVF lists are no longer left open.
    """
    first, second = plan.first_stage, plan.second_stage
    return {
        "lists": first.lists if codes is None else codes.lists,
        "lists_open": codes is None,
        "probes": first.probes,
        "margin": None if second is None else second.margin,
        "shortlist": DEFAULT_SHORTLIST if second is None else second.shortlist,
        "recall": plan.recall,
    }


def search_of(said: Mapping[str, Any], lists: int | None) -> SearchSettings:
    """Return how a plan searches, in so many IVF lists, before that is tuned."""
    return SearchSettings(said["shortlist"], margin=said["margin"], probes=None if lists is None else said["probes"])


@dataclass(frozen=True)
class TuningTarget:
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
    def of(said: Mapping[str, Any], queries: Float32s | None = None) -> TuningTarget:
        """Return what a plan asks for: its search, in less time where IVF lists and a margin leave its recall.

        Args:
            said: The plan, as `said_of` returns it.
            queries: Vectors of queries.
        """
        return TuningTarget(said["recall"], queries, said["shortlist"], {"plan": dict(said)})

    @staticmethod
    def again(
        said: Mapping[str, Any] | None,
        tuned: Mapping[str, Any] | None,
        recall: float | None,
        queries: Float32s | None = None,
    ) -> TuningTarget:
        """Return what an index is to be tuned for once more.

        Args:
            said: The plan that it was built by, as `said_of` returns it; None where there was none.
            tuned: What it was tuned for and found; None where it was not tuned.
            recall: Share of the exact best to find; None keeps to what was asked for last: a recall, or the plan.
            queries: Vectors of queries.
        """
        if recall is None and said is not None and (tuned is None or "plan" in tuned):
            return TuningTarget.of(said, queries)
        return TuningTarget((tuned or {}).get("target", DEFAULT_RECALL) if recall is None else recall, queries)

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
