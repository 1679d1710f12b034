"""One engine, two workers, each with a part of every layer: as one that has the whole model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness import engine as engines
from harness.served import checkpoint_products, differences
from harness.spec_machine import Engine
from maec.checkpoint import open_checkpoint
from tests.harness.models import random_model
from tests.harness.test_engine import PROMPTS, tensors_of, with_transformers, with_vllm
from tests.harness.test_parallel import LLAMA_8B, QWEN_05B, refused

pytestmark = pytest.mark.slow

STALE = (
    "model.embed_tokens.weight",  # split by words
    "model.layers.0.self_attn.q_proj.bias",  # by rows
    "model.layers.1.self_attn.k_proj.weight",  # whole on both, since there is one key head
    "model.layers.0.mlp.up_proj.weight",  # by rows
    "model.layers.1.mlp.down_proj.weight",  # by columns
    "model.norm.weight",  # whole on both
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [random_model(folder, seed, family="qwen2") for seed in range(2)]


@pytest.fixture(scope="module")
def split(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[engines.Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("MAEC_HOME", str(tmp_path_factory.mktemp("home")))
        live = engines.start(Engine(max_model_len=256, tensor_parallel_size=2), models[0])
        yield live
        live.stop()


def reload_on_last(worker: object, tensors: dict[str, torch.Tensor]) -> None:
    """Have the last worker alone load other weights."""
    if worker.rank == worker.parallel_config.world_size - 1:
        worker.reload_weights(weights_iterator=iter(tensors.items()))


def test_it_answers_as_transformers_does_after_every_switch_and_stream(
    split: engines.Engine, models: list[Path]
) -> None:
    for path in (models[1], models[0]):
        split.switch(path)
        answers = [with_vllm(split, prompt) for prompt in PROMPTS]
        for prompt, (likelihoods, tokens) in zip(PROMPTS, answers, strict=True):
            expected, greedy = with_transformers(path, prompt)
            torch.testing.assert_close(likelihoods, expected, atol=1e-3, rtol=1e-3)
            assert tokens == greedy[: len(tokens)]
    split.stream(reversed(tensors_of(models[1]).items()), "streamed")
    assert [with_vllm(split, prompt)[1] for prompt in PROMPTS] != [t for _, t in answers]
    split.stream(reversed(tensors_of(models[0]).items()), "streamed")
    for prompt, (likelihoods, tokens) in zip(PROMPTS, answers, strict=True):
        again, same = with_vllm(split, prompt)
        torch.testing.assert_close(again, likelihoods, atol=0, rtol=0)
        assert same == tokens


def test_one_stale_part_of_one_layer_on_one_worker_is_found_out(
    split: engines.Engine, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tensors_of(models[0]), tensors_of(models[1])
    expected = checkpoint_products(open_checkpoint(models[1]), torch.float32)
    split.switch(models[1])
    real = split.lm.model.collective_rpc
    assert differences(real("served_products"), expected, 1e-4) == []
    for name in STALE:
        real(reload_on_last, args=({**new, name: 1.5 * old[name]},))
        found = differences(real("served_products"), expected, 1e-4)
        assert found[0].startswith(name) and all(name in one for one in found), (name, found)
    # a tensor that one worker did not get keeps its old part
    split.switch(models[0])
    left = {name: tensor for name, tensor in new.items() if name != STALE[3]}

    def forgets(method: object, **kwargs: object) -> object:
        answer = real(method, **kwargs)
        if method == "reload_weights":
            real(reload_on_last, args=(old,))
            real(reload_on_last, args=(left,))
        return answer

    monkeypatch.setattr(split.lm.model, "collective_rpc", forgets)
    with pytest.raises(engines.StaleWeights, match=r"serves other weights: .*up_proj.* differs"):
        split.switch(models[1])


def test_an_output_layer_that_keeps_its_copy_of_the_embeddings_is_found_out(
    split: engines.Engine, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    split.switch(models[0])
    real = split.lm.model.collective_rpc

    def keeps(method: object, **kwargs: object) -> object:
        return None if method == "pack_output_layer" else real(method, **kwargs)

    monkeypatch.setattr(split.lm.model, "collective_rpc", keeps)
    with pytest.raises(engines.StaleWeights, match=r"embed_tokens\.weight has copies that differ"):
        split.switch(models[1])


def test_vllm_itself_splits_what_is_allowed_and_nothing_else() -> None:
    """By the arithmetic of its layers: heads, copies of key heads, and padded words."""
    from vllm.distributed.utils import divide
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        VocabParallelEmbedding,
        pad_vocab_size,
    )

    def splits(config: dict, size: int) -> bool:
        heads, keys = config["num_attention_heads"], config["num_key_value_heads"]
        words = config["vocab_size"]
        try:
            divide(heads, size)
            divide(size, keys) if size >= keys else divide(keys, size)
            divide(config["intermediate_size"], size)
            padded = pad_vocab_size(words)
            VocabParallelEmbedding._get_indices(padded, padded, words, words, 0, size)
        except AssertionError:
            return False
        return True

    for config in (LLAMA_8B, QWEN_05B, {**LLAMA_8B, "num_key_value_heads": 6}):
        for size in range(1, 40):
            ours = refused(config, tensor_parallel_size=size) is None
            assert ours == splits(config, size), (config, size)


def test_the_methods_of_quantisation_are_those_of_vllm_for_linear_layers() -> None:
    from typing import get_args

    from vllm.config.quantization import _ONLINE_SHORTHANDS
    from vllm.model_executor.layers.quantization.online.base import _ONLINE_LINEAR_METHODS
    from vllm.model_executor.layers.quantization.online.fp8 import OnlineLinearBase

    from harness.spec_machine import Quantization

    for name in get_args(Quantization):
        method = _ONLINE_LINEAR_METHODS[_ONLINE_SHORTHANDS[name].linear.weight]
        # these are processed anew by reload_weights, layer by layer
        assert issubclass(method, OnlineLinearBase)
