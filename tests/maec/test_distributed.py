"""Two processes train what one does: to rounding where it moves, to the bit where it must not."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maec import train as train_module
from maec.distributed import _told, launch, rank
from maec.errors import InputError
from maec.train import train

from .checkpoints import read_torch, same_bits, write
from .failing import writes_while_another
from .test_train import DOCUMENTS, bits, delicate, random_mask, settings

pytestmark = pytest.mark.slow

# 3 steps of 4 sequences over 7 blocks: the second step's batch has 3, more than one process can
# share evenly, and the third begins the next pass
CASES: dict[str, dict[str, Any]] = {
    "full": {"weight_decay": 0.1},
    "full tied": {"gradient_checkpointing": True},
    "masked": {"weight_decay": 0.3},
    "masked tied": {"weight_decay": 0.3, "record_gradient": True},
    "masked in parts": {"micro_batch_size": 1},
    "lora": {"lora_rank": 2},
    "bfloat16": {"precision": "bfloat16"},
}


def start_of(case: str, folder: Path) -> Path:
    return folder / ("tied" if "tied" in case else "untied")


def train_case(case: str, folder: Path, out: Path, **how: Any) -> Any:
    start = start_of(case, folder)
    mask = random_mask(read_torch(start), seed=1) if "masked" in case else None
    chosen = settings(steps=3, **CASES[case])
    return train(start, DOCUMENTS[:17] if rank() == 0 else (), out, chosen, mask=mask, **how)


def train_all(folder: Path, out: Path, report: Any) -> dict[str, Any]:
    """What each of the processes does."""
    return {case: train_case(case, folder, out / case, progress=report) for case in CASES}


def train_pair(folder: Path, out: Path, report: Any) -> dict[str, Any]:
    """The same by two, and once more with an interruption after two steps."""
    made = train_all(folder, out, report)
    recorder, scratch = train_module._Recorder, folder / "scratch"
    told = recorder.on_step_end

    def stop(self: Any, args: Any, state: Any, control: Any, **how: Any) -> None:
        told(self, args, state, control, **how)
        control.should_training_stop = state.global_step == 2

    train_module.SAVE_EVERY_SECONDS = -1.0
    recorder.on_step_end = stop
    train_case("masked", folder, out / "begun", scratch=scratch)
    recorder.on_step_end = told
    train_case("masked", folder, out / "resumed", scratch=scratch)
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    write(folder / "untied", delicate(rng))
    write(folder / "tied", delicate(rng, tied=True))
    told: list[tuple[int, int, float]] = []
    pair = launch(train_pair, 2, folder, folder / "two", report=lambda *it: told.append(it))
    single = train_all(folder, folder / "one", None)
    return {"folder": folder, "one": single, "two": pair, "told": told}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_what_one_does(trained: dict[str, Any], case: str) -> None:
    one, two = (read_torch(trained["folder"] / many / case) for many in ("one", "two"))
    before = read_torch(start_of(case, trained["folder"]))
    assert one.keys() == two.keys()
    # AdamW's first steps go by the sign of a gradient, whatever its size: with bfloat16's
    # rounding some entries go the other way
    rounded = case == "bfloat16"
    tolerance = 2e-2 if rounded else 2e-5
    for name in one:
        difference = (two[name] - one[name]).abs()
        assert (difference.mean() if rounded else difference.max()) < tolerance, name
    moved = max(float((one[name] - before[name]).abs().max()) for name in one)
    assert moved > 1e-2
    reports = [trained[many][case] for many in ("one", "two")]
    assert [report.processes for report in reports] == [1, 2]
    assert reports[0].losses == pytest.approx(reports[1].losses, abs=2.5 * tolerance)
    assert reports[0].trainable_parameters == reports[1].trainable_parameters
    assert not list((trained["folder"] / "two").glob(".partial-*"))


@pytest.mark.parametrize("case", [case for case in CASES if "masked" in case])
def test_outside_the_mask_every_bit_is_kept(trained: dict[str, Any], case: str) -> None:
    before = read_torch(start_of(case, trained["folder"]))
    after = read_torch(trained["folder"] / "two" / case)
    for name, key in random_mask(before, seed=1).items():
        assert bits(after[name])[~key].equal(bits(before[name])[~key]), name


def test_the_recorded_gradient_is_that_of_one_process(trained: dict[str, Any]) -> None:
    one, two = (
        load_file(trained["folder"] / many / "masked tied" / "gradient.safetensors")
        for many in ("one", "two")
    )
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6, msg=name)


def test_progress_is_told_once_a_step(trained: dict[str, Any]) -> None:
    assert [step for step, *_ in trained["told"]] == [1, 2, 3] * len(CASES)


def test_a_run_that_was_saved_goes_on_to_the_same_bits(trained: dict[str, Any]) -> None:
    whole, begun, resumed = (
        read_torch(trained["folder"] / "two" / case) for case in ("masked", "begun", "resumed")
    )
    assert same_bits(resumed, whole)
    assert not same_bits(begun, whole)
    # each process saved its part of the state, about half of it (the first also what is no tensor)
    for what in ("pytorch_model_fsdp_0", "optimizer_0"):
        found = trained["folder"].glob(f"scratch/2-processes/checkpoint-3/{what}/*.distcp")
        sizes = [file.stat().st_size for file in found]
        assert len(sizes) == 2 and max(sizes) < 0.7 * sum(sizes)


@pytest.mark.parametrize(
    ("fails", "kind", "message"),
    [
        ("input", InputError, "corpus.txt: there is no such file"),
        (
            "killed",
            ChildProcessError,
            "process 2 of 2 was ended by SIGKILL; was there memory enough?",
        ),
    ],
)
def test_when_one_process_fails_the_other_ends_and_leaves_nothing(
    tmp_path: Path, fails: str, kind: type[Exception], message: str
) -> None:
    others: list[int] = []
    with pytest.raises(kind) as error:
        launch(writes_while_another, 2, fails, tmp_path / "out", report=others.append)
    assert str(error.value) == message
    assert not list(tmp_path.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(others[0], 0)


def test_what_went_wrong_is_told_in_one_line() -> None:
    for raised, kind in ((ValueError, RuntimeError), (torch.OutOfMemoryError, MemoryError)):
        told = _told(raised("first line\nsecond line"), 1, 2)
        assert type(told) is kind
        assert str(told) == f"process 2 of 2: {raised.__name__}: first line"
        assert "second line" in "".join(told.__notes__)


def test_an_interrupt_here_ends_all_processes(tmp_path: Path) -> None:
    others: list[int] = []

    def interrupt(process: int) -> None:
        others.append(process)
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        launch(writes_while_another, 2, "never", tmp_path / "out", report=interrupt)
    assert time.monotonic() - began < 60
    with pytest.raises(ProcessLookupError):
        os.kill(others[0], 0)
