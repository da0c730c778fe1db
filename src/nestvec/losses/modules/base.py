"""What every loss module shares: from a batch to embeddings, and over dims, layers, mini-batches and processes."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, TypedDict

import torch
from sentence_transformers.base.losses import CachedLossMixin, RandContext
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import Tensor, nn

from nestvec.errors import LossInputError, NestvecWarning
from nestvec.losses.modules.devices import (
    average_gradient,
    check_equal_batches,
    gather,
    local_rows,
    same_everywhere,
)
from nestvec.losses.modules.layers import check_layers, input_modules, layers_by_row, unwrap, with_layers
from nestvec.losses.prefixes import resolve_weights
from nestvec.vectors import check_dims

__all__ = ["Batch", "ModuleOptions", "NestedLoss"]


class ModuleOptions(TypedDict, total=False):
    """Options that every loss module takes."""

    n_dims_per_step: int | None
    seed: int
    layers: Sequence[int]
    layer_weights: Sequence[float] | None
    mini_batch_size: int | None
    gather_across_devices: bool


class Batch(NamedTuple):
    """What a loss knows of a batch besides its embeddings."""

    labels: Tensor | None
    rows: slice | None = None
    """Which rows are this process's own; None where there is one process."""
    query_ids: Tensor | None = None
    """[rows, kinds of ids]"""
    document_ids: Tensor | None = None
    """[rows, document columns]"""
    guide: tuple[Tensor, ...] = ()
    """Vectors of the guide, [rows, guide_dim] for each text column."""

    def require_labels(self, loss: NestedLoss) -> Tensor:
        """Return the labels of a loss that needs them.

        Args:
            loss: Which loss, for the error.

        Raises:
            LossInputError: There are none.
        """
        if self.labels is None:
            raise LossInputError(f"{type(loss).__name__} needs a data set of {loss.column_names}: there are no labels.")
        return self.labels


class NestedLoss(CachedLossMixin, nn.Module):
    """The base of all loss modules: takes the place of a loss of sentence-transformers inside `MatryoshkaLoss`.

    With gradient accumulation each batch is a loss of its own: its rows never meet those of another batch as
    negatives, and the gradients are averaged. For more negatives raise the batch size and set `mini_batch_size`,
    which bounds the memory of the encoder at equal results.
    """

    n_columns: ClassVar[tuple[int, int | None]]
    """Fewest and most text columns of the data set; None for any number."""
    column_names: ClassVar[str]
    rows_meet: ClassVar[bool]
    """Whether the rows of a batch meet each other in the loss, so that gathering them makes a difference."""

    def __init__(
        self,
        model: nn.Module,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        *,
        n_dims_per_step: int | None = None,
        seed: int = 0,
        layers: Sequence[int] = (),
        layer_weights: Sequence[float] | None = None,
        mini_batch_size: int | None = None,
        gather_across_devices: bool = False,
    ) -> None:
        """Bind the loss to a model.

        Args:
            model: A `SentenceTransformer`, also one with a static table or a router with a tower for each column.
            dims: Prefix sizes, strictly rising or falling.
            weights: One weight a dim; None weighs each 1.
            n_dims_per_step: Draw this many of the dims anew at every training step, each as likely; None takes all.
                The loss is the sum over those drawn. Evaluation always takes all.
            seed: Of these draws; every process draws the same.
            layers: Encoder layers, counted from 1, at which the loss is also computed, besides the last.
            layer_weights: What the loss at each of them is multiplied by; None takes 1. The last layer has 1.
            mini_batch_size: Rows to encode at a time, with a gradient cache that gives the results of the whole
                batch; None encodes the batch at once.
            gather_across_devices: Let the rows of all processes meet in the loss.

        Raises:
            DimensionError: A dim is outside the model's vectors, repeated or out of order.
            LossInputError: Weights do not fit; the model has not these layers; a static table cannot be encoded in
                mini-batches; or a setting makes no difference to this loss.
        """
        super().__init__()
        self.model = model
        full_dim = getattr(unwrap(model), "get_embedding_dimension", lambda: None)()
        self.dims = check_dims(dims, full_dim)
        self.n_dims_per_step = n_dims_per_step
        self.set_weights(weights)
        self.layers = check_layers(model, tuple(layers))
        if layer_weights is not None and not self.layers:
            raise LossInputError("Got layer_weights without layers. Name the layers, or leave the weights out.")
        self.layer_weights = _check_layer_weights(self.layers, layer_weights)
        if mini_batch_size is not None:
            if not _is_whole(mini_batch_size):
                raise LossInputError(f"mini_batch_size is {mini_batch_size}. Encode at least 1 row at a time.")
            if any(isinstance(module, StaticEmbedding) for module in input_modules(model)):
                raise LossInputError(
                    "A static token table reads a batch as one flat sequence, which cannot be cut into mini-batches, "
                    "and needs no memory worth saving. Leave mini_batch_size out."
                )
        self.mini_batch_size = mini_batch_size  # type: ignore[assignment]  # None turns the gradient cache off
        self.uses_gradient_cache = mini_batch_size is not None  # how the trainer recognises such losses
        if gather_across_devices and not self.rows_meet:
            raise LossInputError(
                f"Rows do not meet each other in {type(self).__name__}: gathering them changes nothing. "
                "Leave gather_across_devices out."
            )
        self.gather_across_devices = gather_across_devices
        self._generator = torch.Generator().manual_seed(seed)
        self.idle_batches = 0
        self._parameter_gradients: list[Tensor | None] = []
        self._same_everywhere = False

    def count_idle(self, labels: Tensor) -> None:
        """Count batches from which nothing can be learned, and say so at the first.

        Args:
            labels: Class of each row of the batch, [batch].
        """
        sizes = torch.unique(labels, return_counts=True)[1]
        if len(sizes) > 1 and (sizes > 1).any():
            return
        self.idle_batches += 1
        if self.idle_batches == 1:
            what = "rows of one class alone" if len(sizes) == 1 else "no two rows of one class"
            warnings.warn(
                f"A batch has {what}: there is nothing to compare, and {type(self).__name__} gives 0. Draw several "
                "rows of several classes: batch_sampler=BatchSamplers.GROUP_BY_LABEL. Such batches are counted in "
                "idle_batches.",
                NestvecWarning,
                stacklevel=3,
            )

    def set_weights(self, weights: Sequence[float] | None) -> None:
        """Weigh the dims anew from now on, as a schedule does.

        Args:
            weights: One weight a dim; None weighs each 1.

        Raises:
            LossInputError: Weights do not fit, or fewer dims have one than a step draws.
        """
        self.weights = resolve_weights(self.dims, weights)
        self._counting = [index for index, weight in enumerate(self.weights) if weight]
        drawn = self.n_dims_per_step
        if drawn is not None and not (_is_whole(drawn) and drawn <= len(self._counting)):
            raise LossInputError(
                f"n_dims_per_step is {drawn}. Draw from 1 to {len(self._counting)}, the dims with a weight."
            )

    @abstractmethod
    def compute(self, columns: list[Tensor], batch: Batch, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Compute the loss from embeddings.

        Args:
            columns: [rows, dim] of each text column, gathered from all processes if that was asked for.
            batch: Labels and the like.
            dims: Sizes that count in this step.
            weights: One each.

        Returns:
            Scalar.
        """

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Embed each column and compute the loss.

        Args:
            sentence_features: Tokenised columns.
            labels: What the data set has in its label column, if the loss wants one.

        Returns:
            Scalar loss.

        Raises:
            LossInputError: The data set has too few or too many columns, labels do not fit, or an embedding is not
                finite.
        """
        features = list(sentence_features)
        fewest, most = self.n_columns
        if len(features) < fewest or (most is not None and len(features) > most):
            raise LossInputError(
                f"{type(self).__name__} got {len(features)} text columns. It needs a data set of {self.column_names}."
            )
        self.check_labels(labels)
        if not self._same_everywhere:
            same_everywhere(self.parameters_of_its_own())
            self._same_everywhere = True
        batch = self._gathered(self.read(features, labels))
        if not self.uses_gradient_cache:
            with with_layers(self.model, self.layers):
                columns = [self._by_row(self.model(column)["sentence_embedding"]) for column in features]
            return self._combine(columns, batch)
        loss: Tensor = self.forward_cached(features, batch)  # type: ignore[arg-type]  # passed on to calculate_loss
        if not torch.is_grad_enabled():
            return loss
        gradients, self._parameter_gradients = self._parameter_gradients, []
        with_gradients: Tensor = _CachedParameterGradients.apply(  # type: ignore[no-untyped-call]
            loss, gradients, *self._learned()
        )
        return with_gradients

    def read(self, features: list[dict[str, Any]], labels: Tensor | None) -> Batch:
        """Take from a tokenised batch what the loss needs besides embeddings. Called before the model sees it.

        Args:
            features: Tokenised columns.
            labels: As the trainer gives them.

        Returns:
            Labels and the like of this process.
        """
        return Batch(labels)

    def check_labels(self, labels: Tensor | None) -> None:  # losses without labels have nothing to check
        """Check labels, before the model does any work.

        Args:
            labels: As the trainer gives them.

        Raises:
            LossInputError: They do not fit.
        """

    def parameters_of_its_own(self) -> list[nn.Parameter]:
        """Return what the loss has besides the model: heads, a temperature."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("model.")]

    def calculate_loss(  # the hook of the gradient cache
        self, reps: list[list[Tensor]], labels: Any = None, *, with_backward: bool = False
    ) -> Tensor:
        """Compute the loss of a whole batch from the embeddings of its mini-batches.

        Args:
            reps: Embeddings, a list of mini-batches for each column.
            labels: The `Batch`.
            with_backward: Also give each of them its gradient, and return the bare value.

        Returns:
            Scalar loss.
        """
        loss = self._combine([torch.cat(column) for column in reps], labels)
        if not with_backward:
            return loss
        own, embeddings = self._learned(), [part for column in reps for part in column]
        gradients = torch.autograd.grad(loss, [*embeddings, *own], allow_unused=True)
        for part, gradient in zip(embeddings, gradients, strict=False):
            part.grad = gradient
        self._parameter_gradients = list(gradients[len(embeddings) :])
        return loss.detach()

    def embed_minibatch(self, *arguments: Any, **keywords: Any) -> tuple[Tensor, RandContext | None]:
        """Embed a mini-batch, at all layers."""
        with with_layers(self.model, self.layers):
            embeddings, random_state = super().embed_minibatch(*arguments, **keywords)
        # What the cache holds are gradients: in half precision those of a large batch would vanish.
        return self._by_row(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))), random_state

    def get_extra_state(self) -> Tensor:
        """Return the state of the draws, for `state_dict`."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue the draws."""
        self._generator.set_state(state.cpu())

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, for the model cards of sentence-transformers."""
        settings: dict[str, Any] = {"dims": list(self.dims), "weights": list(self.weights)}
        if self.n_dims_per_step is not None:
            settings["n_dims_per_step"] = self.n_dims_per_step
        if self.layers:
            settings |= {"layers": list(self.layers), "layer_weights": list(self.layer_weights)}
        if self.mini_batch_size is not None:
            settings["mini_batch_size"] = self.mini_batch_size
        if self.gather_across_devices:
            settings["gather_across_devices"] = True
        return settings

    def shared(self, parameter: Tensor) -> Tensor:
        """Return a parameter of the loss for use in `compute`, so that all processes learn the same."""
        return average_gradient(parameter)

    def _learned(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters_of_its_own() if parameter.requires_grad]

    def _by_row(self, embeddings: Tensor) -> Tensor:
        return layers_by_row(embeddings, len(self.layers)) if self.layers else embeddings

    def _gathered(self, batch: Batch) -> Batch:
        if not self.gather_across_devices:
            return batch
        first = next((value for value in (batch.labels, batch.query_ids, *batch.guide) if value is not None), None)
        if first is not None:
            check_equal_batches(len(first), first.device)
        labels, query_ids, document_ids = (
            None if value is None else gather(value) for value in (batch.labels, batch.query_ids, batch.document_ids)
        )
        guide = tuple(gather(vectors) for vectors in batch.guide)
        return batch._replace(labels=labels, query_ids=query_ids, document_ids=document_ids, guide=guide)

    def _combine(self, columns: list[Tensor], batch: Batch) -> Tensor:
        if self.gather_across_devices:
            check_equal_batches(len(columns[0]), columns[0].device)
            batch = batch._replace(rows=local_rows(len(columns[0])))
            columns = [gather(column) for column in columns]
        dims, weights = self._draw()
        if not self.layers:
            return self.compute(columns, batch, dims, weights)
        by_layer = [column.chunk(1 + len(self.layers), dim=1) for column in columns]
        loss = columns[0].new_zeros(())
        for index, layer_weight in enumerate((1.0, *self.layer_weights)):
            if layer_weight:
                at_layer = [chunks[index] for chunks in by_layer]
                loss = loss + layer_weight * self.compute(at_layer, batch, dims, weights)
        return loss

    def _draw(self) -> tuple[Sequence[int], Sequence[float]]:
        if self.n_dims_per_step is None or not torch.is_grad_enabled():
            return self.dims, self.weights
        order = torch.randperm(len(self._counting), generator=self._generator).tolist()
        drawn = sorted(self._counting[place] for place in order[: self.n_dims_per_step])
        return [self.dims[index] for index in drawn], [self.weights[index] for index in drawn]


class _CachedParameterGradients(torch.autograd.Function):
    """Hands the loss's own parameters their gradients when, and scaled as, the outer backward pass asks for them.

    The gradient cache computes them beforehand, when gradient accumulation and loss scaling are not known yet.
    """

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        own = (None if gradient is None else gradient * grad_output for gradient in ctx.gradients)
        return (grad_output, None, *own)


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def _check_layer_weights(layers: Sequence[int], weights: Sequence[float] | None) -> tuple[float, ...]:
    if not layers:
        return ()
    try:
        return resolve_weights(layers, weights)
    except LossInputError as error:
        raise LossInputError(f"layer_weights, for layers {list(layers)}: {error}") from None
