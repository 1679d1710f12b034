"""Sizes that do not divide a model, or the GPUs there are, are refused before anything starts."""

from pathlib import Path

import pytest

from harness import machine
from harness.cli import app
from harness.parallel import require_gpus, require_splits
from harness.spec import Matrix, load_matrix
from harness.spec_machine import Engine
from maec.errors import InputError
from tests.harness.test_tasks import matrix_file

LLAMA_8B = {
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
QWEN_05B = {
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "num_hidden_layers": 24,
    "intermediate_size": 4864,
    "vocab_size": 151936,
}


def refused(config: dict, **sizes: int) -> str | None:
    try:
        require_splits(config, Engine(**sizes), "m.yaml: engine")
    except InputError as error:
        assert "\n" not in str(error) and str(error).startswith("m.yaml: engine.")
        return str(error)
    return None


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        (LLAMA_8B, {1, 2, 4, 8, 16, 32}),
        (QWEN_05B, {1, 2}),  # 7 and 14 divide its heads, but not its vocabulary
        ({"text_config": QWEN_05B}, {1, 2}),
        ({**LLAMA_8B, "num_key_value_heads": None}, {1, 2, 4, 8, 16, 32}),
        ({**LLAMA_8B, "num_key_value_heads": 6}, {1, 2}),
        ({**LLAMA_8B, "intermediate_size": 14340}, {1, 2, 4}),
        ({"num_attention_heads": 6}, {1, 2, 3, 6}),
        ({}, set(range(1, 50))),
    ],
)
def test_what_divides_heads_widths_and_padded_words_is_allowed(config: dict, allowed: set) -> None:
    found = {size for size in range(1, 50) if refused(config, tensor_parallel_size=size) is None}
    assert found == allowed


def test_a_refusal_says_what_is_allowed() -> None:
    told = refused(LLAMA_8B, tensor_parallel_size=3)
    assert "tensor_parallel_size: found 3; allowed: 1, 2, 4, 8, 16, 32, which divide" in told
    told = refused(LLAMA_8B, pipeline_parallel_size=33)
    assert "pipeline_parallel_size: found 33; allowed: 1 to 32, the base's layers" in told
    assert refused(LLAMA_8B, pipeline_parallel_size=32) is None
    told = refused({**LLAMA_8B, "num_local_experts": 8}, tensor_parallel_size=2)
    assert "allowed: 1, since parts of a mixture of experts" in told


def matrix(folder: Path, **keys: object) -> Matrix:
    return load_matrix(matrix_file(folder, **keys))


def test_engines_have_as_many_gpus_as_their_sizes_say(tmp_path: Path) -> None:
    engine = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}
    found = matrix(tmp_path, engine=engine)
    for gpus, engines in ((0, 1), (0, 2), (4, 1), (8, 2)):
        require_gpus(found, gpus, engines=engines)
    for gpus, engines in ((1, 1), (3, 1), (7, 2)):
        with pytest.raises(
            InputError, match=r"engine\.tensor_parallel_size: found 2; tensor_.* × "
        ):
            require_gpus(found, gpus, engines=engines)
    # at one point of an axis
    variants = [{"label": "a"}, {"label": "b", "engine": {"tensor_parallel_size": 4}}]
    split = matrix(tmp_path, engine={"dtype": "bfloat16"}, variants=variants)
    require_gpus(split, 4)
    with pytest.raises(InputError, match=r"variants\[1\]\.engine\.tensor_parallel_size: found 4"):
        require_gpus(split, 2)


def test_quantised_models_need_a_gpu(tmp_path: Path) -> None:
    engine = {"dtype": "bfloat16", "quantization": "fp8_per_channel"}
    found = matrix(tmp_path, engine=engine)
    require_gpus(found, 1)
    with pytest.raises(InputError, match=r"engine\.quantization: found 'fp8_.*takes a GPU"):
        require_gpus(found, 0)


@pytest.mark.parametrize(
    ("gpus", "engine", "told"),
    [
        (0, {"dtype": "bfloat16", "quantization": "fp8_per_block"}, "quantization: found 'fp8_per"),
        (1, {"pipeline_parallel_size": 2}, "pipeline_parallel_size: found 2; pipeline_parallel_"),
        (1, {"data_parallel_size": 2}, "data_parallel_size: found 2; data_parallel_size is 2 GPUs"),
    ],
)
def test_a_run_that_has_too_few_gpus_writes_nothing(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, engine: dict, told: str
) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ["a GPU"] * gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    path = matrix_file(tmp_path, engine=engine)
    with pytest.raises(InputError, match=f"{path.name}: engine.{told}"):
        app(["run", str(path)], standalone_mode=False)
    assert not home.exists() or not list(home.iterdir())
