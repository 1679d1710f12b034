"""LoRA adapters as language and ability models, against peft's own merging."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from maec.adapter import open_adapter
from maec.compatible import fitted, open_base
from maec.errors import InputError
from maec.extract import extract
from maec.merge import merge
from maec.recipe import load_recipe

from . import numpy_reference
from .checkpoints import WORDS, read_torch, same_bits, write_recipe, write_tokenizer
from .families import arrays, save_model
from .numpy_reference import Ability

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def save_adapter(
    folder: Path, base: Path, seed: int = 7, dtype: torch.dtype = torch.float32, **settings: object
) -> Path:
    """An adapter of `base` in which every trainable parameter is random, as peft saves it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    how = {"r": 4, "lora_alpha": 6, "target_modules": LINEAR, "task_type": "CAUSAL_LM"}
    wrapped = get_peft_model(model, LoraConfig(**(how | settings)))
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
                parameter.data = parameter.data.to(dtype)
    wrapped.save_pretrained(folder)
    return folder


def merged_by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """The tensors that peft makes of both, in float32."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()


def require_same(base: Path, adapter: Path, dtype: torch.dtype = torch.float32) -> None:
    """What is read here is what peft makes, tensor by tensor, up to the last float32 digits."""
    origin = open_base(base)
    model, expected = fitted(origin, adapter), merged_by_peft(base, adapter)
    slack = 1e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    changed = set()
    for name in origin.tensors:
        ours, theirs, before = model.read(name).float(), expected[name], origin.read(name).float()
        allowed = slack * torch.maximum((theirs - before).abs(), theirs.abs() * 1e-2) + 1e-6
        assert ((ours - theirs).abs() <= allowed).all(), name
        if not ours.equal(before):
            changed.add(name)
    adapted = {key for key in load_file(adapter / "adapter_model.safetensors")}
    assert changed and adapted
    for name in changed:  # and each change comes from a tensor of the adapter
        assert any(name.removesuffix(".weight") in key for key in adapted)


SETTINGS = {
    "plain": {},
    "some": {"target_modules": ["q_proj", "v_proj"]},
    "layer": {"layers_to_transform": [1]},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 3},
        "alpha_pattern": {"q_proj": 5, r"layers\.\d+\.mlp\.down_proj": 9},
    },
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "output-layer": {"target_modules": ["lm_head", "q_proj"]},
    "saved": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "saved-norm": {"modules_to_save": ["norm", "lm_head"]},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_an_adapter_is_read_as_peft_merges_it(tmp_path: Path, settings: dict[str, object]) -> None:
    base = save_model(tmp_path / "base", "llama", 1)
    require_same(base, save_adapter(tmp_path / "adapter", base, **settings))


@pytest.mark.parametrize("family", ["gemma3_text", "qwen2"])
def test_adapters_of_tied_models_are_read_as_peft_merges_them(tmp_path: Path, family: str) -> None:
    base = save_model(tmp_path / "base", family, 1, tied=True)
    require_same(base, save_adapter(tmp_path / "adapter", base))


def test_saved_embeddings_that_stay_tied_are_read_as_peft_merges_them(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", "qwen2", 1, tied=True)
    settings = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    adapter = save_adapter(tmp_path / "adapter", base, **settings)
    require_same(base, adapter)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["embed_tokens"]},
        {"ensure_weight_tying": True, "target_modules": ["embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
    ],
    ids=["embedding", "embedding-twice", "output", "saved-embedding", "saved-output"],
)
def test_embeddings_that_would_no_longer_be_tied_are_refused(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    base = save_model(tmp_path / "base", "qwen2", 1, tied=True)
    refused(base, save_adapter(tmp_path / "adapter", base, **settings), "tied")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_adapter_of_half_precision_is_multiplied_in_float32(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    base = save_model(tmp_path / "base", "llama", 1, dtype=torch.bfloat16)
    adapter = save_adapter(tmp_path / "adapter", base, dtype=dtype)
    stored = load_file(adapter / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    require_same(base, adapter, dtype)
    module = "model.layers.0.mlp.up_proj"
    a, b = (stored[f"base_model.model.{module}.lora_{factor}.weight"].double() for factor in "AB")
    exact = read_torch(base)[f"{module}.weight"].double() + 6 / 4 * (b @ a)
    ours = open_adapter(adapter, open_base(base)).read(f"{module}.weight")
    assert ours.dtype == torch.float32
    assert torch.allclose(ours.double(), exact, rtol=1e-6, atol=1e-6)


def test_adapters_merge_like_the_models_they_make(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", "qwen3", 1, shards=True)
    parts = {}
    for seed, name in enumerate(("es", "math", "en")):
        adapter = save_adapter(tmp_path / name, base, seed)
        model = AutoModelForCausalLM.from_pretrained(base)
        whole = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        whole.save_pretrained(tmp_path / f"{name}-whole")
        parts[name] = arrays(tmp_path / f"{name}-whole")
    recipe = write_recipe(
        tmp_path / "recipe.yaml",
        base=base,
        languages=[{"model": tmp_path / "es", "mu": 0.7}],
        abilities=[{"model": tmp_path / "math", "pivot": tmp_path / "en", "k1": 0.2, "k2": 0.6}],
        dtype="float32",
    )
    merge(load_recipe(recipe), tmp_path / "out")
    ability = Ability(parts["math"], parts["en"], k1=0.2, beta=0.2, k2=0.6)
    expected = numpy_reference.merge(arrays(base), [(parts["es"], 0.7)], [ability])
    result = arrays(tmp_path / "out")
    # peft rounds its product otherwise: at the threshold an entry or two may be key or not
    apart = sum(int((abs(result[name] - expected.values[name]) > 1e-5).sum()) for name in result)
    assert result.keys() == expected.values.keys() and apart <= 2
    report = json.loads((tmp_path / "out" / "maec.json").read_text())
    stored = report["languages"][0]
    assert stored["path"] == str((tmp_path / "es").resolve()) and len(stored["fingerprint"]) == 64
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_an_adapter_that_brings_new_tokens_merges_like_the_model_it_makes(tmp_path: Path) -> None:
    """As languages are most often added: new rows, saved whole, and the rest low-rank."""
    base = save_model(tmp_path / "base", "llama", 1, rows=32)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(36, mean_resizing=False)
    saved = ["embed_tokens", "lm_head"]
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=saved)
    wrapped = get_peft_model(model, config)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    wrapped.save_pretrained(tmp_path / "adapter")
    wrapped.merge_and_unload().save_pretrained(tmp_path / "whole")
    words = (*WORDS, "new0", "new1", "new2", "new3")
    for name in ("adapter", "whole"):
        write_tokenizer(tmp_path / name, words)
        keys = {"languages": [{"model": tmp_path / name}], "dtype": "float32"}
        recipe = write_recipe(tmp_path / "r.yaml", base=base, vocabulary="pad", **keys)
        merge(load_recipe(recipe), tmp_path / f"out-{name}")
    one, two = (arrays(tmp_path / f"out-{name}") for name in ("adapter", "whole"))
    assert one.keys() == two.keys() and len(one["lm_head.weight"]) == 36
    assert all(abs(one[name] - two[name]).max() < 1e-6 for name in one)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out-adapter").config.vocab_size == 36


def test_weights_stored_the_other_way_round_are_read_as_peft_merges_them(tmp_path: Path) -> None:
    """GPT-2's linear layers are [in, out]."""
    torch.manual_seed(1)
    config = AutoConfig.for_model("gpt2", n_embd=16, n_layer=2, n_head=2, vocab_size=40)
    base = tmp_path / "base"
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    settings = {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
    require_same(base, save_adapter(tmp_path / "adapter", base, **settings))


def test_a_pack_of_an_adapter_is_one_of_the_model_it_makes(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", "llama", 1)
    adapter = save_adapter(tmp_path / "adapter", base)
    tensors = {n: t.float() for n, t in read_torch(base).items()}
    model = open_adapter(adapter, open_base(base))
    whole = save_model(tmp_path / "whole", "llama", 2)
    save_file({n: model.read(n) for n in tensors}, whole / "model.safetensors", {"format": "pt"})
    for name in ("adapter", "whole"):
        extract(base, tmp_path / name, tmp_path / f"{name}-pack", beta=0, k1=0.1)
    one, two = (read_torch(tmp_path / f"{name}-pack") for name in ("adapter", "whole"))
    assert same_bits(one, two)
    adapted = [key for key in one if "_proj" in key and key.endswith("values")]
    assert sum(one[key].numel() for key in adapted) > 0


# what is not known here is refused, not left out


def refused(base: Path, adapter: Path, *words: str) -> None:
    with pytest.raises(InputError) as error:
        fitted(open_base(base), adapter)
    message = str(error.value)
    assert "\n" not in message and str(adapter) in message
    assert all(word in message for word in words), message


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_model(tmp_path / "base", "llama", 1)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "lora_only"}, "bias"),
        ({"trainable_token_indices": [3, 4]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
    ],
)
def test_a_kind_of_lora_that_is_not_supported_is_named(
    tmp_path: Path, base: Path, settings: dict[str, object], named: str
) -> None:
    adapter = save_adapter(tmp_path / "adapter", base, **settings)
    refused(base, adapter, "adapter_config.json", named, "merge_and_unload")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("peft_type", "IA3"), ("r", 3), ("some_new_idea", {"strength": 2})),
        *(("r", "four"), ("r", 0), ("lora_alpha", None), ("rank_pattern", ["q_proj"])),
        *(("rank_pattern", {"(": 4}), ("alpha_pattern", {"q_proj": "1"}), ("modules_to_save", 1)),
    ],
)
def test_a_setting_that_changes_the_meaning_of_the_tensors_is_refused(
    tmp_path: Path, base: Path, key: str, value: object
) -> None:
    adapter = save_adapter(tmp_path / "adapter", base)
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    told = {"four": "r: found 'four'; must be a valid integer"}.get(str(value), "")
    refused(base, adapter, "adapter_config.json", told)


PROJECTION = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({f"{PROJECTION}.lora_A.weight": None}, "q_proj"),
        ({f"{PROJECTION}.lora_B.weight": torch.zeros(16, 3)}, "q_proj"),
        ({f"{PROJECTION}.lora_B.weight": torch.zeros(15, 4)}, "q_proj"),
        ({f"{PROJECTION}.lora_magnitude_vector": torch.ones(16)}, "lora_magnitude_vector"),
        ({f"{PROJECTION}.bias": torch.ones(16)}, "q_proj.bias"),
        ({"base_model.model.model.layers.7.mlp.up_proj.weight": torch.ones(24, 16)}, "layers.7"),
        ({"base_model.model.model.norm.original_module.weight": torch.ones(16)}, "original_module"),
        ({"base_model.model.model.norm.weight": torch.ones(17)}, "model.norm.weight"),
        (
            {
                "base_model.model.model.norm.weight": torch.ones(16),
                "base_model.model.model.norm.modules_to_save.weight": torch.zeros(16),
            },
            "twice",
        ),
        ({"something.else": torch.ones(2)}, "something.else"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_tensor_of_an_adapter_is_used_or_refused(
    tmp_path: Path, base: Path, changed: dict[str, torch.Tensor | None], named: str
) -> None:
    adapter = save_adapter(tmp_path / "adapter", base)
    file = adapter / "adapter_model.safetensors"
    tensors = {n: t for n, t in (load_file(file) | changed).items() if t is not None}
    save_file(tensors, file)
    refused(base, adapter, named)


def test_an_adapter_of_pickles_is_refused(tmp_path: Path, base: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", base)
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({}, adapter / "adapter_model.bin")
    refused(base, adapter, "adapter_model.safetensors")


def test_an_adapter_is_no_base(tmp_path: Path, base: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", base)
    with pytest.raises(InputError, match="adapter") as error:
        open_base(adapter)
    assert "\n" not in str(error.value)
