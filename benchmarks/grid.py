"""What does a grid of 5 sizes x 5 precisions cost, beside sentence-transformers' evaluator, one cell at a time?

Documents and queries are those of BEIR folders, with training texts to fill the corpus up, encoded by MiniLM once.
Encoding is no part of the times: the evaluator gets a model that looks its vectors up, already quantised. A second part
measures the memory of a grid over 100,000 x 768 random vectors, in a process of its own. Prints a table and one JSON
line last, and writes it to benchmarks/results.

    python benchmarks/grid.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import cos_sim

from nestvec.data import Benchmark, RetrievalRow, read_benchmark, read_records
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.evaluation import (
    CellKey,
    GridScores,
    Rerank,
    Retrieval,
    TaskVectors,
    encode_task,
    make_cells,
    measure_grid,
)
from nestvec.quantization import fit_codes
from provenance import describe_run, write_result

SETS = ("squad", "tldr", "wordnet")
DIMS = (384, 256, 128, 64, 32)
PRECISIONS = ("float32", "float16", "int8", "int4", "binary")
METRICS = ("MRR@10", "Recall@10", "nDCG@10")
MIB = 2**20


def build_benchmark(data: Path, documents: int, queries: int) -> Benchmark:
    """One benchmark of several, with a corpus of the wanted size."""
    corpus: dict[str, str] = {}
    asked: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for name in SETS:
        one = read_benchmark(data / name / "benchmark")
        corpus.update({f"{name}-{key}": text for key, text in one.corpus.items()})
        asked.update({f"{name}-{key}": text for key, text in one.queries.items()})
        for query, grades in one.qrels.items():
            qrels[f"{name}-{query}"] = {f"{name}-{key}": grade for key, grade in grades.items()}
    known = set(corpus.values())
    rows = [
        row for name in SETS for row in read_records(data / name / "train.jsonl.gz") if isinstance(row, RetrievalRow)
    ]
    others = [text for text in dict.fromkeys(row.positive for row in rows) if text not in known]
    generator = random.Random(0)
    for number, text in enumerate(generator.sample(others, documents - len(corpus))):
        corpus[f"other-{number}"] = text
    drawn = generator.sample(sorted(qrels), queries)
    return Benchmark({key: asked[key] for key in drawn}, corpus, {key: qrels[key] for key in drawn}, name="three sets")


class Lookup:
    """A model whose vectors are ready, as sentence-transformers' evaluators call one."""

    similarity_fn_name = "cosine"
    similarity = staticmethod(cos_sim)
    model_card_data = types.SimpleNamespace(set_evaluation_metrics=lambda *_: None)

    def __init__(self, queries: NDArray[np.float32], documents: NDArray[np.float32]) -> None:
        """Keep the vectors of all queries and of all documents."""
        self.queries, self.documents = torch.from_numpy(queries), torch.from_numpy(documents)

    def encode_query(self, texts: Sequence[str], *, truncate_dim: int | None = None, **_: Any) -> torch.Tensor:
        """Return them, cut."""
        assert len(texts) == len(self.queries)
        return self.queries[:, :truncate_dim]

    def encode_document(self, texts: Sequence[str], *, truncate_dim: int | None = None, **_: Any) -> torch.Tensor:
        """Return them, cut."""
        assert len(texts) == len(self.documents)
        return self.documents[:, :truncate_dim]


def run_evaluators(task: Retrieval, vectors: TaskVectors) -> tuple[float, dict[CellKey, float]]:
    """Seconds of sentence-transformers' evaluator over all cells, and its MRR@10 in each."""
    benchmark = task.benchmark
    relevant = {query: set(grades) for query, grades in benchmark.qrels.items()}
    queries = {key: benchmark.queries[key] for key in task.query_ids}
    corpus = {key: benchmark.corpus[key] for key in task.document_ids}
    full_dim = vectors.documents.shape[1]
    models: dict[str, Lookup] = {}
    for precision in PRECISIONS:
        quantizer = fit_codes(vectors.documents, full_dim, precision, score_aware=False)
        models[precision] = Lookup(vectors.queries, quantizer.decode(quantizer.encode(vectors.documents)))
    seconds, found = 0.0, {}
    for dim, precision in itertools.product(DIMS, PRECISIONS):
        evaluator = InformationRetrievalEvaluator(
            queries,
            corpus,
            relevant,
            mrr_at_k=[10],
            ndcg_at_k=[10],
            accuracy_at_k=[10],
            precision_recall_at_k=[10],
            map_at_k=[10],
            write_csv=False,
            truncate_dim=dim,
            score_functions={"cosine": cos_sim},
        )
        started = time.perf_counter()
        # It encodes the corpus in chunks of 50,000; a lookup serves whole corpora only.
        assert len(corpus) <= evaluator.corpus_chunk_size
        scores = evaluator(models[precision])
        seconds += time.perf_counter() - started
        found[CellKey(dim, precision)] = float(scores["cosine_mrr@10"])
    return seconds, found


def run_grid(task: Retrieval, vectors: TaskVectors, reranks: Sequence[Rerank | None]) -> tuple[float, GridScores]:
    """Seconds of our grid, quantization and intervals included."""
    started = time.perf_counter()
    scores = measure_grid(task, vectors, DIMS, precisions=PRECISIONS, reranks=reranks)
    make_cells("minilm", scores)
    return time.perf_counter() - started, scores


def measure_memory() -> dict[str, float]:
    """Peak memory of this process over a grid of random vectors, beyond the vectors, in MiB; and its seconds."""
    generator = np.random.default_rng(0)
    n_documents, n_queries, dim = 100_000, 1_000, 768
    documents = generator.standard_normal((n_documents, dim), dtype=np.float32)
    queries = generator.standard_normal((n_queries, dim), dtype=np.float32)
    ids = [f"d{number:06d}" for number in range(n_documents)]
    benchmark = Benchmark(
        {f"q{number}": "q" for number in range(n_queries)},
        dict.fromkeys(ids, "d"),
        {f"q{number}": {ids[number]: 1} for number in range(n_queries)},
    )
    task = Retrieval(benchmark)
    before = peak_mib()
    started = time.perf_counter()
    measure_grid(task, TaskVectors(queries, documents), (768, 512, 256, 128, 64), precisions=PRECISIONS)
    seconds = time.perf_counter() - started
    extra_mib = round(peak_mib() - before, 1)
    return {"extra_mib": extra_mib, "vectors_mib": round(documents.nbytes / MIB, 1), "seconds": round(seconds, 1)}


def peak_mib() -> float:
    """Most memory this process has held; resource.getrusage would count that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder with the sets squad, tldr and wordnet.")
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(json.dumps(measure_memory()))
        return
    task = Retrieval(build_benchmark(arguments.data, arguments.documents, arguments.queries), metrics=METRICS)
    encoder = SentenceTransformerEncoder(load_base("minilm"))
    vectors = encode_task(task, CachedEncoder(encoder, about="minilm"))
    texts = random.Random(1).sample(list(task.documents), 500)
    started = time.perf_counter()
    encoder.encode_documents(texts)
    texts_per_second = len(texts) / (time.perf_counter() - started)

    seconds: dict[str, list[float]] = {"nestvec": [], "nestvec, with reranks": [], "sentence-transformers": []}
    largest = 0.0
    for _ in range(arguments.rounds):
        ours, scores = run_grid(task, vectors, [None])
        reranked, _ = run_grid(task, vectors, [None, Rerank("int8", 100), Rerank("float16", 400)])
        theirs, found = run_evaluators(task, vectors)
        for name, value in zip(seconds, (ours, reranked, theirs), strict=True):
            seconds[name].append(round(value, 2))
        largest = max(abs(scores.scores[key]["MRR@10"].value - value) for key, value in found.items())
    memory = json.loads(
        subprocess.run([sys.executable, __file__, "--memory"], check=True, capture_output=True, text=True).stdout
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    sizes = f"{len(task.documents):,} documents, {len(task.queries):,} queries"
    print(f"{sizes}, {len(DIMS)} dims x {len(PRECISIONS)} precisions")
    for name, value in medians.items():
        print(f"  {name:24} {value:8.1f} s  {value / medians['nestvec']:6.1f} x nestvec")
    print(f"  largest difference in MRR@10: {largest:.1e}")
    print(f"  encoding, once: {texts_per_second:.0f} texts a second")
    print(f"  100,000 x 768: {memory['extra_mib']:,.0f} MiB beyond the vectors, {memory['seconds']:.0f} s")
    result = {
        **describe_run(),
        "documents": len(task.documents),
        "queries": len(task.queries),
        "dims": DIMS,
        "precisions": PRECISIONS,
        "seconds": seconds,
        "median_seconds": medians,
        "largest_difference": largest,
        "texts_per_second": round(texts_per_second, 1),
        "memory": memory,
    }
    write_result("grid", result)


if __name__ == "__main__":
    main()
