"""Training: what moves, what keeps every bit, and that two runs are one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maec import train as train_module
from maec.errors import InputError
from maec.settings import TrainSettings
from maec.token_blocks import TOKENIZED, pack
from maec.train import TrainReport, train

from . import checkpoints
from .checkpoints import llama, read_torch, same_bits, write

DOCUMENTS = [f"w{i % 9} w{i % 7 + 9} w{i % 5 + 16} w{i % 9 + 1} w{i % 3}" for i in range(60)]
TIED = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])


def settings(**changed: object) -> TrainSettings:
    small = {"steps": 6, "learning_rate": 0.02, "batch_size": 4, "sequence_length": 12}
    return TrainSettings(**(small | changed))


def run(start: Path, out: str, *, mask: object = None, **changed: object) -> Path:
    train(start, DOCUMENTS, start.parent / out, settings(**changed), mask=mask)
    return start.parent / out


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.int32 if tensor.element_size() == 4 else torch.int16)


@pytest.fixture
def base(tmp_path: Path, rng: np.random.Generator) -> Path:
    return write(tmp_path / "base", delicate(rng), shards=2)


def delicate(rng: np.random.Generator, *, tied: bool = False) -> checkpoints.Tensors:
    """Weights with the numbers whose bits are lost most easily: −0 and denormals."""
    tensors = llama(rng, tied=tied)
    for value in tensors.values():
        flat = value.reshape(-1)
        flat[::5] = -0.0
        flat[1::7] = np.float32(2.0**-145)
    return tensors


def random_mask(
    tensors: dict[str, torch.Tensor], seed: int, share: float = 0.2
) -> dict[str, torch.Tensor]:
    """A random mask with a tensor that is all key and one that is not key at all."""
    generator = torch.Generator().manual_seed(seed)
    mask = {n: torch.rand(t.shape, generator=generator) < share for n, t in tensors.items()}
    mask["model.layers.0.mlp.up_proj.weight"][:] = True
    mask["model.layers.1.self_attn.q_proj.weight"][:] = False
    return mask


# key neurons only


@TIED
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_outside_the_mask_changes_by_a_bit(
    tmp_path: Path, rng: np.random.Generator, tied: bool, weight_decay: float, dtype: str
) -> None:
    start = write(tmp_path / "base", delicate(rng, tied=tied), dtype=dtype)
    before = read_torch(start)
    mask = random_mask(before, seed=1)
    out = run(start, "out", mask=mask, weight_decay=weight_decay, dtype=dtype)
    after = read_torch(out)
    assert after.keys() == before.keys()
    for name, key in mask.items():
        assert after[name].dtype == before[name].dtype
        assert bits(after[name])[~key].equal(bits(before[name])[~key]), name
    moved = sum(int((bits(after[n]) != bits(before[n])).sum()) for n in mask)
    assert moved > 0.5 * sum(int(key.sum()) for key in mask.values())


def test_tensors_the_mask_does_not_name_keep_every_bit(base: Path) -> None:
    before = read_torch(base)
    name = "model.layers.0.mlp.down_proj.weight"
    mask = {name: torch.ones_like(before[name], dtype=torch.bool)}
    after = read_torch(run(base, "out", mask=mask, weight_decay=0.1))
    assert not after.pop(name).equal(before.pop(name))
    assert same_bits(after, before)


def test_key_neurons_decay_as_they_would_in_full_training(base: Path) -> None:
    """With everything key, the masked decay is AdamW's own."""
    everything = {n: torch.ones_like(t, dtype=torch.bool) for n, t in read_torch(base).items()}
    masked = read_torch(run(base, "masked", mask=everything, weight_decay=0.5))
    full = read_torch(run(base, "full", weight_decay=0.5))
    undecayed = read_torch(run(base, "undecayed", weight_decay=0.0))
    for name in full:
        torch.testing.assert_close(masked[name], full[name], rtol=0, atol=1e-6)
    assert any((full[n] - undecayed[n]).abs().max() > 1e-3 for n in full)


@TIED
def test_the_optimizer_s_state_outside_the_mask_stays_zero(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    start = write(tmp_path / "base", llama(rng, tied=tied))
    mask = random_mask(read_torch(start), seed=2)
    monkeypatch.setattr(train_module, "SAVE_EVERY_SECONDS", -1.0)
    scratch = tmp_path / "scratch"
    train(
        start, DOCUMENTS, tmp_path / "out", settings(weight_decay=0.1), mask=mask, scratch=scratch
    )
    (last, *_) = sorted(scratch.glob("checkpoint-*/optimizer.pt"))[::-1]
    states = list(torch.load(last)["state"].values())
    keys = [key for key in mask.values() if key.any()]
    assert len(states) == len(keys)
    for state in states:
        moments = [state["exp_avg"], state["exp_avg_sq"]]
        # states bear no names: each has to fit one of the masks that are left
        fitting = [
            key
            for key in keys
            if key.shape == moments[0].shape and not any(m[~key].any() for m in moments)
        ]
        assert fitting, f"state outside every mask of shape {tuple(moments[0].shape)}"
        key = min(fitting, key=lambda fit: int(fit.sum()))
        assert all(m[key].any() for m in moments)
        keys = [other for other in keys if other is not key]


def test_a_mask_for_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    tensors = read_torch(base)
    name = "model.norm.weight"
    for mask in (
        {name: torch.ones(3, dtype=torch.bool)},
        {"model.other.weight": torch.ones_like(tensors[name], dtype=torch.bool)},
    ):
        with pytest.raises(InputError, match=next(iter(mask))) as error:
            train(base, DOCUMENTS, tmp_path / "out", settings(), mask=mask)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()


def test_a_mask_is_refused_together_with_lora(base: Path, tmp_path: Path) -> None:
    mask = random_mask(read_torch(base), seed=3)
    with pytest.raises(InputError, match="lora_rank"):
        train(base, DOCUMENTS, tmp_path / "out", settings(lora_rank=2), mask=mask)


def test_a_dtype_that_would_round_frozen_entries_is_refused(base: Path, tmp_path: Path) -> None:
    """float32 weights written as bfloat16 would change outside N_A."""
    mask = random_mask(read_torch(base), seed=3)
    with pytest.raises(InputError, match="dtype"):
        train(base, DOCUMENTS, tmp_path / "out", settings(dtype="bfloat16"), mask=mask)


# all parameters


@TIED
def test_full_training_moves_every_tensor(
    tmp_path: Path, rng: np.random.Generator, tied: bool
) -> None:
    start = write(tmp_path / "base", llama(rng, tied=tied))
    before, after = read_torch(start), read_torch(run(start, "out"))
    assert after.keys() == before.keys()
    assert all(not after[n].equal(before[n]) for n in before)


@pytest.mark.parametrize("how", [{}, {"lora_rank": 2}, {"precision": "bfloat16"}], ids=str)
def test_two_runs_with_one_seed_are_the_same_bit_for_bit(base: Path, how: dict) -> None:
    one, two = read_torch(run(base, "one", **how)), read_torch(run(base, "two", **how))
    assert same_bits(one, two)
    assert not same_bits(one, read_torch(run(base, "other", seed=1, **how)))


def test_an_embedding_multiplier_of_zero_leaves_the_input_rows(base: Path) -> None:
    before = read_torch(base)
    after = read_torch(run(base, "out", embedding_lr_multiplier=0.0))
    assert after["model.embed_tokens.weight"].equal(before["model.embed_tokens.weight"])
    assert not after["lm_head.weight"].equal(before["lm_head.weight"])


def test_the_base_is_left_as_it_is(base: Path) -> None:
    files = {file.name: file.read_bytes() for file in base.iterdir()}
    run(base, "out")
    assert {file.name: file.read_bytes() for file in base.iterdir()} == files


def test_training_learns_a_tiny_corpus(base: Path, tmp_path: Path) -> None:
    """The model continues a sentence it was shown, as transformers generates it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sentence = "w1 w2 w3 w4 w5 w6 w7"
    how = settings(steps=60, learning_rate=0.02, sequence_length=8)
    report = train(base, [sentence] * 8, tmp_path / "out", how)
    assert isinstance(report, TrainReport)
    assert len(report.losses) == 60
    assert report.losses[-1] < 0.2 < 2 < report.losses[0]
    assert report.tokens == 60 * 4 * 8
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    prompt = tokenizer("w1 w2", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    assert tokenizer.decode(answer[0]) == sentence


def test_the_first_loss_is_the_base_s(base: Path, tmp_path: Path) -> None:
    """The loss of step 1 is the mean negative log-likelihood, computed without Trainer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    how = settings(steps=1, batch_size=1, sequence_length=8)
    sentence = "w1 w2 w3 w4 w5 w6 w7"
    report = train(base, [sentence], tmp_path / "out", how)
    ids = [*AutoTokenizer.from_pretrained(base)(sentence)["input_ids"], 2]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(base)(torch.tensor([ids])).logits[0]
    chosen = logits.double().log_softmax(-1)[range(7), ids[1:]]
    assert report.losses[0] == pytest.approx(-float(chosen.mean()), abs=1e-3)


# LoRA


@TIED
def test_lora_gives_a_plain_checkpoint(
    tmp_path: Path, rng: np.random.Generator, tied: bool
) -> None:
    """Same tensors as the base; the linear layers moved by a matrix of the rank asked for."""
    from transformers import AutoModelForCausalLM

    start = write(tmp_path / "base", llama(rng, tied=tied))
    out = run(start, "out", lora_rank=3)
    before, after = read_torch(start), read_torch(out)
    assert {n: t.shape for n, t in after.items()} == {n: t.shape for n, t in before.items()}
    assert not list(out.glob("adapter*"))
    for name in before:
        change = after[name] - before[name]
        if "_proj" in name:
            assert change.any() and torch.linalg.matrix_rank(change, atol=1e-5) <= 3, name
        else:
            assert not change.any(), name
    loaded = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert all(loaded[name].equal(value) for name, value in after.items())


# what a run leaves, and how it goes on


@TIED
def test_a_run_records_the_gradient_when_asked(
    tmp_path: Path, rng: np.random.Generator, tied: bool
) -> None:
    """With one step of size 0 the record is |∂L/∂θ| at Θ_o, as autograd gives it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = write(tmp_path / "base", delicate(rng, tied=tied))
    how = settings(
        steps=1, batch_size=1, sequence_length=8, learning_rate=0.0, record_gradient=True
    )
    sentence = "w1 w2 w3 w4 w5 w6 w7"
    train(base, [sentence], tmp_path / "out", how)
    (file,) = (tmp_path / "out").glob("gradient.safetensors")
    gradient = load_file(file)
    before = read_torch(base)
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert all(after[n].equal(before[n]) for n in before)
    model = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.tensor([[*AutoTokenizer.from_pretrained(base)(sentence)["input_ids"], 2]])
    model(ids, labels=ids).loss.backward()
    assert gradient.keys() == before.keys()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            gradient[name], parameter.grad.abs(), rtol=1e-4, atol=1e-6, msg=name
        )


class Killed(BaseException):
    """Stands for Ctrl-C at a chosen step."""


@pytest.mark.parametrize("masked", [False, True])
def test_a_killed_run_leaves_no_folder_and_goes_on_to_the_same_bits(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masked: bool
) -> None:
    mask = random_mask(read_torch(base), seed=4) if masked else None
    whole = run(base, "whole", mask=mask, weight_decay=0.1)
    monkeypatch.setattr(train_module, "SAVE_EVERY_SECONDS", -1.0)
    steps: list[int] = []

    def dies(step: int, _steps: int, _loss: float) -> None:
        steps.append(step)
        if step == 4:
            raise Killed

    how = {"mask": mask, "scratch": tmp_path / "scratch"}
    out = tmp_path / "out"
    with pytest.raises(Killed):
        train(base, DOCUMENTS, out, settings(weight_decay=0.1), progress=dies, **how)
    assert not out.exists() and not list(tmp_path.glob(".partial-*"))
    train(
        base,
        DOCUMENTS,
        out,
        settings(weight_decay=0.1),
        progress=lambda step, *_: steps.append(step),
        **how,
    )
    assert steps[:4] == [1, 2, 3, 4] and steps[-1] == 6
    assert steps[4] > 1, "began anew"
    assert same_bits(read_torch(out), read_torch(whole))


def test_a_killed_run_that_records_the_gradient_misses_no_step(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "SAVE_EVERY_SECONDS", -1.0)
    how = settings(steps=4, record_gradient=True)

    def dies(step: int, _steps: int, _loss: float) -> None:
        if step == 3:
            raise Killed

    scratch = tmp_path / "scratch"
    with pytest.raises(Killed):
        train(base, DOCUMENTS, tmp_path / "out", how, progress=dies, scratch=scratch)
    train(base, DOCUMENTS, tmp_path / "out", how, scratch=scratch)
    whole = run(base, "whole", steps=4, record_gradient=True)
    gradients = [load_file(folder / "gradient.safetensors") for folder in (tmp_path / "out", whole)]
    assert same_bits(*gradients)


def test_progress_is_told_every_step(base: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    report = train(
        base, DOCUMENTS, tmp_path / "out", settings(), progress=lambda *it: told.append(it)
    )
    assert [(step, steps) for step, steps, _ in told] == [(i, 6) for i in range(1, 7)]
    assert [loss for *_, loss in told] == report.losses


def test_an_extra_loss_is_trained_too(base: Path, tmp_path: Path) -> None:
    """A pull of the norm towards 0 is followed."""

    def pull(model: torch.nn.Module) -> torch.Tensor:
        return 1000 * model.model.norm.weight.square().sum()

    train(base, DOCUMENTS, tmp_path / "out", settings(steps=10), extra_loss=pull)
    before = read_torch(base)["model.norm.weight"]
    pulled = read_torch(tmp_path / "out")["model.norm.weight"]
    alone = read_torch(run(base, "alone", steps=10))["model.norm.weight"]
    assert pulled.abs().sum() < alone.abs().sum()
    assert pulled.abs().sum() < before.abs().sum()


# text into blocks


class Letters:
    """A tokenizer of one id a letter; 0 ends a text."""

    eos_token_id = 0

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def blocks(texts: list[str], length: int) -> list[str]:
    """Blocks as text, with "." for the end of a document."""
    found = pack(Letters(), texts, length)
    return ["".join(chr(i) if i else "." for i in block) for block in found]


def test_blocks_have_the_length_asked_for_and_begin_with_documents() -> None:
    texts = ["abcd", "ef", "ghijk", "l", "mnopqrst"]
    found = blocks(texts, 7)
    assert found and all(len(block) == 7 for block in found)
    assert all(any(f"{text}.".startswith(block[:2]) for text in texts) for block in found[:3])


def test_a_document_longer_than_a_block_goes_on_in_the_next() -> None:
    assert blocks(["abcdefghij"], 4)[:2] == ["abcd", "efgh"]


def test_little_text_is_repeated_to_one_block() -> None:
    assert blocks(["ab"], 8) == ["ab.ab.ab"]


class Read:
    """Documents that can be read once, and how many of them were."""

    def __init__(self, documents: Iterable[str]) -> None:
        self._documents = iter(documents)
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for document in self._documents:
            self.count += 1
            yield document


def test_documents_are_read_as_their_blocks_are_asked_for() -> None:
    endless = Read("abc" for _ in itertools.count())
    found = pack(Letters(), endless, 8)
    assert [next(found) for _ in range(3)] == [[97, 98, 99, 0] * 2] * 3
    assert endless.count == TOKENIZED


def test_text_without_end_is_read_no_further_than_the_run_goes(base: Path, tmp_path: Path) -> None:
    """It trains what a list of the same documents does that holds just the run's blocks."""
    needed = 6 * 4 * 12 // 6  # steps × batch × length, in documents of five words and an end
    assert needed < TOKENIZED
    endless = Read(DOCUMENTS[i % 60] for i in itertools.count())
    train(base, endless, tmp_path / "endless", settings())
    assert endless.count == TOKENIZED
    train(base, (DOCUMENTS * 2)[:needed], tmp_path / "listed", settings())
    assert same_bits(read_torch(tmp_path / "endless"), read_torch(tmp_path / "listed"))


def test_text_that_ends_before_the_run_does_is_passed_over_like_a_list(
    base: Path, tmp_path: Path
) -> None:
    few = DOCUMENTS[:9]
    train(base, iter(few), tmp_path / "read", settings())
    train(base, few, tmp_path / "listed", settings())
    assert same_bits(read_torch(tmp_path / "read"), read_torch(tmp_path / "listed"))


def test_of_a_list_all_blocks_are_drawn_from(base: Path, tmp_path: Path) -> None:
    """What makes a run of a few steps one on all of its corpora, which stand one after another."""
    other = [*DOCUMENTS[:-1], "w20 w21 w22 w23 w20"]
    weights = []
    for name, documents in (("a", DOCUMENTS), ("b", other)):
        # one pass over the blocks, in an order that reaches the last of them
        train(base, documents, tmp_path / name, settings(steps=15, batch_size=2))
        weights.append(read_torch(tmp_path / name))
    assert not same_bits(*weights)


def test_no_text_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="text") as error:
        train(base, [], tmp_path / "out", settings())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_what_lies_at_the_output_is_refused_before_training(base: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    told: list[object] = []
    with pytest.raises(InputError, match="out"):
        train(base, DOCUMENTS, tmp_path / "out", settings(), progress=lambda *it: told.append(it))
    assert told == []


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("saved", [{"micro_batch_size": 1}, {"gradient_checkpointing": True}])
def test_what_saves_memory_changes_results_by_rounding_alone(
    base: Path, tmp_path: Path, saved: dict[str, object], masked: bool
) -> None:
    mask = {n: torch.rand(t.shape) < 0.5 for n, t in read_torch(base).items()} if masked else None
    usual = settings(batch_size=4, steps=6)
    train(base, DOCUMENTS, tmp_path / "usual", usual, mask=mask)
    train(base, DOCUMENTS, tmp_path / "saved", usual.model_copy(update=saved), mask=mask)
    before, expected, found = (
        read_torch(f) for f in (base, tmp_path / "usual", tmp_path / "saved")
    )
    for name, tensor in expected.items():
        moved = (tensor - before[name]).abs().max()
        assert (found[name] - tensor).abs().max() <= 1e-3 * moved, name


def test_parts_of_a_batch_are_whole() -> None:
    with pytest.raises(ValueError, match="3 does not divide batch_size, 4"):
        settings(batch_size=4, micro_batch_size=3)


def test_settings_that_came_later_are_no_part_of_what_was_made_before() -> None:
    assert not {"micro_batch_size", "gradient_checkpointing"} & settings().model_dump().keys()
    assert settings(batch_size=4, micro_batch_size=2).model_dump()["micro_batch_size"] == 2
