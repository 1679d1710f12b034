"""Prices: by hand from formulas and published sizes, and against torch and peft; no network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import footprint
from harness.footprint import Shape
from harness.jobs import on_gpus
from harness.plan import make_plan
from harness.price import GPUS, Prices, assumptions, price
from harness.price_table import table
from harness.spec import load_matrix
from harness.spec_machine import Engine
from maec.errors import InputError
from maec.settings import TrainSettings
from tests.harness.test_tasks import matrix_file

# config.json and the number of parameters of meta-llama/Meta-Llama-3-8B
PARAMETERS = 8_030_261_248
CONFIG = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
TRAINING = {
    "steps": 500,
    "learning_rate": 1e-5,
    "batch_size": 16,
    "sequence_length": 2048,
    "precision": "bfloat16",
}
TOKENS = 500 * 16 * 2048
ROLES = ("language", "ability", "locate", "key_neurons", "pivot")


def large(folder: Path, **changes: object):
    """A matrix of the size of the paper's, with nothing of it here."""
    keys = {
        "base": "meta-llama/Meta-Llama-3-8B",
        "parameters": PARAMETERS,
        "config": CONFIG,
        "languages": ["te"],
        "methods": ["base", "f-cpt-a", "tv", "maec"],
        "corpora": {
            "general": {"*": {"dataset": "org/wiki@r", "name": "{language}"}},
            "ability": {"math": {"dataset": "org/sums@r"}},
        },
        "tokens": {"general": 5e6, "pivot": 1e9, "ability": 1e9},
        "training": dict.fromkeys(ROLES, TRAINING),
        "engine": {"dtype": "bfloat16", "max_model_len": 2048, "max_num_seqs": 64},
        **changes,
    }
    return make_plan(load_matrix(matrix_file(folder, **keys)))


def known(found: dict, group: str, figure: str) -> float:
    value = (found["total"] if group == "total" else found["groups"][group])[figure]
    assert value["unknown"] == 0
    return value["known"]


def test_a_large_matrix_is_priced_by_hand_before_anything_of_it_is_here(
    tmp_path: Path, home: Path
) -> None:
    found = price(large(tmp_path), "a100", 0.5)
    assert known(found, "fetch", "download") == known(found, "fetch", "disk") == 2 * PARAMETERS
    flops = 6 * PARAMETERS * TOKENS
    assert known(found, "train language", "flops") == flops
    hours = flops / (312e12 * 0.5) / 3600
    assert known(found, "train language", "gpu_hours") == pytest.approx(hours)
    assert known(found, "train language", "disk") == 4 * PARAMETERS
    # 500 × 16 × 2048 tokens are more than the corpus may give, and less than the others may
    assert known(found, "train language", "download") == 4 * 5_000_000
    assert known(found, "train ability", "download") == 4 * TOKENS
    assert known(found, "locate", "disk") == round(PARAMETERS / 8)
    assert known(found, "extract", "disk") == round(0.05 * 5 * PARAMETERS)
    # two models each: of te and of en; they are merged on the CPU, to bfloat16
    assert known(found, "mergekit", "disk") == 2 * PARAMETERS
    assert known(found, "combine", "gpu_memory") == known(found, "combine", "flops") == 0
    cached = 2 * 32 * 8 * 128 * 64 * 2048 * 2
    assert known(found, "evaluation", "gpu_memory") == 2 * PARAMETERS + cached
    for figure in ("download", "disk", "flops", "gpu_hours"):
        parts = sum(known(found, group, figure) for group in found["groups"])
        assert known(found, "total", figure) == pytest.approx(parts)


def test_training_memory_is_16_bytes_a_parameter_and_what_a_step_keeps() -> None:
    shape = Shape.of(CONFIG)
    assert shape == Shape(4096, 14336, 32, 4096, 1024, 128256)
    short = TrainSettings(**{**TRAINING, "batch_size": 1, "sequence_length": 2})
    plain = short.model_copy(update={"precision": "float32"})
    least = footprint.training(plain, PARAMETERS, shape)
    # the optimiser's step needs more than what two tokens keep
    assert least == (16 + 4) * PARAMETERS
    assert footprint.training(short, PARAMETERS, shape) == least + 2 * PARAMETERS
    decayed = plain.model_copy(update={"weight_decay": 0.1})
    assert footprint.training(decayed, PARAMETERS, shape, masked=True) == least + PARAMETERS
    recorded = plain.model_copy(update={"record_gradient": True})
    assert footprint.training(recorded, PARAMETERS, shape) == least + 4 * PARAMETERS
    shared = footprint.training(plain, PARAMETERS, shape, processes=4)
    # a quarter of the state, and two layers, embeddings and output layer with a gradient
    assert 4 * PARAMETERS < shared < 4 * PARAMETERS + 4 * 4 * 128256 * 4096
    lora = footprint.training(plain.model_copy(update={"lora_rank": 8}), PARAMETERS, shape)
    assert 4 * PARAMETERS < lora < 4.1 * PARAMETERS
    long = TrainSettings(**TRAINING)
    kept = footprint.activations(long, shape)
    assert footprint.training(long, PARAMETERS, shape) == 18 * PARAMETERS + kept
    assert footprint.training(plain, None, shape) is None
    assert footprint.training(plain, PARAMETERS, None) is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_activations_are_about_what_torch_keeps_for_the_backward_pass(
    family: str, precision: str
) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = TrainSettings(
        steps=1, learning_rate=1, batch_size=2, sequence_length=64, precision=precision
    )
    config = AutoConfig.for_model(
        family,
        vocab_size=50,  # little: what the output layer takes is gone before anything can be counted
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(0, 50, (2, 64))
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    with half, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, labels=ids, use_cache=False)
    found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    if precision == "bfloat16":
        found -= 2 * sum(p.numel() for n, p in model.named_parameters() if "proj" in n)
    expected = footprint.activations(settings, Shape.of(config.to_dict()))
    assert 0.8 < found / expected < 1.2


def test_the_size_of_adapters_is_that_of_pefts() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {**CONFIG, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 3}
    config = AutoConfig.for_model("llama", **{**sizes, "vocab_size": 30, "head_dim": 4})
    model = AutoModelForCausalLM.from_config(config)
    adapted = get_peft_model(model, LoraConfig(r=5, target_modules="all-linear"))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert 5 * footprint._lora(Shape.of(config.to_dict())) == trained


def test_what_a_model_is_asked_is_counted_from_its_questions(tmp_path: Path, home: Path) -> None:
    (tmp_path / "q_te.tsv").write_text(f"{'a' * 300}\t1\n{'b' * 300}\t2\n", encoding="utf-8")
    (tmp_path / "q_en.tsv").write_text(f"{'c' * 600}\t1\n", encoding="utf-8")
    plan = large(
        tmp_path,
        methods=["base"],
        abilities=["mine"],
        corpora=None,
        tasks={"mine": {"files": "q_{language}.tsv"}},
    )
    (first, *_) = [cell.task for cell in plan.cells]
    limit = first.config["generation_kwargs"].get("max_gen_toks", 256)
    found = price(plan)
    assert found["groups"]["evaluation"]["count"] == 2
    tokens = 2 * 100 + 200 + 3 * limit
    assert known(found, "evaluation", "flops") == 2 * PARAMETERS * tokens


def test_an_engine_takes_the_gpus_that_it_is_split_among(tmp_path: Path, home: Path) -> None:
    engine = {"dtype": "bfloat16", "tensor_parallel_size": 2, "pipeline_parallel_size": 2}
    variants = [{"label": "whole", "engine": {"pipeline_parallel_size": 1}}, {"label": "split"}]
    plan = large(tmp_path, methods=["base"], engine=engine, variants=variants)
    prices = Prices(plan, "h100", 0.5)
    jobs = [job for job in on_gpus(plan, prices, GPUS["h100"], 1, 8).jobs if job.model]
    assert [job.gpus for job in jobs] == [2, 2, 4, 4]
    # points with engines of their own share none
    assert len({job.base for job in jobs}) == len({job.model for job in jobs}) == 2
    assert len({job.key for job in jobs}) == 4
    with pytest.raises(InputError, match="--gpus: 2: an engine of this matrix is split among 4"):
        on_gpus(plan, prices, GPUS["h100"], 8, 2)
    assert any("split among up to 4 GPUs" in line for line in assumptions(plan, price(plan)))
    # what does not divide the stated heads is refused before anything is here
    with pytest.raises(InputError, match=r"found 3; allowed: 1, 2, 4, 8, 16, 32, which divide"):
        large(tmp_path, engine={"tensor_parallel_size": 3})


def test_quantised_weights_take_a_byte_but_for_embeddings_and_output_layer() -> None:
    engine = Engine(dtype="bfloat16", quantization="fp8_per_channel")
    embeddings = 2 * 128256 * 4096
    by_hand = (PARAMETERS - embeddings) + 2 * embeddings
    assert footprint.weights(engine, PARAMETERS, Shape.of(CONFIG)) == by_hand
    assert footprint.weights(Engine(dtype="bfloat16"), PARAMETERS, None) == 2 * PARAMETERS


def test_what_is_unknown_is_said_and_never_nothing(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture
) -> None:
    plan = large(tmp_path, parameters=None, config={})
    found = price(plan)
    for group, figures in found["groups"].items():
        for figure in ("disk", "flops", "gpu_hours"):
            on_cpu = group in ("locate", "extract", "combine", "mergekit", "fetch")
            nothing = (figure == "disk") if group == "evaluation" else figure != "disk" and on_cpu
            assert figures[figure]["known"] == 0, (group, figure)
            assert figures[figure]["unknown"] == (0 if nothing else figures["count"])
    from rich.console import Console

    Console(width=140).print(table("large", found))
    shown = capsys.readouterr().out
    assert "unknown" in next(line for line in shown.splitlines() if "fetch" in line)
    assert any("Of unknown size" in line for line in assumptions(plan, found))
    # parameters alone price all but what depends on layers
    found = price(large(tmp_path, config={}))
    assert known(found, "train language", "flops") > 0
    assert found["groups"]["train language"]["gpu_memory"] == {"known": 0, "unknown": 1}


def test_more_than_a_gpus_memory_is_said(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture
) -> None:
    from rich.console import Console

    Console(width=140).print(table("large", price(large(tmp_path))))
    shown = capsys.readouterr().out
    assert "GPUs)" in next(line for line in shown.splitlines() if "train ability" in line)
    assert "GPUs)" not in next(line for line in shown.splitlines() if "evaluation" in line)


def test_float32_is_priced_at_the_speed_of_float32(tmp_path: Path, home: Path) -> None:
    slow = {role: {**TRAINING, "precision": "float32"} for role in ROLES}
    fast, slow = price(large(tmp_path)), price(large(tmp_path, training=slow))
    gpu = GPUS["h100"]
    hours = [known(found, "train ability", "gpu_hours") for found in (fast, slow)]
    assert hours[1] / hours[0] == pytest.approx(gpu.bfloat16 / gpu.float32)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("h200x", 0.4), "--gpu: 'h200x' is unknown; did you mean 'h200'?"),
        (("h100", 0.0), "--utilisation: 0.0; give a share in (0, 1]"),
        (("h100", 1.5), "--utilisation: 1.5"),
    ],
)
def test_a_gpu_that_nobody_knows_is_refused(
    tmp_path: Path, home: Path, arguments: tuple, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        price(large(tmp_path), *arguments)
    assert expected in str(caught.value)


def test_the_command_asks_no_network_imports_nothing_heavy_and_makes_nothing(
    tmp_path: Path, home: Path
) -> None:
    large(tmp_path)
    program = f"""
import socket, sys
def refuse(*_, **__):
    raise AssertionError("a network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from harness import cli
sys.argv = ["harness", "plan", {str(tmp_path / "matrix.yaml")!r}, *sys.argv[1:]]
try:
    cli.main()
except SystemExit as done:
    assert not done.code, done.code
heavy = {{"torch", "vllm", "transformers", "lm_eval", "datasets"}} & set(sys.modules)
assert not heavy, heavy
"""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            env={"MAEC_HOME": str(home), "HF_HOME": str(tmp_path / "hf"), "COLUMNS": "140"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = json.loads(run("--json", "--gpu", "a100", "--utilisation", "0.5"))
    assert told["price"]["gpu"] == "NVIDIA A100 80 GB"
    assert told["price"]["total"]["gpu_hours"]["unknown"] == 0
    shown = run()
    assert "what is left to do" in shown and "NVIDIA H100 SXM" in shown
    assert "fetch meta-llama" not in shown and "fetch meta-llama" in run("--steps")
    assert not home.exists()


def test_an_engine_of_its_own_holds_as_many_sequences_as_a_batch() -> None:
    shape = Shape.of(CONFIG)
    engine = Engine(kind="transformers", dtype="float16", batch_size=3, max_model_len=100)
    keys_and_values = 2 * 32 * 1024 * 3 * 100
    assert footprint.serving(engine, 7, shape) == 2 * (7 + keys_and_values)
