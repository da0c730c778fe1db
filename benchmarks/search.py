"""How fast is a search that finds 95% or 99% of the exact best ten, and what does each vector cost, here and elsewhere?

Documents are MiniLM vectors of the corpora and training documents of three sets; queries are those of their
benchmarks. More documents than there are real ones are made between neighbours: a real vector, plus a random share of
the way to one of its ten nearest, plus noise a tenth as long as the way, at unit length. Indexes of
nestvec are those of plans, made from a grid for each recall, and tune themselves; every other tool is asked with
growing effort until it finds enough. Then all are timed in turns in one process: one query at a time on one thread, and
64 at once on one thread and on two; LanceDB takes the threads it likes, and one query after another, turbovec those of
RAYON_NUM_THREADS, 1 by default. Prints a table and one JSON line last, and writes it to benchmarks/results.

    pip install usearch hnswlib lancedb turbovec zvec qdrant-edge-py
    python benchmarks/search.py --data ../shared/data --documents 58000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from nestvec.data import read_benchmark, read_records
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.index import Index
from nestvec.threads import faiss_threads
from nestvec.vectors import normalize
from provenance import describe_run, write_result
from search_tools import FEW, TUNING, Nestvec, Tool, tools_for
from sizes import SETS

Float32s = NDArray[np.float32]
QUERIES, TRIED, ROUNDS, BATCH, BLOCK = 1000, 100, 5, 64, 50_000
TARGETS = (0.95, 0.99)
TIED = 1e-6


def read_vectors(data: Path) -> tuple[Float32s, Float32s]:
    """Documents and queries of all sets, each text once, in random order."""
    encoder = CachedEncoder(SentenceTransformerEncoder(load_base("minilm")), about="minilm")
    documents: dict[str, None] = {}
    queries: dict[str, None] = {}
    for name in SETS:
        benchmark = read_benchmark(data / name / "benchmark")
        documents.update(dict.fromkeys(benchmark.corpus.values()))
        queries.update(dict.fromkeys(benchmark.queries[query] for query in sorted(benchmark.qrels)))
        for row in read_records(data / name / "train.jsonl.gz"):
            documents[row.positive] = None  # type: ignore[union-attr]
    generator = np.random.default_rng(0)
    found = [encoder.encode_documents(list(documents)), encoder.encode_queries(list(queries))]
    return tuple(normalize(one[generator.permutation(len(one))]) for one in found)  # type: ignore[return-value]


def grown(real: Float32s, count: int) -> Iterator[Float32s]:
    """Yield so many vectors, block by block: the real ones, and then others between them and their neighbours."""
    yield np.ascontiguousarray(real[:count])
    if count <= len(real):
        return
    generator = np.random.default_rng(1)
    index = faiss.IndexFlatIP(real.shape[1])
    index.add(real)
    near = index.search(real, 11)[1][:, 1:]
    for first in range(len(real), count, BLOCK):
        rows = generator.integers(len(real), size=min(BLOCK, count - first))
        way = real[near[rows, generator.integers(10, size=len(rows))]] - real[rows]
        noise = generator.normal(size=way.shape).astype(np.float32)
        noise *= 0.1 * np.linalg.norm(way, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
        yield normalize(real[rows] + generator.random((len(rows), 1), np.float32) * way + noise)


def recall_of(tool: Tool, queries: Float32s, effort: Any, documents: Float32s, least: Float32s) -> float:
    """Share of what was found that is as near as the tenth of the exact ones."""
    rows = tool.rows(tool.search(queries, effort, 2))
    scores = np.einsum("qkd,qd->qk", documents[np.maximum(rows, 0)], queries)
    return float(((scores >= least[:, None] - TIED) & (rows >= 0)).mean())


def choose_efforts(tool: Tool, queries: Float32s, documents: Float32s, least: Float32s) -> dict[float, Any]:
    """The fastest effort that finds enough, for each target."""
    chosen: dict[float, tuple[float, Any]] = {}
    for effort in tool.efforts:
        recall = recall_of(tool, queries[:FEW], effort, documents, least[:FEW])
        if recall >= min(TARGETS):  # what is enough for few by chance is not for many
            most = tool.tuned_on
            recall = min(recall, recall_of(tool, queries[:most], effort, documents, least[:most]))
        for target in TARGETS:
            if recall >= target and (target not in chosen or isinstance(effort, tuple)):
                spent = one_by_one(tool, queries[:TRIED], effort)
                median = float(np.median(spent))
                if target not in chosen or median < chosen[target][0]:
                    chosen[target] = (median, effort)
    return {target: effort for target, (_, effort) in chosen.items()}


def one_by_one(tool: Tool, queries: Float32s, effort: Any) -> list[float]:
    """Milliseconds of each query, alone, on one thread."""
    spent = []
    for query in queries:
        started = time.perf_counter()
        tool.search(query[None], effort, 1)
        spent.append(1000 * (time.perf_counter() - started))
    return spent


def per_second(tool: Tool, queries: Float32s, effort: Any, threads: int) -> float:
    """Queries answered in a second, 64 at once."""
    started = time.perf_counter()
    for first in range(0, len(queries), BATCH):
        tool.search(queries[first : first + BATCH], effort, threads)
    return len(queries) / (time.perf_counter() - started)


def median_or_none(values: list[float]) -> float | None:
    """The median; None of what was not measured."""
    return round(float(np.median(values)), 1) if values else None


def per_vector(size: int | None, documents: Float32s) -> float | None:
    """Bytes for each vector; None where they are not known."""
    return None if size is None else round(size / len(documents), 1)


def main() -> None:
    """Build, choose, time in turns, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with the sets.")
    parser.add_argument("--documents", type=int, default=58_000)
    parser.add_argument("--tools", help="Names with ; between them, beside the exact scan.  [default: all]")
    arguments = parser.parse_args()
    real, all_queries = read_vectors(arguments.data)
    documents = np.concatenate(list(grown(real, arguments.documents)))
    queries, timed = all_queries[:TUNING], all_queries[TUNING : TUNING + QUERIES]
    tools = tools_for(len(documents))
    if arguments.tools:
        tools = [tools[0], *(tool for tool in tools if tool.name in arguments.tools.split(";"))]
    facts: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for tool in tools:
            started = time.perf_counter()
            with faiss_threads(2):
                tool.build(documents, Path(folder), queries)
            facts[tool.name] = {
                "build_seconds": round(getattr(tool, "build_seconds", time.perf_counter() - started), 1),
                "resident_bytes_per_vector": per_vector(tool.resident_bytes, documents),
                "disk_bytes_per_vector": per_vector(tool.disk_bytes, documents),
            }
            print(f"built {tool.name}: {facts[tool.name]}", flush=True)
        exact = tools[0]
        least = {}
        for name, part in (("tuning", queries), ("timed", timed)):
            rows = exact.rows(exact.search(part, None, 2))
            least[name] = np.einsum("qd,qd->q", documents[rows[:, -1]], part)
        started = time.perf_counter()
        Index.open(Path(folder) / "nestvec-0.99").close()
        open_seconds = time.perf_counter() - started
        cells = []
        for tool in tools:
            for target, effort in choose_efforts(tool, queries, documents, least["tuning"]).items():
                recall = recall_of(tool, timed, effort, documents, least["timed"])
                cells.append({"tool": tool, "target": target, "effort": effort, "recall": round(recall, 4)})
        spent: list[list[float]] = [[] for _ in cells]
        batches: list[dict[int, list[float]]] = [{1: [], 2: []} for _ in cells]
        for turn in range(ROUNDS):
            part = timed[turn::ROUNDS]
            for place, cell in enumerate(cells):
                one_by_one(cell["tool"], part[:3], cell["effort"])
                spent[place] += one_by_one(cell["tool"], part, cell["effort"])
                for threads in (1, 2):
                    if cell["tool"].fixed_threads in (None, threads):
                        batches[place][threads].append(per_second(cell["tool"], part, cell["effort"], threads))
    rows_out = []
    print(
        f"{'tool':28s}{'recall':>8s}{'p50 ms':>9s}{'p99 ms':>9s}{'x exact':>9s}{'q/s 64':>9s}{'2 thr':>9s}{'RAM B':>8s}"
    )
    exact_ms = float(np.median(spent[0]))
    for place, cell in enumerate(cells):
        p50, p99 = np.quantile(spent[place], [0.5, 0.99])
        row = {
            **{name: value for name, value in cell.items() if name != "tool"},
            "tool": cell["tool"].name,
            "p50_ms": round(float(p50), 4),
            "p99_ms": round(float(p99), 4),
            "times_exact": round(exact_ms / float(p50), 2),
            **{f"queries_per_second_{n}": median_or_none(batches[place][n]) for n in (1, 2)},
            **facts[cell["tool"].name],
        }
        rows_out.append(row)
        print(
            f"{row['tool']:28s}{row['recall']:8.4f}{p50:9.3f}{p99:9.3f}{row['times_exact']:9.1f}"
            f"{row['queries_per_second_1'] or float('nan'):9.0f}{row['queries_per_second_2'] or float('nan'):9.0f}"
            f"{row['resident_bytes_per_vector'] or float('nan'):8.0f}",
            flush=True,
        )
    write_result(
        f"search-{len(documents)}",
        {
            **describe_run(
                "faiss-cpu", "numkong", "usearch", "hnswlib", "lancedb", "turbovec", "zvec", "qdrant-edge-py"
            ),
            "documents": len(documents),
            "real_documents": min(len(real), len(documents)),
            "queries": len(timed),
            "open_seconds": round(open_seconds, 3),
            "plans": {tool.name: tool.built for tool in tools if isinstance(tool, Nestvec)},
            "cells": rows_out,
        },
    )


if __name__ == "__main__":
    main()
