"""One live engine, many models: it answers as transformers does, and never with stale weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import engine as engines
from harness.evaluate import evaluate, load
from harness.served import checkpoint_products, differences
from harness.spec import load_matrix
from harness.spec_machine import Engine
from harness.tasks import task
from maec.checkpoint import open_checkpoint
from maec.errors import InputError
from tests.harness.models import random_model
from tests.harness.test_tasks import matrix_file

pytestmark = pytest.mark.slow

PROMPTS = ["Q: Tom has 3 apples.", "A: 3 + 4", "Ana"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [random_model(folder, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def vllm(models: list[Path]) -> engines.Engine:
    return engines.start(Engine(max_model_len=256), models[0])


def with_transformers(path: Path, prompt: str) -> tuple[torch.Tensor, list[int]]:
    """Log-probabilities of the prompt's tokens, and eight greedy tokens after it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(ids).logits.log_softmax(-1)[0]
        greedy = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    return logits[:-1].gather(1, ids[0, 1:, None])[:, 0], greedy.tolist()


def with_vllm(live: engines.Engine, prompt: str) -> tuple[torch.Tensor, list[int]]:
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=8, prompt_logprobs=0)
    (output,) = live.lm.model.generate([prompt], sampling, use_tqdm=False)
    likelihoods = [
        entry[token].logprob
        for entry, token in zip(output.prompt_logprobs, output.prompt_token_ids, strict=True)
        if entry is not None
    ]
    return torch.tensor(likelihoods), list(output.outputs[0].token_ids)


def test_after_every_switch_the_engine_answers_as_transformers_does(
    vllm: engines.Engine, models: list[Path]
) -> None:
    answers = []
    for path in (models[1], models[2], models[0], models[1]):
        vllm.switch(path)
        for prompt in PROMPTS:
            likelihoods, tokens = with_vllm(vllm, prompt)
            expected, greedy = with_transformers(path, prompt)
            torch.testing.assert_close(likelihoods, expected, atol=1e-3, rtol=1e-3)
            end = greedy.index(tokens[-1]) + 1 if tokens[-1] in greedy else len(greedy)
            assert tokens == greedy[:end] or tokens == greedy
        answers.append(with_vllm(vllm, PROMPTS[0])[1])
    assert answers[0] == answers[3]
    assert answers[0] != answers[1]


def test_an_engine_that_keeps_old_weights_is_found_out(
    vllm: engines.Engine, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm.switch(models[0])
    real = vllm.lm.model.collective_rpc

    def without_reload(method: str, **kwargs: object) -> object:
        return None if method == "reload_weights" else real(method, **kwargs)

    monkeypatch.setattr(vllm.lm.model, "collective_rpc", without_reload)
    with pytest.raises(engines.StaleWeights, match="serves other weights"):
        vllm.switch(models[1])


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.input_layernorm.weight",
        "lm_head.weight",
    ],
)
def test_one_stale_tensor_is_enough_to_be_found_out(
    vllm: engines.Engine, models: list[Path], tmp_path: Path, name: str
) -> None:
    vllm.switch(models[0])
    changed = tmp_path / "changed"
    shutil.copytree(models[0], changed)
    tensors = load_file(changed / "model.safetensors")
    tensors[name].view(-1)[7] += 0.05
    save_file(tensors, changed / "model.safetensors", metadata={"format": "pt"})
    expected = checkpoint_products(open_checkpoint(changed), torch.float32)
    workers = vllm.lm.model.collective_rpc("served_products")
    assert differences(workers, expected, 1e-4) == [f"{name} differs"]
    vllm.switch(changed)


def test_an_incomplete_checkpoint_is_refused_before_the_switch(
    vllm: engines.Engine, models: list[Path], tmp_path: Path
) -> None:
    vllm.switch(models[0])
    before = with_vllm(vllm, PROMPTS[0])[1]
    broken = tmp_path / "broken"
    shutil.copytree(models[1], broken)
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"model\.norm\.weight"):
        vllm.switch(broken)
    assert with_vllm(vllm, PROMPTS[0])[1] == before


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


@pytest.fixture(scope="module")
def plain(models: list[Path]) -> engines.Engine:
    return engines.start(Engine(kind="transformers", max_model_len=256), models[0])


def test_after_a_stream_vllm_answers_as_after_a_switch_to_the_same_weights(
    vllm: engines.Engine, models: list[Path]
) -> None:
    for path in (models[1], models[2], models[0]):
        vllm.switch(path)
        switched = [with_vllm(vllm, prompt) for prompt in PROMPTS]
        vllm.switch(models[0] if path != models[0] else models[1])
        assert [with_vllm(vllm, prompt)[1] for prompt in PROMPTS] != [t for _, t in switched]
        # in another order, as a merge may give them
        vllm.stream(reversed(tensors_of(path).items()), "streamed")
        for prompt, (likelihoods, tokens) in zip(PROMPTS, switched, strict=True):
            ours, greedy = with_vllm(vllm, prompt)
            torch.testing.assert_close(ours, likelihoods, atol=0, rtol=0)
            assert greedy == tokens


def test_after_a_stream_transformers_serves_what_is_on_the_disk(
    plain: engines.Engine, models: list[Path]
) -> None:
    for path in (models[1], models[2]):
        plain.stream(reversed(tensors_of(path).items()), "streamed")
        streamed = {name: t.clone() for name, t in plain.lm.model.state_dict().items()}
        plain.switch(models[0])
        plain.switch(path)
        switched = plain.lm.model.state_dict()
        stored = tensors_of(path)
        assert streamed.keys() == switched.keys() == stored.keys()
        for name, tensor in stored.items():
            assert torch.equal(streamed[name], tensor)
            assert torch.equal(switched[name], tensor)


@pytest.mark.parametrize("engine", ["vllm", "plain"])
@pytest.mark.parametrize("name", ["model.layers.1.self_attn.v_proj.weight", "model.norm.weight"])
def test_a_stream_without_one_of_the_tensors_is_found_out(
    request: pytest.FixtureRequest, models: list[Path], engine: str, name: str
) -> None:
    live = request.getfixturevalue(engine)
    live.switch(models[0])
    tensors = tensors_of(models[1])
    del tensors[name]
    with pytest.raises(engines.StaleWeights, match="a merge"):
        live.stream(tensors.items(), "a merge")


@pytest.mark.parametrize("name", ["model.layers.1.self_attn.v_proj.weight", "lm_head.weight"])
def test_a_streamed_tensor_that_does_not_reach_vllm_is_found_out(
    vllm: engines.Engine, models: list[Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    vllm.switch(models[0])
    real = vllm.lm.model.collective_rpc

    def drops(method: str, **kwargs: dict) -> object:
        if method == "reload_weights":
            passing = kwargs["kwargs"]["weights_iterator"]
            kept = ((n, t) for n, t in passing if n != name)
            kwargs = {"kwargs": {"weights_iterator": kept}}
        return real(method, **kwargs)

    def changes(method: str, **kwargs: dict) -> object:
        if method == "reload_weights":
            passing = kwargs["kwargs"]["weights_iterator"]
            changed = ((n, t + 0.05 * (n == name)) for n, t in passing)
            kwargs = {"kwargs": {"weights_iterator": changed}}
        return real(method, **kwargs)

    for tampered in (drops, changes):
        with monkeypatch.context() as patch:
            patch.setattr(vllm.lm.model, "collective_rpc", tampered)
            with pytest.raises(engines.StaleWeights, match="a merge: the engine serves other"):
                vllm.stream(tensors_of(models[1]).items(), "a merge")
    vllm.stream(tensors_of(models[1]).items(), "a merge")


def test_a_streamed_tensor_that_does_not_reach_transformers_is_found_out(
    plain: engines.Engine, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.switch(models[0])
    name = "model.layers.1.mlp.up_proj.weight"
    real = plain.lm.model.state_dict

    class Deaf(torch.Tensor):
        def copy_(self, *_: object) -> torch.Tensor:
            return self

    def with_one_deaf(**kwargs: object) -> dict[str, torch.Tensor]:
        found = dict(real(**kwargs))
        return found | {name: found[name].detach().as_subclass(Deaf)}

    monkeypatch.setattr(plain.lm.model, "state_dict", with_one_deaf)
    with pytest.raises(engines.StaleWeights, match=r"a merge: tensor .* did not reach"):
        plain.stream(tensors_of(models[1]).items(), "a merge")


def test_both_engines_give_the_same_answers_item_by_item(
    home: Path, tmp_path: Path, vllm: engines.Engine, models: list[Path]
) -> None:
    matrix = load_matrix(matrix_file(tmp_path, abilities=["math", "science"], items=16))
    questions = load([task(matrix, ability, "te") for ability in matrix.abilities])
    other = engines.start(Engine(kind="transformers", max_model_len=256), models[0])
    for path in (models[2], models[1]):
        results = []
        for live in (vllm, other):
            live.switch(path)
            results.append(evaluate(live, questions))
        for name, ours in results[0].items():
            theirs = results[1][name]
            assert ours.score == theirs.score
            for one, two in zip(ours.items, theirs.items, strict=True):
                assert one.keys() == two.keys()
                for field in ("prompt", "extracted", "gold", "correct"):
                    assert one[field] == two[field]
                assert one.get("loglikelihoods", []) == pytest.approx(
                    two.get("loglikelihoods", []), abs=1e-3
                )


def greedy(path: Path, prompt: str, count: int) -> list[int]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(path)(prompt, return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        return model.generate(ids, max_new_tokens=count, do_sample=False)[
            0, ids.shape[1] :
        ].tolist()


def test_outputs_that_ended_at_their_limit_are_counted(
    home: Path, tmp_path: Path, vllm: engines.Engine, plain: engines.Engine,
    models: list[Path],
) -> None:  # fmt: skip
    from transformers import AutoTokenizer

    limit = 12
    files = {"files": "q_{language}.jsonl", "like": "mgsm_direct", "max_gen_toks": limit}
    words = ["Ana", "Tom", "3 + 4", "two apples", "A: 5", "Q", "cinco", "no", "why"]
    lines = [json.dumps({"question": word, "answer_number": 3}) for word in words]
    for language in ("en", "te"):
        (tmp_path / f"q_{language}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    matrix = load_matrix(matrix_file(tmp_path, tasks={"math": files}))
    asked = task(matrix, "math", "en")
    stops = asked.config["generation_kwargs"]["until"]

    def answers(path: Path) -> list[list[int]]:
        return [greedy(path, f"Question: {word}\nAnswer:", limit) for word in words]

    # a model that ends an answer where the other says a token of some of its answers
    said = answers(models[0])
    common = next(t for t in sorted(set(said[0])) if 0 < sum(t in one for one in said) < len(said))
    tokenizer = AutoTokenizer.from_pretrained(models[0])
    end = tokenizer.eos_token_id
    ending = tmp_path / "ending"
    shutil.copytree(models[0], ending)
    tensors = tensors_of(models[0])
    tensors["lm_head.weight"][end] = 1.1 * tensors["lm_head.weight"][common]
    save_file(tensors, ending / "model.safetensors", metadata={"format": "pt"})
    expected = sum(
        end not in one and not any(stop in tokenizer.decode(one) for stop in stops)
        for one in answers(ending)
    )
    assert 0 < expected < len(words)
    for live in (vllm, plain):
        live.switch(ending)
        result = evaluate(live, load([asked]))[asked.name]
        assert result.metrics["cut"] == expected


def test_an_engine_starts_where_merges_were_compiled_before() -> None:
    """In a process of its own: vLLM looks at every module, and compiled loops bring llvmlite."""
    program = (
        "if __name__ == '__main__':\n"
        "    import numpy as np\n"
        "    from maec import kernels\n"
        "    assert kernels.finite(np.ones(3, dtype=np.float32))\n"
        "    from harness import engine\n"
        "    from harness.spec_machine import Engine\n"
        "    from harness.world import EMBEDDED_BASE\n"
        "    engine.start(Engine(), EMBEDDED_BASE)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_an_engine_that_raised_in_the_midst_of_questions_says_so(
    plain: engines.Engine, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.api.instance import Instance

    request = Instance("generate_until", {}, ("Q:", {"until": ["."], "max_gen_toks": 2}), 0)
    plain.switch(models[0])
    plain.lm.generate_until([request])
    assert not plain.lm.broken

    def fails(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("none left")

    with monkeypatch.context() as patch:
        patch.setattr(plain.lm, "_model_generate", fails)
        with pytest.raises(torch.OutOfMemoryError):
            plain.lm.generate_until([request])
    assert plain.lm.broken
