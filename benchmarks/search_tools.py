"""What `search.py` compares: one class a tool, each asked with growing effort.

pip install usearch hnswlib lancedb turbovec zvec qdrant-edge-py
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from nestvec.data import Benchmark
from nestvec.evaluation import Rerank, Retrieval, TaskVectors, make_cells, measure_grid
from nestvec.index import CodeSettings, Hits, Index
from nestvec.plan import FirstStage, Plan, SecondStage
from nestvec.planning import Corpus, choose, parse_target
from nestvec.threads import faiss_threads

__all__ = ["FEW", "TUNING", "K", "Nestvec", "Tool", "plan_for", "tools_for"]

Float32s = NDArray[np.float32]
K, TUNING, FEW = 10, 1500, 400
SHORTLISTS = (25, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1200, 1600)


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
    fixed_threads: int | None = None
    """Threads that a whole process uses; None where every search says how many."""

    @abstractmethod
    def build(self, vectors: Float32s, work: Path, queries: Float32s | None = None) -> None:
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

    def build(self, vectors: Float32s, work: Path, queries: Float32s | None = None) -> None:
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
    """Indexes of nestvec, each built by a plan that was made for a recall, which tunes them itself."""

    def __init__(self, name: str, plans: dict[float, Plan], *, lists: bool = True) -> None:
        """Name it; `plans` are those that others have made by now; without IVF lists all codes are scanned."""
        self.name, self.efforts, self.plans, self.lists = name, (0.95, 0.99), plans, lists

    def build(self, vectors: Float32s, work: Path, queries: Float32s | None = None) -> None:
        """Take documents in, once for each recall."""
        assert queries is not None
        self.indexes: dict[float, Index] = {}
        self.built: dict[str, Any] = {}
        for recall in self.efforts:
            plan = self.plans[recall] = self.plans.get(recall) or plan_for(vectors, queries[:FEW], recall)
            codes = None if self.lists else CodeSettings(plan.first_stage.dim, plan.first_stage.precision)
            path = work / f"{self.name.replace(' ', '-')}-{recall}"
            started = time.perf_counter()
            self.indexes[recall] = Index.build(path, vectors=vectors, plan=plan, codes=codes, queries=queries)
            self.build_seconds = time.perf_counter() - started
            search = str(self.indexes[recall].search_settings)
            print(f"{self.name} for {recall}: {plan.second_stage}, {search}", flush=True)
            self.built[str(recall)] = {"plan": plan.model_dump(mode="json"), "search": search}
        stats = self.indexes[0.99].stats()
        self.path, self.resident_bytes, self.disk_bytes = path, stats.resident_bytes, stats.disk_bytes

    def search(self, queries: Float32s, effort: Any, threads: int) -> Hits:
        """Find documents."""
        index = self.indexes[effort]
        return index.search(queries, K, settings=index.search_with(threads=threads))

    def rows(self, found: Hits) -> NDArray[np.int64]:
        """Documents are numbered by row."""
        return np.array([[int(id_) for id_ in ids] for ids in found.ids])


def plan_for(vectors: Float32s, queries: Float32s, recall: float) -> Plan:
    """A plan that surely finds so much of the exact best ten, as `nestvec evaluate` and `nestvec plan` make one.

    Half of what may be missed is left to the margin and the IVF lists that building tunes.
    """
    full_dim, enough = vectors.shape[1], 1 - (1 - recall) / 2
    scan = faiss.IndexFlatIP(full_dim)
    scan.add(vectors)
    best = scan.search(queries, K)[1]
    texts = {str(row): "-" for row in range(len(vectors))}
    asked = {str(row): "-" for row in range(len(queries))}
    qrels = {query: {str(row): 1 for row in rows} for query, rows in zip(asked, best.tolist(), strict=True)}
    task = Retrieval(Benchmark(asked, texts, qrels), metrics=[f"Recall@{K}"])
    ordered = TaskVectors(
        queries[[int(key) for key in task.query_ids]], vectors[[int(key) for key in task.document_ids]]
    )
    grid = measure_grid(
        task,
        ordered,
        [full_dim],
        precisions=[f"pq{full_dim // 12}"],
        reranks=[Rerank("float16", shortlist) for shortlist in SHORTLISTS],
    )
    target = parse_target(f"Recall@{K}>={enough}", [f"Recall@{K}"])
    corpus = Corpus(len(vectors), len(vectors))
    cell = choose(make_cells("vectors", grid), headline=f"Recall@{K}", target=target, corpus=corpus).cell
    assert cell.rerank is not None
    return Plan(
        model="vectors",
        full_dim=full_dim,
        recall=enough,
        first_stage=FirstStage(dim=cell.dim, precision=cell.precision),
        second_stage=SecondStage(**cell.rerank._asdict()),
    )


class Usearch(Tool):
    """usearch's HNSW, of float32 or int8 numbers."""

    efforts = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768)

    def __init__(self, name: str, dtype: str) -> None:
        """Name it."""
        self.name, self.dtype = name, dtype

    def build(self, vectors: Float32s, work: Path, queries: Float32s | None = None) -> None:
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

    def build(self, vectors: Float32s, work: Path, queries: Float32s | None = None) -> None:
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

    def build(self, vectors: Float32s, work: Path, queries: Float32s | None = None) -> None:
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


class Turbovec(Tool):
    """turbovec's 2-bit TurboQuant codes; the best are compared in full with numpy, as its documents are not kept."""

    name = "turbovec 2 bits + rerank"
    fixed_threads = int(os.environ.setdefault("RAYON_NUM_THREADS", "1"))
    efforts = (10, 12, 15, 20, 25, 30, 40, 60)

    def build(self, vectors: Float32s, work: Path, queries: Float32s | None = None) -> None:
        """Take documents in."""
        from turbovec import TurboQuantIndex

        self.index = TurboQuantIndex(dim=vectors.shape[1], bit_width=2)
        self.index.add(vectors)
        self.vectors = vectors
        path = work / "turbovec.tv"
        self.index.write(str(path))
        self.resident_bytes = path.stat().st_size
        self.disk_bytes = self.resident_bytes + vectors.nbytes
        path.unlink()

    def search(self, queries: Float32s, effort: Any, threads: int) -> Any:
        """Find documents; its threads are set once, before it is loaded, by `RAYON_NUM_THREADS`."""
        _, rows = self.index.search(np.ascontiguousarray(queries), k=effort)
        rows = rows.astype(np.int64)
        scores = np.matmul(self.vectors[rows], queries[:, :, None])[:, :, 0]
        return np.take_along_axis(rows, np.argsort(-scores, axis=1)[:, :K], axis=1)


class Zvec(Tool):
    """zvec's HNSW, one query after another."""

    name = "zvec HNSW"
    efforts = (16, 32, 64, 96, 128, 192, 256, 384, 512)
    tuned_on = FEW

    def build(self, vectors: Float32s, work: Path, queries: Float32s | None = None) -> None:
        """Take documents in."""
        import zvec

        self.zvec = zvec
        zvec.init(query_threads=1)
        field = zvec.VectorSchema(
            "v",
            zvec.DataType.VECTOR_FP32,
            dimension=vectors.shape[1],
            index_param=zvec.HnswIndexParam(metric_type=zvec.MetricType.IP, m=16, ef_construction=200),
        )
        path = work / "zvec"
        self.index = zvec.create_and_open(str(path), zvec.CollectionSchema("documents", vectors=field))
        for first in range(0, len(vectors), 1000):
            part = vectors[first : first + 1000]
            self.index.insert([zvec.Doc(id=str(first + row), vectors={"v": one}) for row, one in enumerate(part)])
        self.index.optimize()
        self.disk_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())

    def search(self, queries: Float32s, effort: Any, threads: int) -> Any:
        """Find documents."""
        param = self.zvec.HnswQueryParam(ef=effort)
        return [self.index.query(self.zvec.Query("v", vector=query, param=param), topk=K) for query in queries]

    def rows(self, found: Any) -> NDArray[np.int64]:
        """Documents are numbered by row."""
        return np.stack([_padded([int(one.id) for one in line]) for line in found])


class QdrantEdge(Tool):
    """Qdrant in this process: HNSW over int8 codes in memory, rescored."""

    name = "qdrant-edge HNSW int8"
    efforts = (16, 32, 64, 96, 128, 192, 256, 384, 512)
    tuned_on = FEW

    def build(self, vectors: Float32s, work: Path, queries: Float32s | None = None) -> None:
        """Take documents in."""
        import qdrant_edge as edge

        self.edge = edge
        path = work / "qdrant"
        path.mkdir()
        codes = edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8, always_ram=True)
        config = edge.EdgeConfig(
            vectors={
                "v": edge.EdgeVectorParams(size=vectors.shape[1], distance=edge.Distance.Dot, quantization_config=codes)
            },
            hnsw_config=edge.HnswIndexConfig(m=16, ef_construct=200, full_scan_threshold=1000),
        )
        self.index = edge.EdgeShard.create(str(path), config)
        for first in range(0, len(vectors), 1000):
            part = vectors[first : first + 1000].tolist()
            points = [edge.Point(first + row, {"v": one}) for row, one in enumerate(part)]
            self.index.update(edge.UpdateOperation.upsert_points(points))
        self.index.optimize()
        self.disk_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())

    def search(self, queries: Float32s, effort: Any, threads: int) -> Any:
        """Find documents."""
        params = self.edge.SearchParams(hnsw_ef=effort)
        requests = [
            self.edge.QueryRequest(limit=K, query=self.edge.Query.Nearest(query.tolist(), using="v"), params=params)
            for query in queries
        ]
        if len(requests) == 1:
            return [self.index.query(requests[0])]
        return self.index.query_batch(self.edge.QueryBatchRequest(requests))

    def rows(self, found: Any) -> NDArray[np.int64]:
        """Documents are numbered by row."""
        return np.stack([_padded([one.id for one in line]) for line in found])


def _padded(rows: Sequence[int]) -> NDArray[np.int64]:
    return np.pad(np.array(rows, np.int64), (0, K - len(rows)), constant_values=-1)


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
    probes = (16, 32, 64, 96, 128, 192, 256, 384) if large else (4, 8, 16, 32, 64, 96, 128)
    steps = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
    plans: dict[float, Plan] = {}
    found: list[Tool] = [
        Faiss("exact, faiss flat", "Flat", (None,), no_effort),
        Nestvec("nestvec", plans),
        *([Nestvec("nestvec, without lists", plans, lists=False)] if large else []),
        Faiss("faiss HNSW32", "HNSW32", steps, hnsw),
        Faiss(
            "faiss IVF-PQ96x4fs + fp16",
            f"IVF{lists},PQ96x4fs,Refine(SQfp16)",
            [(p, f) for p in probes for f in (2, 4, 8, 16, 32)],
            refined,
        ),
        Faiss(
            "faiss IVF-RaBitQfs + fp16",
            f"IVF{lists},RaBitQfs,Refine(SQfp16)",
            [(p, f) for p in probes for f in (4, 8, 16, 32, 64)],
            refined,
        ),
        Turbovec(),
        Zvec(),
        QdrantEdge(),
        Usearch("usearch float32", "f32"),
        Usearch("usearch int8", "i8"),
        Hnswlib(),
        LanceDB(),
    ]
    return found
