"""The loss modules inside the trainer of sentence-transformers. Run: pytest tests/test_losses_modules.py (20 s)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer import losses as theirs
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import ModernBertConfig, ModernBertModel

from builders import build_tiny_model, synthetic_rows
from loss_cases import BY_NAME
from module_checks import features_of, make_model, texts_of
from nestvec import losses
from nestvec.errors import DimensionError, LossInputError
from nestvec.losses.modules.layers import with_layers

DIMS = [16, 8, 4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny", dim=16, n_layers=3)


def load(folder: Path) -> SentenceTransformer:
    model = SentenceTransformer(str(folder), device="cpu")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def pairs(count: int = 32) -> Dataset:
    rows = synthetic_rows(count, seed=3)
    columns = {
        "query": [row["query"] for row in rows],
        "positive": [row["positive"] for row in rows],
        "negative": [row["negatives"][0] for row in rows],
    }
    return Dataset.from_dict(columns)


def fit(
    model: SentenceTransformer,
    loss: torch.nn.Module,
    data: Dataset,
    folder: Path,
    evaluation: Dataset | None = None,
    **options,
) -> None:
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        **{
            "max_steps": 4,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-3,
            "report_to": "none",
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **options,
        },
    )

    class Quiet(SentenceTransformerTrainer):
        def add_model_card_callback(self, default_args_dict) -> None:
            pass

    Quiet(model=model, args=arguments, train_dataset=data, eval_dataset=evaluation, loss=loss).train()


def assert_same_weights(one: SentenceTransformer, other: SentenceTransformer, base: Path) -> None:
    start = load(base).state_dict()
    moved = max(float((one.state_dict()[name] - value).abs().max()) for name, value in start.items())
    assert moved > 1e-4, "training changed nothing"
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], atol=1e-2 * moved, rtol=0)


@pytest.mark.parametrize(
    ("theirs_of", "ours_of"),
    [
        (
            lambda model: theirs.MultipleNegativesRankingLoss(model),
            lambda model: losses.NestedInfoNCE(model, DIMS, [1.0, 0.5, 0.25]),
        ),
        (
            lambda model: theirs.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3),
            lambda model: losses.NestedInfoNCE(model, DIMS, [1.0, 0.5, 0.25], mini_batch_size=3),
        ),
    ],
    ids=["plain", "cached"],
)
def test_it_takes_the_place_of_matryoshka_loss(theirs_of, ours_of, folder: Path, tmp_path: Path) -> None:
    models = [load(folder), load(folder)]
    matryoshka = theirs.MatryoshkaLoss(models[0], theirs_of(models[0]), DIMS, [1.0, 0.5, 0.25])
    fit(models[0], matryoshka, pairs(), tmp_path / "theirs", gradient_accumulation_steps=2)
    fit(models[1], ours_of(models[1]), pairs(), tmp_path / "ours", gradient_accumulation_steps=2)
    assert_same_weights(models[1], models[0], folder)


def test_a_gradient_cache_trains_like_the_whole_batch_also_the_parts_of_the_loss(folder: Path, tmp_path: Path) -> None:
    models, temperatures = [load(folder), load(folder)], []
    for model, mini_batch_size in zip(models, (None, 3), strict=True):
        loss = losses.NestedInfoNCE(model, DIMS, learn_temperature=True, mini_batch_size=mini_batch_size)
        fit(model, loss, pairs(), tmp_path / str(mini_batch_size), gradient_accumulation_steps=2)
        temperatures.append(float(loss.temperature.detach()))
    assert_same_weights(models[0], models[1], folder)
    assert temperatures[0] == pytest.approx(temperatures[1], rel=1e-5)
    assert abs(temperatures[0] - 0.05) > 1e-5, "the temperature was not trained"


def test_heads_are_trained_with_the_model(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    rows = synthetic_rows(32, seed=4)
    data = Dataset.from_dict({"text": [row["query"] for row in rows], "label": [i % 3 for i in range(32)]})
    loss = losses.NestedSoftmax(model, DIMS, n_classes=3)
    before = [head.detach().clone() for head in loss.heads]
    fit(model, loss, data, tmp_path)
    assert all(not torch.equal(head, old) for head, old in zip(loss.heads, before, strict=True))
    assert [tuple(head.shape) for head in loss.heads] == [(3, 16), (3, 8), (3, 4)]


def test_scores_and_teacher_vectors_come_as_the_label_column(folder: Path, tmp_path: Path) -> None:
    rows = synthetic_rows(16, seed=5)
    texts = {"left": [row["query"] for row in rows], "right": [row["positive"] for row in rows]}
    teacher = torch.randn(16, 2, 16).tolist()
    for label, make in (
        ([i / 16 for i in range(16)], losses.NestedCoSENT),
        (teacher, losses.NestedEmbeddingDistillation),
        (teacher, losses.NestedSimilarityDistillation),
    ):
        model = load(folder)
        fit(model, make(model, DIMS), Dataset.from_dict({**texts, "label": label}), tmp_path / make.__name__)


@pytest.mark.parametrize("mini_batch_size", [None, 3])
@pytest.mark.parametrize("bf16", [False, True])
def test_the_trainer_also_evaluates(folder: Path, tmp_path: Path, mini_batch_size: int | None, bf16: bool) -> None:
    model = load(folder)
    loss = losses.NestedInfoNCE(model, DIMS, learn_temperature=True, mini_batch_size=mini_batch_size, layers=[1])
    options = {"eval_strategy": "steps", "eval_steps": 2, "bf16": bf16, "per_device_eval_batch_size": 8}
    fit(model, loss, pairs(), tmp_path, evaluation=pairs(16), **options)
    assert loss._parameter_gradients == []  # nothing of a step stays behind


def test_what_is_frozen_in_the_loss_stays_frozen_under_a_gradient_cache(folder: Path) -> None:
    model = make_model("transformer", folder, folder)
    loss = losses.NestedInfoNCE(model, DIMS, learn_temperature=True, mini_batch_size=5).double()
    loss.log_temperature.requires_grad_(False)
    loss(features_of(model, texts_of(2))).backward()
    assert loss.log_temperature.grad is None
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_a_learned_temperature_can_leave_its_floor_again() -> None:
    loss = losses.NestedInfoNCE(torch.nn.Identity(), DIMS, learn_temperature=True)
    with torch.no_grad():
        loss.log_temperature.fill_(-9.0)
    temperature = loss.temperature
    assert float(temperature.detach()) == pytest.approx(0.01)
    temperature.backward()
    assert loss.log_temperature.grad != 0


def test_a_wrapped_model_is_checked_like_the_one_inside(folder: Path) -> None:
    wrapped = torch.nn.DataParallel(load(folder))
    assert losses.NestedInfoNCE(wrapped, DIMS, mini_batch_size=4, layers=[1]).layers == (1,)
    with pytest.raises(DimensionError):
        losses.NestedInfoNCE(wrapped, [64, 8])


def test_labels_are_checked_before_the_model_does_any_work(folder: Path) -> None:
    class Untouched(torch.nn.Module):
        def forward(self, features):
            raise AssertionError("the model was asked to work")

    features = features_of(load(folder), texts_of(2))
    for make, columns, labels, message in (
        (losses.NestedCosineRegression, 2, torch.full((12,), 5.0), "from -1 to 1"),
        (losses.NestedCoSENT, 2, None, "no labels"),
        (losses.NestedContrastive, 2, torch.full((12,), 2), "A label is 2"),
        (losses.NestedBatchHardTriplet, 1, torch.ones(12), "whole numbers"),
        (lambda model, dims: losses.NestedSoftmax(model, dims, n_classes=2), 1, torch.full((12,), 2), "2 classes"),
        (losses.NestedEmbeddingDistillation, 1, None, "no labels"),
    ):
        with pytest.raises(LossInputError, match=message):
            make(Untouched(), DIMS)(features[:columns], labels)


@pytest.mark.parametrize("mini_batch_size", [None, 4])
def test_an_evaluation_takes_all_dims(folder: Path, mini_batch_size: int | None) -> None:
    model = make_model("transformer", folder, folder)
    features = features_of(model, texts_of(2))
    drawing = losses.NestedInfoNCE(model, DIMS, n_dims_per_step=1, mini_batch_size=mini_batch_size)
    with torch.no_grad():
        expected = losses.NestedInfoNCE(model, DIMS)(features_of(model, texts_of(2)))
        torch.testing.assert_close(drawing(features), expected)


def test_draws_of_dims_are_seeded_even_and_can_be_continued(folder: Path) -> None:
    def drawn(loss: losses.NestedLoss, steps: int) -> list[tuple[int, ...]]:
        seen: list[tuple[int, ...]] = []

        def record(_columns, _batch, dims, weights):
            assert weights == [loss.weights[loss.dims.index(dim)] for dim in dims]
            seen.append(tuple(dims))
            return torch.zeros(())

        loss.compute = record  # what the draw is handed to
        for _ in range(steps):
            loss([{"x": torch.ones(2, 16)}, {"x": torch.ones(2, 16)}])
        return seen

    class Given(torch.nn.Module):
        def forward(self, features):
            return {"sentence_embedding": features["x"]}

    def make(seed: int) -> losses.NestedLoss:
        return losses.NestedInfoNCE(Given(), [16, 8, 4, 2], [1.0, 2.0, 0.0, 3.0], n_dims_per_step=2, seed=seed)

    first = drawn(make(0), 300)
    assert first == drawn(make(0), 300)
    assert first != drawn(make(1), 300)
    assert all(len(dims) == 2 and dims[0] > dims[1] and 4 not in dims for dims in first)
    for dim in (16, 8, 2):  # each with chance 2/3; three standard deviations are 25
        assert 175 <= sum(dim in dims for dims in first) <= 225
    stopped = make(0)
    drawn(stopped, 100)
    continued = make(9)
    continued.load_state_dict(stopped.state_dict())
    assert drawn(continued, 200) == first[100:]


@pytest.mark.parametrize("name", list(BY_NAME))
def test_settings_are_plain_values_for_the_model_card(name: str, folder: Path) -> None:
    case, model = BY_NAME[name], load(folder)
    options = {"layers": [1], "mini_batch_size": 4, "n_dims_per_step": 2}
    config = case.module(model, DIMS, **case.settings, **options).get_config_dict()
    assert json.loads(json.dumps(config)) == config
    assert config["dims"] == DIMS
    assert config["layers"] == [1]
    for key, value in case.settings.items():
        assert config[key] == value


@pytest.mark.parametrize("name", list(BY_NAME))
def test_the_data_set_has_the_columns_the_loss_needs(name: str, folder: Path) -> None:
    case, model = BY_NAME[name], make_model("transformer", folder, folder)
    loss = case.module(model, DIMS, **case.settings)
    fewest, most = loss.n_columns
    labels = case.labels(torch.Generator().manual_seed(0), 12)
    wrong = [count for count in (fewest - 1, None if most is None else most + 1) if count]
    for count in wrong:
        with pytest.raises(LossInputError, match=f"{type(loss).__name__} got {count} text columns"):
            loss(features_of(model, texts_of(count)), labels)
    if labels is not None and "similarity" not in name:
        with pytest.raises(LossInputError, match="no labels"):
            loss(features_of(model, texts_of(case.n_columns)))


def test_teacher_vectors_of_another_number_of_columns_are_refused(folder: Path) -> None:
    model = make_model("transformer", folder, folder)
    loss = losses.NestedEmbeddingDistillation(model, DIMS)
    with pytest.raises(LossInputError, match=r"\[rows, 2, dim\], or \[rows, dim\]"):
        loss(features_of(model, texts_of(2)), torch.ones(12, 3, 16))


def test_layers_leave_the_encoder_as_it_was_also_after_an_error(folder: Path) -> None:
    model = load(folder)
    encoder = model[0]
    with pytest.raises(KeyError), with_layers(model, [1, 2]):
        model({"input_ids": torch.ones(2, 3, dtype=torch.long), "attention_mask": torch.ones(2, 3, dtype=torch.long)})
        raise KeyError
    assert not encoder._forward_hooks
    assert not encoder.model.config.output_hidden_states
    for layers, message in (([3], "Choose from 1 to 2"), ([0], "Choose from 1 to 2"), ([1, 1], "twice|name one")):
        with pytest.raises(LossInputError, match=message):
            losses.NestedInfoNCE(model, DIMS, layers=layers)
    with pytest.raises(LossInputError, match="layer_weights, for layers"):
        losses.NestedInfoNCE(model, DIMS, layers=[1, 2], layer_weights=[1.0])


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_a_model_cut_to_a_layer_is_what_was_trained_at_that_layer(folder: Path, tmp_path: Path, kind: str) -> None:
    model = load(folder).eval()
    if kind == "modernbert":  # normalises behind its last layer
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
        tokens = {"vocab_size": len(model.tokenizer), "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
        encoder = ModernBertModel(ModernBertConfig(**sizes, **tokens, attn_implementation="eager"))
        torch.nn.init.uniform_(encoder.final_norm.weight, 0.2, 3.0)
        encoder.save_pretrained(tmp_path / "modernbert")
        model.tokenizer.save_pretrained(tmp_path / "modernbert")
        model = SentenceTransformer(
            modules=[Transformer(str(tmp_path / "modernbert")), Pooling(16)], device="cpu"
        ).eval()
    texts = ["the river", "what does the castle"]
    with with_layers(model, [2]), torch.no_grad():
        stacked = model(model.preprocess(texts))["sentence_embedding"]
    encoder = model[0].model
    if kind == "bert":
        encoder.encoder.layer = encoder.encoder.layer[:2]
    else:
        encoder.layers = encoder.layers[:2]
    torch.testing.assert_close(stacked[2:], model.encode(texts, convert_to_tensor=True))
