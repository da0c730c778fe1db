"""A nestvec model inside MTEB, on tasks made here. Run: pytest tests/test_evaluation_mteb.py (twenty seconds)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nestvec.data import ScoredPair
from nestvec.encoders import SentenceTransformerEncoder, load_model
from nestvec.errors import DimensionError, PrecisionError
from nestvec.evaluation import CellKey, MTEBModel, Retrieval, SemanticSimilarity, encode_task, measure_grid
from nestvec.quantization import fit_quantizer
from test_evaluation_grid import DIM, TableEncoder, made_up, random_benchmark

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its dependencies, at import
    mteb = pytest.importorskip("mteb", reason="mteb needs Python 3.11")

pytestmark = [pytest.mark.filterwarnings("ignore")]

METADATA = {
    "description": "made up",
    "dataset": {"path": "none", "revision": "none"},
    "reference": None,
    "category": "t2t",
    "modalities": ["text"],
    "eval_splits": ["test"],
    "eval_langs": ["eng-Latn"],
    "date": ("2020-01-01", "2020-01-02"),
    "domains": [],
    "task_subtypes": [],
    "license": "cc-by-4.0",
    "annotations_creators": "derived",
    "dialect": [],
    "sample_creation": "found",
    "bibtex_citation": "",
}
PAIRS = [ScoredPair(made_up(i), made_up(i * 7 % 30), float(i % 5)) for i in range(40)]


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.sts import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    benchmark = random_benchmark()

    class LocalRetrieval(AbsTaskRetrieval):
        metadata = TaskMetadata(name="LocalRetrieval", type="Retrieval", main_score="ndcg_at_10", **METADATA)

        def load_data(self, *_: object, **__: object) -> None:
            queries, corpus = (
                Dataset.from_list([{"id": key, "text": text} for key, text in texts.items()])
                for texts in (benchmark.queries, benchmark.corpus)
            )
            relevant = {query: dict(grades) for query, grades in benchmark.qrels.items()}
            self.dataset = {
                "default": {
                    "test": RetrievalSplitData(queries=queries, corpus=corpus, relevant_docs=relevant, top_ranked=None)
                }
            }
            self.data_loaded = True

    class LocalSTS(AbsTaskSTS):
        metadata = TaskMetadata(name="LocalSTS", type="STS", main_score="cosine_spearman", **METADATA)
        min_score, max_score = 0, 4

        def load_data(self, *_: object, **__: object) -> None:
            rows = [{"sentence1": pair.text1, "sentence2": pair.text2, "score": pair.score} for pair in PAIRS]
            self.dataset = DatasetDict({"test": Dataset.from_list(rows)})
            self.data_loaded = True

    return {"retrieval": LocalRetrieval(), "sts": LocalSTS()}


@pytest.fixture
def encoder(tiny_model: Path) -> Iterator[SentenceTransformerEncoder]:
    return SentenceTransformerEncoder(load_model(str(tiny_model)))


def run(model: MTEBModel, task: Any) -> dict[str, float]:
    result = mteb.evaluate(model, task, cache=None, overwrite_strategy="always", show_progress_bar=False)
    return dict(result.task_results[0].scores["test"][0])


@pytest.mark.parametrize(("dim", "precision"), [(128, "float32"), (32, "float32"), (32, "int8"), (16, "binary")])
def test_mteb_gives_the_scores_of_our_grid(
    dim: int, precision: str, tasks: dict[str, Any], encoder: SentenceTransformerEncoder
) -> None:
    model = MTEBModel(encoder, dim=dim, precision=precision)
    task = Retrieval(random_benchmark(), metrics=["nDCG@10", "MRR@10", "Recall@5", "MAP@10"])
    expected = measure_grid(task, encode_task(task, encoder), [dim], precisions=[precision]).scores[
        CellKey(dim, precision)
    ]
    found = run(model, tasks["retrieval"])
    for theirs, ours in (("ndcg_at_10", "nDCG@10"), ("recall_at_5", "Recall@5"), ("map_at_10", "MAP@10")):
        assert found[theirs] == pytest.approx(expected[ours].value, abs=2e-3), ours  # they round, and order ties anyhow

    similarity = SemanticSimilarity(PAIRS)
    cells = measure_grid(similarity, encode_task(similarity, encoder), [dim], precisions=[precision])
    assert run(model, tasks["sts"])["cosine_spearman"] == pytest.approx(
        cells.scores[CellKey(dim, precision)]["Spearman"].value, abs=0.02 if precision != "float32" else 2e-3
    )


def test_queries_stay_as_they_are_and_stored_texts_are_coded() -> None:
    encoder = TableEncoder()
    model = MTEBModel(encoder, dim=8, precision="binary")
    texts = [made_up(number) for number in range(50)]
    batches = [{"text": texts[:20]}, {"text": texts[20:]}]

    def encode(prompt_type: str | None) -> np.ndarray:
        metadata = type("Metadata", (), {"name": "x"})()
        return model.encode(
            batches, task_metadata=metadata, hf_split="test", hf_subset="default", prompt_type=prompt_type
        )

    queries, documents, both = encode("query"), encode("document"), encode(None)
    assert queries.shape == documents.shape == (50, 8)
    np.testing.assert_array_equal(documents, both)
    assert len(np.unique(queries.round(5))) > 100
    assert len({tuple(row > np.median(documents, axis=0)) for row in documents}) <= 2**8
    assert np.abs(queries - documents).max() > 0.1
    np.testing.assert_allclose(
        model.similarity(queries, documents).diagonal(), model.similarity_pairwise(queries, documents), atol=1e-6
    )


def test_a_cell_that_there_is_not_is_refused() -> None:
    with pytest.raises(DimensionError, match="Cannot keep 17 dimensions"):
        MTEBModel(TableEncoder(), dim=17)
    with pytest.raises(PrecisionError):
        MTEBModel(TableEncoder(), precision="int7")
    with pytest.raises(PrecisionError, match="The quantizer is of int4 and the model of int8"):
        MTEBModel(TableEncoder(), precision="int8", quantizer=fit_quantizer(np.eye(DIM, dtype=np.float32), "int4"))
