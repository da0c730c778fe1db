"""Every loss with an oracle: a loop in float64 over single rows, on prefixes that are cut and scaled one by one.

A new loss joins the tests of `test_losses_*.py` by an entry in `CASES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from nestvec import losses

N_CLASSES = 3


class LossCase(NamedTuple):
    """One loss with one setting."""

    name: str
    n_columns: int
    labels: Callable[[torch.Generator, int], Tensor | None]
    """Draws labels for so many rows."""
    plain: Callable[..., Tensor]
    """(unit prefixes of every column, labels) -> the loss at one size, by a loop."""
    function: Callable[..., Tensor]
    """(columns, labels, dims=, weights=) -> the loss at all sizes, by nestvec."""
    module: Callable[..., losses.NestedLoss]
    """(model, dims, weights, **options) -> the module."""
    settings: Mapping[str, object] = MappingProxyType({})
    """Given to plain, function and module alike."""
    rows_meet: bool = True
    head: str | None = None
    """`each` or `shared`: the loss has classifier heads."""


def reference(case: LossCase, columns: Sequence[Tensor], labels: Tensor | None, dims, weights=None, **more) -> Tensor:
    """Sum over the sizes of the plain loss on prefixes that are cut and scaled by a loop."""
    total = columns[0].new_zeros(())
    for index, (dim, weight) in enumerate(zip(dims, weights or [1.0] * len(dims), strict=True)):
        cut = [torch.stack([unit(vector[:dim]) for vector in column]) for column in columns]
        if case.head:
            more = {**more, "index": index, "dim": dim}
        total = total + weight * case.plain(cut, labels, **case.settings, **more)
    return total


def unit(vector: Tensor) -> Tensor:
    length = vector.norm()
    return vector * 0.0 if length == 0 else vector / length


def draw_columns(seed: int, n_columns: int, batch: int, dim: int, dtype=torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(batch, dim, generator=generator, dtype=torch.float64)
    columns = [first, *(torch.randn(batch, dim, generator=generator, dtype=torch.float64) + first / 2
                        for _ in range(n_columns - 1))]  # fmt: skip
    return [column.to(dtype).requires_grad_() for column in columns]


def distance_between(a: Tensor, b: Tensor, distance: str) -> Tensor:
    if distance == "cosine":
        return 1 - a @ b
    difference = a - b
    if distance == "manhattan":
        return difference.abs().sum()
    return difference.norm() if difference.any() else difference.sum()


def plain_info_nce(columns, _labels, temperature=0.05, symmetric=False, allowed=None) -> Tensor:
    queries, documents = columns[0], [d for column in columns[1:] for d in column]
    total = queries.new_zeros(())
    for i, query in enumerate(queries):
        scores = [query @ d / temperature for d in documents]
        kept = [s for j, s in enumerate(scores) if j == i or allowed is None or allowed(columns, i, j)]
        value = torch.logsumexp(torch.stack(kept), 0) - scores[i]
        if symmetric:
            back = [q @ documents[i] / temperature for q in queries]
            kept = [s for j, s in enumerate(back) if j == i or allowed is None or allowed(columns, i, j, back=True)]
            value = (value + torch.logsumexp(torch.stack(kept), 0) - back[i]) / 2
        total = total + value / len(queries)
    return total


def plain_regression(columns, scores) -> Tensor:
    terms = [(a @ b - score) ** 2 for a, b, score in zip(*columns, scores, strict=True)]
    return torch.stack(terms).mean()


def plain_cosent(columns, scores, temperature=0.05) -> Tensor:
    return _ordering([a @ b / temperature for a, b in zip(*columns, strict=True)], scores)


def plain_angle(columns, scores, temperature=0.05) -> Tensor:
    similarities = []
    for a, b in zip(*columns, strict=True):
        half = len(a) // 2
        sine = a[half:] @ b[:half] - a[:half] @ b[half:]
        similarities.append((a @ b + sine).abs() / temperature)
    return _ordering(similarities, scores)


def _ordering(similarities, scores) -> Tensor:
    terms = [similarities[0] * 0.0]
    for i, better in enumerate(scores):
        terms += [similarities[j] - similarities[i] for j, worse in enumerate(scores) if better > worse]
    return torch.logsumexp(torch.stack(terms), 0)


def plain_contrastive(columns, labels, margin=0.5, distance="cosine") -> Tensor:
    terms = []
    for a, b, label in zip(*columns, labels, strict=True):
        apart = distance_between(a, b, distance)
        terms.append(apart**2 / 2 if label == 1 else (margin - apart).clamp(min=0) ** 2 / 2)
    return torch.stack(terms).mean()


def plain_online_contrastive(columns, labels, margin=0.5, distance="cosine") -> Tensor:
    apart = [distance_between(a, b, distance) for a, b in zip(*columns, strict=True)]
    together = [d for d, label in zip(apart, labels, strict=True) if label == 1]
    others = [d for d, label in zip(apart, labels, strict=True) if label == 0]
    nearest = min(others) if others else sum(together) / len(together)
    furthest = max(together) if together else sum(others) / len(others)
    total = apart[0] * 0.0
    for d in together:
        total = total + (d**2 if d > nearest else 0.0)
    for d in others:
        total = total + ((margin - d).clamp(min=0) ** 2 if d < furthest else 0.0)
    return total


def plain_triplet(columns, _labels, margin=0.5, distance="cosine") -> Tensor:
    anchors, positives, *negatives = columns
    terms = [
        (distance_between(a, p, distance) - distance_between(a, column[i], distance) + margin).clamp(min=0)
        for i, (a, p) in enumerate(zip(anchors, positives, strict=True))
        for column in negatives
    ]
    return torch.stack(terms).mean()


def plain_batch_hard(columns, labels, margin=0.5, distance="cosine") -> Tensor:
    (vectors,) = columns
    terms = []
    for i, anchor in enumerate(vectors):
        own = [
            distance_between(anchor, v, distance) for j, v in enumerate(vectors) if labels[j] == labels[i] and j != i
        ]
        other = [distance_between(anchor, v, distance) for j, v in enumerate(vectors) if labels[j] != labels[i]]
        if own and other:
            terms.append((max(own) - min(other) + margin).clamp(min=0))
    return torch.stack(terms).mean()


def plain_supervised_contrastive(columns, labels, temperature=0.05) -> Tensor:
    (vectors,) = columns
    terms = []
    for i, anchor in enumerate(vectors):
        scores = {j: anchor @ v / temperature for j, v in enumerate(vectors) if j != i}
        positives = [score for j, score in scores.items() if labels[j] == labels[i]]
        if positives:
            total = torch.logsumexp(torch.stack(list(scores.values())), 0)
            terms.append(total - torch.stack(positives).mean())
    return torch.stack(terms).mean()


def plain_softmax(columns, labels, heads=None, biases=None, index=0, dim=0) -> Tensor:
    (vectors,) = columns
    head = heads[:, :dim] if isinstance(heads, Tensor) else heads[index]
    bias = biases if isinstance(biases, Tensor) else biases[index]
    terms = [
        torch.logsumexp(head @ v + bias, 0) - (head[y] @ v + bias[y]) for v, y in zip(vectors, labels, strict=True)
    ]
    return torch.stack(terms).mean()


def plain_embedding_distillation(columns, targets, distance="cosine") -> Tensor:
    (vectors,) = columns
    terms = [distance_between(v, unit(target[: len(v)]), distance) for v, target in zip(vectors, targets, strict=True)]
    return torch.stack(terms).mean()


def plain_similarity_distillation(
    columns, labels, temperature=0.05, teacher_temperature=None, top_k=None, full=None
) -> Tensor:
    teacher = full if labels is None else labels.unbind(1)
    teacher = [torch.stack([unit(v.detach()) for v in column]) for column in teacher]
    terms = []
    for i, query in enumerate(columns[0]):
        others = [j for j in range(len(columns[0])) if j != i] if len(columns) == 1 else None
        found, wanted = (
            torch.stack([q @ v for v in (side[0][others] if others is not None else torch.cat(list(side[1:])))])
            for q, side in ((query, columns), (teacher[0][i], teacher))
        )
        if top_k is not None:
            nearest = sorted(range(len(wanted)), key=lambda j: -wanted[j].item())[:top_k]
            found, wanted = found[nearest], wanted[nearest]
        target = torch.softmax(wanted / (teacher_temperature or temperature), 0)
        terms.append((torch.xlogy(target, target) - target * torch.log_softmax(found / temperature, 0)).sum())
    return torch.stack(terms).mean()


def _none(_generator, _batch):
    return None


def _scores(generator, batch):
    return (torch.randint(-2, 3, (batch,), generator=generator) / 2).double()  # with ties


def _binary(generator, batch):
    return torch.randint(0, 2, (batch,), generator=generator)


def _classes(generator, batch):
    labels = torch.randint(0, N_CLASSES, (batch,), generator=generator)
    if batch > 1:
        labels[:2] = 0  # at least one pair, and a stranger where there is room
    if batch > 2:
        labels[2] = 1
    return labels


def _teacher(dim: int, n_columns: int | None):
    def draw(generator, batch):
        shape = (batch, dim) if n_columns is None else (batch, n_columns, dim)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return draw


def _columnwise(function):
    """Most functions take a column an argument, then the labels."""
    name = function.__name__

    def call(columns, labels, **options):
        return getattr(losses, name)(*columns, labels, **options)

    return call


def _info_nce(columns, _labels, **options):
    return losses.nested_info_nce(columns[0], torch.cat(list(columns[1:])), **options)


def _triplet(columns, _labels, **options):
    return losses.nested_triplet(columns[0], columns[1], torch.cat(list(columns[2:])), **options)


def _similarity(columns, labels, **options):
    teacher = {} if labels is None else {"teacher_queries": labels[:, 0]}
    documents = torch.cat(list(columns[1:])) if len(columns) > 1 else None
    if labels is not None and len(columns) > 1:
        teacher["teacher_documents"] = torch.cat(list(labels.unbind(1)[1:]))
    return losses.nested_similarity_distillation(columns[0], documents, **teacher, **options)


def _softmax(share: bool):
    def module(model, dims, weights=None, **options):
        return losses.NestedSoftmax(model, dims, weights, n_classes=N_CLASSES, share_head=share, **options)

    return module


def _pair(name, labels, plain, function, module, rows_meet, **settings):
    return LossCase(name, 2, labels, plain, _columnwise(function), module, settings, rows_meet)


CASES = [
    LossCase("info_nce", 2, _none, plain_info_nce, _info_nce, losses.NestedInfoNCE),
    LossCase(
        "info_nce_negatives",
        4,
        _none,
        plain_info_nce,
        _info_nce,
        losses.NestedInfoNCE,
        {"temperature": 0.2, "symmetric": True},
    ),
    _pair(
        "regression", _scores, plain_regression, losses.nested_cosine_regression, losses.NestedCosineRegression, False
    ),
    _pair("cosent", _scores, plain_cosent, losses.nested_cosent, losses.NestedCoSENT, True),
    _pair("angle", _scores, plain_angle, losses.nested_angle, losses.NestedAnglE, True, temperature=0.5),
    *(
        case
        for distance in ("cosine", "euclidean", "manhattan")
        for case in (
            _pair(
                f"contrastive_{distance}",
                _binary,
                plain_contrastive,
                losses.nested_contrastive,
                losses.NestedContrastive,
                False,
                margin=0.7,
                distance=distance,
            ),
            _pair(
                f"online_contrastive_{distance}",
                _binary,
                plain_online_contrastive,
                losses.nested_online_contrastive,
                losses.NestedOnlineContrastive,
                True,
                margin=0.7,
                distance=distance,
            ),
            LossCase(
                f"triplet_{distance}",
                4 if distance == "cosine" else 3,
                _none,
                plain_triplet,
                _triplet,
                losses.NestedTriplet,
                {"margin": 0.3, "distance": distance},
                rows_meet=False,
            ),
            LossCase(
                f"batch_hard_{distance}",
                1,
                _classes,
                plain_batch_hard,
                _columnwise(losses.nested_batch_hard_triplet),
                losses.NestedBatchHardTriplet,
                {"margin": 0.3, "distance": distance},
            ),
            LossCase(
                f"embedding_distillation_{distance}",
                1,
                _teacher(16, None),
                plain_embedding_distillation,
                _columnwise(losses.nested_embedding_distillation),
                losses.NestedEmbeddingDistillation,
                {"distance": distance},
                rows_meet=False,
            ),
        )
    ),
    LossCase(
        "supervised_contrastive",
        1,
        _classes,
        plain_supervised_contrastive,
        _columnwise(losses.nested_supervised_contrastive),
        losses.NestedSupervisedContrastive,
        {"temperature": 0.1},
    ),
    *(
        LossCase(
            f"softmax_{head}",
            1,
            _classes,
            plain_softmax,
            _columnwise(losses.nested_softmax),
            _softmax(head == "shared"),
            rows_meet=False,
            head=head,
        )
        for head in ("each", "shared")
    ),
    LossCase(
        "similarity_distillation",
        3,
        _teacher(7, 3),
        plain_similarity_distillation,
        _similarity,
        losses.NestedSimilarityDistillation,
        {"temperature": 0.1, "teacher_temperature": 0.2},
    ),
    LossCase(
        "neighbour_similarity_distillation",
        3,
        _teacher(7, 3),
        plain_similarity_distillation,
        _similarity,
        losses.NestedSimilarityDistillation,
        {"temperature": 0.1, "top_k": 2},
    ),
    LossCase(
        "self_distillation",
        1,
        _none,
        plain_similarity_distillation,
        _similarity,
        losses.NestedSimilarityDistillation,
        {"temperature": 0.2},
    ),
]

BY_NAME = {case.name: case for case in CASES}


def extras_of(case: LossCase, columns: Sequence[Tensor], dims: Sequence[int], seed: int = 0) -> dict[str, object]:
    """What the oracle needs besides columns and labels: heads, or the full vectors as their own teacher."""
    if case.name == "self_distillation":
        return {"full": columns}
    if not case.head:
        return {}
    generator = torch.Generator().manual_seed(seed)
    sizes = [columns[0].shape[1]] if case.head == "shared" else dims
    heads = [torch.randn(N_CLASSES, size, generator=generator).to(columns[0].dtype) for size in sizes]
    biases = [torch.randn(N_CLASSES, generator=generator).to(columns[0].dtype) for _ in sizes]
    for tensor in (*heads, *biases):
        tensor.requires_grad_()
    if case.head == "shared":
        return {"heads": heads[0], "biases": biases[0]}
    return {"heads": heads, "biases": biases}


def least_rows(case: LossCase) -> int:
    """Fewest rows the loss can be computed from."""
    if case.name.startswith("batch_hard"):
        return 3
    return 2 if case.name in ("supervised_contrastive", "self_distillation") else 1


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Largest difference over the size of what is wanted; absolute where that is nearly 0."""
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / max(float(wanted.norm()), 1e-3))
