"""Fit an adaptor: from vectors, and what is known of them, to maps whose prefixes keep the most."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nestvec.adaptors.adaptor import Adaptor, Replacement
from nestvec.adaptors.held_out import is_nested, make_held_out
from nestvec.adaptors.maps import Map, Towers
from nestvec.adaptors.networks import TowersNetwork
from nestvec.adaptors.objectives import Objective, make_objective
from nestvec.adaptors.pca import fit_pca
from nestvec.adaptors.rotation import fit_pair_rotation, nearest_rotation
from nestvec.adaptors.selection import STRENGTHS, Candidate, blend, choose, clearly_better, merit, share, shrinkage
from nestvec.adaptors.settings import METHODS, FitSettings, Method, ResolvedSettings
from nestvec.adaptors.training_data import AdaptorData, Split
from nestvec.errors import AdaptorError, LossInputError, VectorError
from nestvec.losses import check_codes
from nestvec.progress import Progress, silent
from nestvec.vectors import check_dims, default_dims, unit_float32

__all__ = ["fit_adaptor"]

Rows = NDArray[np.int64]

_PCA_SAMPLE = 100_000
_TRAINED = ("linear", "two-tower", "mlp", "rotation")
_LOST_BY_ROTATION = 0.002  # at most, of the held-out score, at any size
_SHARES = (1.0, 0.5)  # of the way at which states of training are compared: one that loses may gain half way
_WARMUP = 0.1
_STEPS_PER_EPOCH = 8  # at least, as long as a step has rows enough


def fit_adaptor(
    data: AdaptorData,
    dims: Sequence[int] | None = None,
    *,
    method: Method | None = None,
    settings: FitSettings | None = None,
    encoder: Mapping[str, str] | None = None,
    held_out: Rows | None = None,
    progress: Progress = silent,
) -> Adaptor:
    """Fit an adaptor to frozen vectors.

    With pairs, queries learn to find their documents by nested InfoNCE; with scores, pairs learn their order by nested
    CoSENT; without labels, every prefix learns the similarities of the vectors as they were, above all those of near
    neighbours. Some data are held out: training stops when they get no better, and the best state counts. They also
    choose, where it is not said, the method (for pairs), where training begins, and how much of the way from there is
    kept. With labels, the map counts whose gain over the vectors as they are is largest, at its worst size and by half
    on the mean, and these stay where nothing gains clearly.

    Args:
        data: Vectors and labels.
        dims: Sizes that shall be good, strictly rising or falling, none above that of the vectors; None takes
            the full size and the powers of two below it.
        method: `linear`: one matrix for both sides; `two-tower`: one a side, tied; `mlp`: one matrix and a hidden layer
            for both; `rotation`: an orthogonal matrix for both, which learns to keep the similarities of the full size
            at every prefix, whatever the labels; `pca` and `whitening`: principal components, nothing trained. None
            takes `two-tower` for queries and their documents, and `linear` where the two of a pair are alike or nothing
            is paired: for scores, and without labels.
        settings: How to fit.
        encoder: Identity of the encoder by side, to refuse other vectors later; None where it is not known.
        held_out: Rows of the pairs, or without pairs of the documents, to measure on; None draws them by `settings`.
        progress: How to report progress.

    Returns:
        The adaptor; its method is `raw` where the vectors as they are were kept, for a rotation without labels also
        where they are nested already: their leading dimensions clearly keep more than others would. At a size where the
        vectors as they are, or their principal components, are clearly better on the held-out data, it holds those too
        (`replaced`).

    Raises:
        AdaptorError: The method or settings cannot be used, or labels do not fit.
        LossInputError: Precisions are given twice, or have no code that is long enough at any size.
        VectorError: A vector is zero or not finite; or for whitening, there are fewer of them than dimensions.
        DimensionError: A dim is outside the vectors, repeated or out of order.

    Source:
        Nested prefixes: Kusupati et al. 2022, arXiv:2205.13147. Frozen vectors without labels: Yoon et al. 2024,
        arXiv:2407.20243; we draw neighbours into the batch and compare whole rows of similarities, where they take
        pairs and the k nearest.
    """
    any_method = method is None and data.labels == "pairs"
    method = method or ("two-tower" if data.labels == "pairs" else "linear")
    if method not in METHODS:
        raise AdaptorError(f"There is no method {method!r}. Methods are {', '.join(METHODS)}.")
    if method == "two-tower" and data.labels == "none":
        raise AdaptorError("Two towers learn from which query and document belong together. Give pairs, or fit linear.")
    data.check_shapes()
    dims = check_dims(default_dims(data.dim) if dims is None else dims, data.dim)
    settings = (settings or FitSettings()).resolved(data.labels, method, dims)
    if dims[0] < dims[-1]:  # rising; from here on the largest comes first, and each weight stays with its dim
        dims, settings = dims[::-1], replace(settings, weights=tuple(settings.weights)[::-1])
    check_codes(settings.precisions, dims, settings.shortest_code)
    data.check_rows()
    if held_out is None:
        split = data.split(settings.held_out_share, settings.held_out_limit, settings.seed)
    else:
        split = data.split_at(held_out)
    measure = make_held_out(data, split, settings.seed)

    def candidate(name: str, towers: Towers) -> Candidate:
        return Candidate(name, towers, measure.measure(towers, dims))

    raw = Map(np.eye(data.dim, dtype=np.float32))
    sample = _sample(data, split.held_out, settings.seed)
    pca = fit_pca(sample, centered=settings.centered)
    components = Map(pca.weight) if method == "rotation" else pca  # without a bias: a rotation too
    found = {"raw": candidate("raw", Towers(raw, raw)), "pca": candidate("pca", Towers(components, components))}
    nested = None
    if method in _TRAINED:
        methods = (method, "linear") if any_method else (method,)
        starts = _starts(data, split, pca, method, settings.seed)
        if settings.start not in (None, *starts):
            raise AdaptorError(f"Only a rotation of vectors with pairs can start at {settings.start}. Leave it out.")
        trials = _Trials(data, split, dims, methods, settings, starts, found, candidate, progress)
        chosen, nested = trials.best(), trials.nested
    elif method == "whitening":
        if len(sample) < data.dim:
            raise VectorError(
                f"{len(sample)} rows are too few to whiten {data.dim} dimensions: give at least {data.dim}, better ten "
                "times as many."
            )
        whitened = fit_pca(sample, centered=settings.centered, whitened=True)
        chosen = candidate(method, Towers(whitened, whitened))
    else:
        chosen = found[method]
    found = {**found, chosen.method: chosen}
    return Adaptor(
        towers=chosen.towers,
        method=chosen.method,
        dims=dims,
        replaced={} if nested else _replacements(found, chosen, measure.groups, rotates=method == "rotation"),
        encoder=dict(encoder or {}),
        held_out={name: {str(dim): score for dim, score in one.scores.items()} for name, one in found.items()},
        settings={
            **asdict(settings),
            "method": method,  # that was asked for
            "start": chosen.start,
            "strength": None if chosen.strength is None else round(chosen.strength, 4),
            "metric": measure.metric,
            "nested": nested,  # before anything was fitted; None where that was not asked
            "pairs": 0 if data.pairs is None else len(data.pairs),
        },
    )


@dataclass(frozen=True)
class _Trials:
    """Trained maps from each start, and the choice between them on the held-out data.

    Without labels these say how well a prefix keeps the full vector's neighbours, not how well it finds what is asked
    for. Where the vectors were not made to be cut, the two rise together; prefixes that were trained to find are worse
    at keeping than a rotation fitted to that, and better at finding. Such vectors stay as they are.
    """

    data: AdaptorData
    split: Split
    dims: Sequence[int]
    methods: Sequence[str]
    """What is trained, and the others that are made of it and compared."""
    settings: ResolvedSettings
    starts: Mapping[str, Map]
    untrained: Mapping[str, Candidate]
    """Among them `raw`, the vectors as they are."""
    measure: Callable[[str, Towers], Candidate]
    progress: Progress

    def best(self) -> Candidate:
        if self.nested:
            return self.untrained["raw"]
        candidates = [
            self._between(start, end, strength, method)
            for start in self._names()
            for end in self._train(start)
            for strength, method in itertools.product(self._strengths(), self.methods)
        ]
        if self._free and self._rotates:
            raw, weights = self.untrained["raw"], self._short_weights()
            return choose(
                candidates,
                raw,
                weights,
                clear=self.settings.clear,
                most_lost=_LOST_BY_ROTATION,
                share_of_worst=0.0,
            )
        if self._free:
            return self._choose(candidates)
        return max(candidates, key=lambda one: merit(one, self.untrained.values()))

    @property
    def _free(self) -> bool:
        """Whether the strength is ours to choose, that of no change included."""
        return (self.data.labels != "none" or self._rotates) and self.settings.strength is None

    @property
    def _rotates(self) -> bool:
        return self.methods[0] == "rotation"

    @cached_property
    def nested(self) -> bool | None:
        """Whether the vectors are nested already; None where it does not matter, since labels tell what gains."""
        if not self._free or self.data.labels != "none":
            return None
        return is_nested(self.data.documents, self.dims, seed=self.settings.seed)

    def _short_weights(self) -> Sequence[float]:
        """One weight a dim, where the full size, which no rotation changes, counts only where it is alone."""
        weights = self.settings.weights
        short = [0.0 if dim == self.data.dim else weight for dim, weight in zip(self.dims, weights, strict=True)]
        return short if any(short) else weights

    def _names(self) -> Sequence[str]:
        if self.settings.start is not None:
            return (self.settings.start,)
        return tuple(self.starts) if self.data.labels == "pairs" or self._rotates else ("pca",)

    def _strengths(self) -> Sequence[float]:
        return STRENGTHS if self.settings.strength is None else (self.settings.strength,)

    def _train(self, start: str) -> list[Towers]:
        method, settings, begin = self.methods[0], self.settings, self.starts[start]
        network = TowersNetwork(
            begin,
            two_towers=method == "two-tower",
            hidden_width=settings.hidden_width if method == "mlp" else None,
            seed=settings.seed,
            orthogonal=self._rotates,
        )

        def merits(state: Towers) -> list[float]:
            blends = [self._blend(start, state, one) for one in (_SHARES if self._free else (1.0,))]
            return [merit(self.measure("state", one), self.untrained.values()) for one in blends]

        objective = make_objective(self.data, self.split, self.dims, settings, labeled=not self._rotates)
        return _train(network, objective, settings, merits, self.progress)

    def _blend(self, start: str, end: Towers, strength: float) -> Towers:
        begin = self.starts[start]
        towers = blend(Towers(begin, begin), end, strength)
        if self._rotates and strength < 1:
            rotation = nearest_rotation(towers.query)
            return Towers(rotation, rotation)
        return towers

    def _between(self, start: str, end: Towers, strength: float, method: str) -> Candidate:
        towers = self._blend(start, end, strength)
        kept = towers if method == self.methods[0] else share(towers)
        return self.measure(method, kept)._replace(start=start, end=end, strength=strength)

    def _choose(self, candidates: Sequence[Candidate]) -> Candidate:
        """Choose, and go on less far where the gain is not sure; where nothing is left of it, try another start."""
        raw, weights, clear = self.untrained["raw"], self.settings.weights, self.settings.clear
        while True:
            chosen = choose(candidates, raw, weights, clear=clear)
            if self.data.labels != "pairs" or not (chosen.start and chosen.end and chosen.strength):
                return chosen
            strength = chosen.strength * shrinkage(chosen, raw, weights)
            shrunk = self._between(chosen.start, chosen.end, strength, chosen.method)
            if choose([shrunk], raw, weights, clear=clear) is shrunk:
                return shrunk
            candidates = [one for one in candidates if one.start != chosen.start]  # near to this start nothing gains


def _starts(data: AdaptorData, split: Split, pca: Map, method: Method, seed: int) -> dict[str, Map]:
    """Where training may begin, by name."""
    identity = np.eye(data.dim, dtype=np.float32)
    if method != "rotation":
        return {"pca": pca, "identity": Map(identity, np.zeros(data.dim, np.float32))}  # its bias centres the sides
    starts = {"pca": Map(pca.weight), "identity": Map(identity)}
    if data.labels == "pairs" and data.pairs is not None:
        drawn = np.random.default_rng(seed).permutation(split.train)[:_PCA_SAMPLE]
        rows = data.pairs[np.sort(drawn)]
        starts["pairs"] = fit_pair_rotation(data.queries[rows[:, 0]], data.documents[rows[:, 1]])
    return starts


def _sample(data: AdaptorData, held_out: Rows, seed: int) -> NDArray[np.float32]:
    """Vectors of both sides, as many as principal components need, none of them held out."""
    generator = np.random.default_rng(seed)
    parts = []
    for vectors, rows in zip((data.queries, data.documents), data.unseen(held_out), strict=True):
        chosen = np.sort(generator.permutation(rows)[: _PCA_SAMPLE // 2])
        parts.append(unit_float32(np.asarray(vectors[chosen])))
    return np.concatenate(parts)


def _train(
    network: TowersNetwork,
    compute_loss: Objective,
    settings: ResolvedSettings,
    merits: Callable[[Towers], list[float]],
    progress: Progress,
) -> list[Towers]:
    """Train, and return the best state of each merit, the one where training begins included."""
    rows = compute_loss.rows
    batch_size = min(settings.batch_size, len(rows), max(compute_loss.least_batch, len(rows) // _STEPS_PER_EPOCH))
    steps = max(1, round(settings.epochs * max(compute_loss.least_steps, len(rows) / batch_size)))
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(step, steps))
    start = [parameter.detach().clone() for parameter in network.parameters()]
    generator = np.random.default_rng(settings.seed)
    batches = _batches(rows, batch_size, generator)
    every = max(1, math.ceil(steps / settings.evaluations))
    best = network.to_towers()
    bests, since_best = [(one, best) for one in merits(best)], 0
    with progress("fitting the adaptor", steps) as advance:
        for step in range(1, steps + 1):
            try:
                loss = compute_loss(network, next(batches), generator)
            except LossInputError as error:
                if step == 1:
                    raise
                raise AdaptorError(f"Training diverged: {error} Lower learning_rate.") from error
            if settings.pull:
                loss = loss + settings.pull * _squared_distance(network.parameters(), start)
            if settings.tie and network.document is not network.query:
                sides = network.query.parameters(), network.document.parameters()
                loss = loss + settings.tie * _squared_distance(*sides)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            schedule.step()
            advance(1)
            if step % every and step < steps:
                continue
            now = network.to_towers()
            since_best += 1
            for place, merit_now in enumerate(merits(now)):
                if merit_now > bests[place][0]:
                    bests[place], since_best = (merit_now, now), 0
            if settings.patience is not None and since_best >= settings.patience:
                break
    return list({id(state): state for _, state in bests}.values())


def _squared_distance(left: Iterable[Tensor], right: Iterable[Tensor]) -> Tensor:
    return torch.stack([(one - other).square().sum() for one, other in zip(left, right, strict=True)]).sum()


def _learning_rate(step: int, steps: int) -> float:
    """Share of the highest one: a short rise, then half a cosine down."""
    return min(1.0, (step + 1) / max(1.0, _WARMUP * steps)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _batches(rows: Rows, batch_size: int, generator: np.random.Generator) -> Iterator[Rows]:
    """Batches of one epoch after another; what is left over of each is put into the next."""
    order = np.empty(0, np.int64)
    while True:
        while len(order) < batch_size:
            order = np.concatenate([order, generator.permutation(rows)])
        yield order[:batch_size]
        order = order[batch_size:]


def _replacements(
    found: Mapping[str, Candidate], chosen: Candidate, groups: Rows | None, *, rotates: bool
) -> dict[int, Replacement]:
    """Other maps at the sizes where they are clearly better; never at a full size whose cosines were to stay."""
    replaced = {}
    full_dim = len(chosen.towers.document.weight)
    for dim in chosen.values:
        if rotates and dim == full_dim:
            continue
        best = max(found.values(), key=lambda one: one.scores[dim])
        if clearly_better(best, chosen, dim, groups):
            replaced[dim] = Replacement(best.method, best.towers.cut(dim))
    return replaced
