"""What do short vectors keep of the similarity of sentences (STSb, Spearman), with frozen MiniLM vectors?

Adaptors fitted to the training part, by scores and without any, at all sizes and plainly at the full size only,
several seeds each; the correlation on the test part at every size. Prints the mean over seeds, also relative to the
full vectors as they are and to the plain adaptor's, and one JSON line last, and writes it to benchmarks/results.

    python benchmarks/similarity.py --data ../shared/data
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from nestvec.adaptors import AdaptorData, FitSettings, fit_adaptor
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.jobs.adapt import encode_texts
from nestvec.vectors import truncate
from provenance import describe_run, write_result
from sizes import MEASURED, TRAINED, dims_of


def main() -> None:
    """Fit, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with stsb.")
    parser.add_argument("--seeds", type=int, default=3, help="Fits of each variant.")
    arguments = parser.parse_args()
    encoder = CachedEncoder(SentenceTransformerEncoder(load_base("minilm")), about="minilm")
    train, test = (
        encode_texts(arguments.data / "stsb" / f"{part}.jsonl.gz", encoder).data for part in ("train", "test")
    )
    assert train.pairs is not None
    assert test.pairs is not None
    assert test.scores is not None
    left, right = test.queries[test.pairs[:, 0]], test.documents[test.pairs[:, 1]]
    every = np.unique(np.concatenate([train.queries, train.documents]), axis=0)
    trained, measured = dims_of(encoder.full_dim, TRAINED), dims_of(encoder.full_dim, MEASURED)
    variants: dict[str, tuple[AdaptorData, list[int], dict[str, Any]]] = {
        "plain, by scores": (train, trained[:1], {"start": "identity", "distillation": 0.0}),
        "nested, by scores": (train, trained, {"start": "identity", "distillation": 0.0}),
        "default, by scores": (train, trained, {}),
        "default, without labels": (AdaptorData(every, every), trained, {}),
    }

    def correlations(adapted_left: Any, adapted_right: Any) -> list[float]:
        return [
            float(
                stats.spearmanr(
                    np.sum(truncate(adapted_left, dim) * truncate(adapted_right, dim), axis=1), test.scores
                )[0]
            )
            for dim in measured
        ]

    found = {"raw": [correlations(left, right)]}
    for name, (data, dims, options) in variants.items():
        found[name] = []
        for seed in range(arguments.seeds):
            adaptor = fit_adaptor(data, dims, method="linear", settings=FitSettings(**{**options, "seed": seed}))
            found[name].append(correlations(adaptor.transform(left, "query"), adaptor.transform(right, "document")))
    means = {name: np.mean(runs, axis=0) for name, runs in found.items()}
    print(
        f"{'Spearman':28s}" + "".join(f"{dim:>8d}" for dim in measured) + "    32 of own 384, of raw 384, of plain 384"
    )
    short = measured.index(32)
    for name, scores in means.items():
        shares = [scores[short] / one for one in (scores[0], means["raw"][0], means["plain, by scores"][0])]
        print(
            f"{name:28s}" + "".join(f"{score:8.3f}" for score in scores) + "".join(f"{share:12.1%}" for share in shares)
        )
    write_result(
        "similarity",
        {
            **describe_run(),
            "seeds": arguments.seeds,
            "pairs": {"train": len(train.pairs), "test": len(test.pairs)},
            "dims": measured,
            "spearman": {name: np.round(runs, 4).tolist() for name, runs in found.items()},
        },
    )


if __name__ == "__main__":
    main()
