"""Changes of activations, against numpy on the hidden states that transformers gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from maec.activations import activation_change, by_channel
from maec.checkpoint import open_checkpoint
from maec.errors import InputError
from maec.neurons import key_neurons
from maec.token_blocks import pack
from tests.harness.models import random_model

TEXTS = ["The fox is red.", "Ana has 3 cups. Ana buys 4 cups.", "3 + 4 = 7"] * 12
LENGTH = 32


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    return random_model(tmp_path, 1), random_model(tmp_path, 2)


def queries_and_logits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the second layer's q_proj and the output layer put out, [tokens, channels]."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    blocks = torch.tensor(list(pack(AutoTokenizer.from_pretrained(path), TEXTS, LENGTH)))
    with torch.no_grad():
        out = model(input_ids=blocks, output_hidden_states=True)
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    hidden = out.hidden_states[1].double().numpy().reshape(-1, model.config.hidden_size)
    scale = np.sqrt((hidden**2).mean(-1, keepdims=True) + model.config.rms_norm_eps)
    normed = hidden / scale * weights["model.layers.1.input_layernorm.weight"]
    queries = normed @ weights["model.layers.1.self_attn.q_proj.weight"].T
    return queries, out.logits.double().numpy().reshape(-1, model.config.vocab_size)


def test_the_change_of_a_channel_is_relative_to_its_activation_in_the_base(
    models: tuple[Path, Path],
) -> None:
    change = activation_change(*models, TEXTS, length=LENGTH)
    before, after = (queries_and_logits(path) for path in models)
    names = ("model.layers.1.self_attn.q_proj.weight", "lm_head.weight")
    for name, a_base, a_trained in zip(names, before, after, strict=True):
        expected = np.abs(a_trained - a_base).sum(0) / np.abs(a_base).sum(0)
        np.testing.assert_allclose(change[name].numpy(), expected, rtol=1e-4)


def test_there_is_a_number_for_every_channel_of_every_linear_layer_and_for_nothing_else(
    models: tuple[Path, Path],
) -> None:
    change = activation_change(*models, TEXTS, length=LENGTH)
    shapes = open_checkpoint(models[0]).float_shapes()
    linear = {n for n in shapes if len(shapes[n]) == 2 and n != "model.embed_tokens.weight"}
    assert set(change) == linear
    assert {name: tuple(value.shape) for name, value in change.items()} == {
        name: shapes[name][:1] for name in linear
    }


def test_a_model_does_not_differ_from_itself(models: tuple[Path, Path]) -> None:
    change = activation_change(models[0], models[0], TEXTS, length=LENGTH)
    assert not any(value.any() for value in change.values())


def test_key_channels_are_those_that_changed_most(models: tuple[Path, Path]) -> None:
    change = activation_change(*models, TEXTS, length=LENGTH)
    shapes = open_checkpoint(models[0]).float_shapes()
    linear = {name: shapes[name] for name in change}
    mask = key_neurons(by_channel(change, shapes), linear, 0.1, "row")
    scores = np.concatenate([change[name].numpy() for name in sorted(linear)])
    kept = np.concatenate([mask[name].numpy()[:, 0] for name in sorted(linear)])
    assert kept.sum() == round(0.1 * len(scores))
    assert scores[kept].min() >= scores[~kept].max()
    for entry in mask.values():
        assert (entry.numpy() == entry.numpy()[:, :1]).all()


def test_without_text_there_is_nothing_to_measure(models: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="no text"):
        activation_change(*models, [])
