"""How fast is a search that finds 95% or 99% of the exact best ten, and what does each vector cost, here and elsewhere?

Documents are MiniLM vectors of the corpora and training documents of three sets; queries are those of their
benchmarks. More documents than there are real ones are made between neighbours: a real vector, plus a random share of
the way to one of its ten nearest, plus noise a tenth as long as the way, at unit length. Each tool is asked with
growing effort until it finds enough, then all are timed in turns in one process: one query at a time on one thread, and
64 at once on one thread and on two; LanceDB takes the threads it likes, and one query after another. Prints a table and
one JSON line last, and writes it to benchmarks/results.

    pip install usearch hnswlib lancedb
    python benchmarks/search.py --data ../shared/data --documents 58000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from nestvec.data import read_benchmark, read_records
from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, load_base
from nestvec.index import CodeSettings, Hits, Index, SearchSettings
from nestvec.threads import faiss_threads
from nestvec.vectors import normalize
from provenance import describe_run, write_result
from sizes import SETS

Float32s = NDArray[np.float32]
K, QUERIES, TUNING, FEW, TRIED, ROUNDS, BATCH, BLOCK = 10, 1000, 1500, 400, 100, 5, 64, 50_000
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


class Tool(ABC):
    """Something that searches, with more or less effort."""

    name: str
    efforts: Sequence[Any]
    """From little to much."""
    resident_bytes: int | None = None
    """None where the tool does not say."""
    disk_bytes: int | None = None
    tuned_on: int = TUNING
    """Queries to choose an effort by."""

    @abstractmethod
    def build(self, vectors: Float32s, work: Path) -> None:
        """Take documents in."""

    @abstractmethod
    def search(self, queries: Float32s, effort: Any, threads: int) -> Any:
        """What the tool returns for so many queries: what is timed."""

    def rows(self, found: Any) -> NDArray[np.int64]:
        """Rows of the nearest documents in it, [n_queries, K]."""
        return np.asarray(found, np.int64)


class Faiss(Tool):
    """A faiss index by the name of its factory."""

    def __init__(self, name: str, factory: str, efforts: Sequence[Any], set_effort: Callable[[Any, Any], None]) -> None:
        """Name it."""
        self.name, self.factory, self.efforts, self.set_effort = name, factory, efforts, set_effort

    def build(self, vectors: Float32s, work: Path) -> None:
        """Take documents in."""
        self.index = faiss.index_factory(vectors.shape[1], self.factory, faiss.METRIC_INNER_PRODUCT)
        self.index.train(vectors[np.random.default_rng(0).permutation(len(vectors))[:100_000]])
        self.index.add(vectors)
        path = work / "faiss"
        faiss.write_index(self.index, str(path))
        self.resident_bytes = self.disk_bytes = path.stat().st_size
        path.unlink()

    def search(self, queries: Float32s, effort: Any, threads: int) -> Any:
        """Find documents."""
        self.set_effort(self.index, effort)
        with faiss_threads(threads):
            return self.index.search(queries, K)[1]


class Nestvec(Tool):
    """An index of nestvec."""

    def __init__(self, name: str, efforts: Sequence[Any], codes: CodeSettings | None = None) -> None:
        """Name it."""
        self.name, self.efforts, self.codes, self.effort = name, efforts, codes, None

    def build(self, vectors: Float32s, work: Path) -> None:
        """Take documents in."""
        self.path = work / self.name.replace(" ", "-")
        self.index = Index.build(self.path, vectors=vectors, codes=self.codes, recall=None)
        stats = self.index.stats()
        self.resident_bytes, self.disk_bytes = stats.resident_bytes, stats.disk_bytes

    def search(self, queries: Float32s, effort: Any, threads: int) -> Hits:
        """Find documents."""
        if effort != self.effort:
            probe_ratio, margin, shortlist = self.effort = effort
            self.index.set_search(SearchSettings(shortlist, margin=margin, probe_ratio=probe_ratio))
        return self.index.search(queries, K, settings=self.index.search_with(threads=threads))

    def rows(self, found: Hits) -> NDArray[np.int64]:
        """Documents are numbered by row."""
        return np.array([[int(id_) for id_ in ids] for ids in found.ids])


class Usearch(Tool):
    """usearch's HNSW, of float32 or int8 numbers."""

    efforts = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768)

    def __init__(self, name: str, dtype: str) -> None:
        """Name it."""
        self.name, self.dtype = name, dtype

    def build(self, vectors: Float32s, work: Path) -> None:
        """Take documents in."""
        from usearch.index import Index as UsearchIndex

        self.index = UsearchIndex(ndim=vectors.shape[1], metric="ip", dtype=self.dtype)
        self.index.add(np.arange(len(vectors)), vectors)
        self.resident_bytes = self.index.memory_usage
        path = work / "usearch"
        self.index.save(str(path))
        self.disk_bytes = path.stat().st_size
        path.unlink()

    def search(self, queries: Float32s, effort: Any, threads: int) -> Any:
        """Find documents."""
        self.index.expansion_search = effort
        return self.index.search(queries if len(queries) > 1 else queries[0], K, threads=threads)

    def rows(self, found: Any) -> NDArray[np.int64]:
        """Documents are numbered by row."""
        return np.asarray(found.keys, np.int64).reshape(-1, K)


class Hnswlib(Tool):
    """hnswlib."""

    name = "hnswlib"
    efforts = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768)

    def build(self, vectors: Float32s, work: Path) -> None:
        """Take documents in."""
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self.index.init_index(max_elements=len(vectors), M=16, ef_construction=200)
        self.index.add_items(vectors)
        path = work / "hnswlib"
        self.index.save_index(str(path))
        self.resident_bytes = self.disk_bytes = path.stat().st_size
        path.unlink()

    def search(self, queries: Float32s, effort: Any, threads: int) -> Any:
        """Find documents."""
        self.index.set_ef(effort)
        return self.index.knn_query(queries, K, num_threads=threads)[0]


class LanceDB(Tool):
    """LanceDB's IVF with product quantization; it reads vectors from disk and keeps what it likes in memory."""

    name = "LanceDB IVF-PQ"
    tuned_on = FEW  # a hundred times as slow as others
    efforts = tuple((probes, refine) for probes in (16, 32, 64, 128) for refine in (5, 10, 20))

    def build(self, vectors: Float32s, work: Path) -> None:
        """Take documents in."""
        import lancedb
        import pyarrow

        rows = pyarrow.table(
            {
                "row": np.arange(len(vectors)),
                "vector": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1]),
            }
        )
        self.table = lancedb.connect(str(work / "lance")).create_table("vectors", rows)
        lists = 2 ** round(np.log2(np.sqrt(len(vectors))))
        self.table.create_index(metric="dot", num_partitions=int(lists), num_sub_vectors=vectors.shape[1] // 4)
        self.disk_bytes = sum(file.stat().st_size for file in (work / "lance").rglob("*") if file.is_file())

    def search(self, queries: Float32s, effort: Any, threads: int) -> Any:
        """Find documents."""
        probes, refine = effort
        found = []
        for query in queries:
            asked = self.table.search(query).distance_type("dot").nprobes(probes).refine_factor(refine).limit(K)
            found.append(asked.select(["row", "_distance"]).to_arrow()["row"].to_numpy())
        return found

    def rows(self, found: Any) -> NDArray[np.int64]:
        """Documents are numbered by row."""
        return np.stack([np.pad(rows, (0, K - len(rows)), constant_values=-1) for rows in found])


def tools_for(count: int) -> list[Tool]:
    """What is compared."""

    def no_effort(_index: Any, _effort: Any) -> None:
        pass

    def hnsw(index: Any, effort: Any) -> None:
        index.hnsw.efSearch = effort

    def refined(index: Any, effort: Any) -> None:
        probes, factor = effort
        index.k_factor = factor
        faiss.extract_index_ivf(index).nprobe = probes

    large = count > 200_000
    lists = 2 ** round(np.log2(count) / 2)
    shortlists = (20, 30, 40, 60, 80, 100, 120, 160, 200, 240, 320, 400, 480, 640, 960, 1280)
    probes = (16, 32, 64, 96, 128, 192, 256, 384) if large else (4, 8, 16, 32, 64, 96, 128)
    steps = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
    scan = [(None, None, shortlist) for shortlist in shortlists]
    deep = [(None, margin, length) for margin in (0.05, 0.06, 0.07, 0.08) for length in (100, 120, 150, 200)]
    ratios = (0.6, 0.55, 0.5, 0.45, 0.42, 0.4, 0.38, 0.36, 0.34, 0.32, 0.3, 0.28, 0.26)
    margins = ((0.03, 160), (0.04, 200), (0.05, 300), (0.06, 400), (0.07, 400), (0.08, 500), (0.09, 700))
    found: list[Tool] = [
        Faiss("exact, faiss flat", "Flat", (None,), no_effort),
        Nestvec("nestvec", [(ratio, *margin) for ratio in ratios for margin in margins] if large else scan + deep),
        *([Nestvec("nestvec, without lists", scan, CodeSettings(384, "pq32"))] if large else []),
        Faiss("faiss HNSW32", "HNSW32", steps, hnsw),
        Faiss(
            "faiss IVF-PQ96x4fs + fp16",
            f"IVF{lists},PQ96x4fs,Refine(SQfp16)",
            [(p, f) for p in probes for f in (2, 4, 8, 16, 32)],
            refined,
        ),
        Usearch("usearch float32", "f32"),
        Usearch("usearch int8", "i8"),
        Hnswlib(),
        LanceDB(),
    ]
    return found


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
                tool.build(documents, Path(folder))
            facts[tool.name] = {
                "build_seconds": round(time.perf_counter() - started, 1),
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
        Index.open(Path(folder) / "nestvec").close()
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
            **{f"queries_per_second_{n}": round(float(np.median(batches[place][n])), 1) for n in (1, 2)},
            **facts[cell["tool"].name],
        }
        rows_out.append(row)
        print(
            f"{row['tool']:28s}{row['recall']:8.4f}{p50:9.3f}{p99:9.3f}{row['times_exact']:9.1f}"
            f"{row['queries_per_second_1']:9.0f}{row['queries_per_second_2']:9.0f}"
            f"{row['resident_bytes_per_vector'] or float('nan'):8.0f}",
            flush=True,
        )
    write_result(
        f"search-{len(documents)}",
        {
            **describe_run("faiss-cpu", "numkong", "usearch", "hnswlib", "lancedb"),
            "documents": len(documents),
            "real_documents": min(len(real), len(documents)),
            "queries": len(timed),
            "open_seconds": round(open_seconds, 3),
            "cells": rows_out,
        },
    )


if __name__ == "__main__":
    main()
