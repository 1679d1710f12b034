"""Steps by themselves and under Slurm: what a run makes, by processes that know of no other."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from harness import execute as execution
from harness.alone import alone, require_none
from harness.one_step import find, make
from harness.plan import Plan, make_plan
from harness.slurm import Cluster, arrays, script
from harness.spec import check_matrix
from harness.steps import Step
from maec.errors import InputError
from tests.conftest import CHECKOUT, NANO, environment

SBATCH = f"""#!{sys.executable}
import os, subprocess, sys
from pathlib import Path

given = dict(a[2:].split("=", 1) for a in sys.argv[1:] if "=" in a)
book = Path(os.environ["SLURM_BOOK"])
job = str(len(book.read_text().splitlines()) + 1) if book.exists() else "1"
done = dict(line.split()[:2] for line in book.read_text().splitlines()) if book.exists() else {{}}
needed = given.get("dependency", "afterok").split(":")[1:]
script, states = sys.stdin.read(), []
if any(done[number] != "COMPLETED" for number in needed):
    states = ["CANCELLED"]
elif "array" in given:
    first, last = map(int, given["array"].split("-"))
    for task in range(first, last + 1):
        env = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(task)}}
        ended = subprocess.run(["bash"], input=script, text=True, env=env, stdout=sys.stderr)
        states.append("FAILED" if ended.returncode else "COMPLETED")
state = next((state for state in states if state != "COMPLETED"), "COMPLETED")
with book.open("a") as file:
    print(job, state, *sys.argv[1:], file=file)
print(job + ";here")
"""
"""Slurm's sbatch as far as a script of arrays needs it: it makes every task at once, in order."""


def part_of_nano(**changed: object) -> dict:
    nano = yaml.safe_load((CHECKOUT / NANO).read_text())
    return {**nano, "abilities": ["math"], "methods": ["da"], "forgetting": None, **changed}


def planned(**changed: object) -> Plan:
    return make_plan(check_matrix(part_of_nano(**changed), Path("nano.yaml")))


def harness(home: Path, *arguments: str, program: tuple[str, ...] = (sys.executable,)) -> str:
    done = subprocess.run(
        [*program, "-m", "harness.cli", *arguments],
        env=environment(home) | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_slurm_makes_the_artifacts_of_a_run(tmp_path: Path, home: Path, ran: Path) -> None:
    matrix, book = tmp_path / "nano.yaml", tmp_path / "book"
    matrix.write_text(yaml.safe_dump(part_of_nano()))
    submit = tmp_path / "submit.sh"
    told = harness(home, "slurm", str(matrix), "--out", str(submit), "--partition", "short")
    assert told == f"{submit}: written; `bash {submit}` submits it\n"
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)
    env = environment(home) | {"OMP_NUM_THREADS": "1", "SLURM_BOOK": str(book)}
    env["PATH"] = f"{sbatch.parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(["bash", submit], env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    jobs = [line.split() for line in book.read_text().splitlines()]
    assert [state for _, state, *_ in jobs] == ["COMPLETED"] * 3
    assert all("--partition=short" in job for job in jobs)
    # the model of all languages, what is trained from it, and the run, which is not made here
    assert "--array=0-0" in jobs[0] and "--dependency=afterok:1" in jobs[1]
    assert "--dependency=afterok:2" in jobs[2]
    made = sorted(home.glob("artifacts/*/*/manifest.json"))
    assert len(made) == 2
    for file in made:
        other = ran / file.relative_to(home)
        fingerprints = [json.loads(path.read_text())["fingerprint"] for path in (file, other)]
        assert fingerprints[0] == fingerprints[1] is not None
    assert not list(home.glob("*.duckdb"))


@pytest.mark.slow
def test_torchrun_makes_a_step_by_two_processes(tmp_path: Path, home: Path, ran: Path) -> None:
    step = next(step for step in planned().steps if step.kind == "train")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    told = harness(home, "run", str(CHECKOUT / NANO), "--step", step.key, program=torchrun)
    assert told == f"{step.folder}: made ({step.label})\n"
    there = ran / step.folder.relative_to(home)
    ours, theirs = (
        json.loads((folder / "manifest.json").read_text()) for folder in (step.folder, there)
    )
    assert (ours["processes"], theirs["processes"]) == (2, 1)
    assert ours["losses"] == pytest.approx(theirs["losses"], abs=1e-3)
    one, two = (load_file(folder / "model.safetensors") for folder in (there, step.folder))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-4, msg=name)


def test_a_step_whose_inputs_are_missing_is_refused(home: Path) -> None:
    plan = planned()
    _, first, second = plan.steps
    with pytest.raises(InputError) as error:
        make(plan, second)
    assert str(error.value) == (
        f"nano.yaml: --step {second.key[:12]}: '{second.label}' is made of '{first.label}' "
        f"({first.key[:12]}), which is not there; make that first"
    )
    with pytest.raises(InputError, match="--step 'zz': no step has this key; `harness plan"):
        find(plan, "zz")
    with pytest.raises(InputError, match="the keys of 3 steps start so"):
        find(plan, "")


def test_a_small_model_is_trained_by_one_thread_whatever_the_machine_has(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def train(*_: object) -> dict:
        seen.append(torch.get_num_threads())
        return {}

    monkeypatch.setitem(execution._KINDS, "train", train)
    # vLLM on CPU leaves a function that does nothing, if an engine ran in this process before
    monkeypatch.setattr(torch, "set_num_threads", torch._C.set_num_threads)
    step = next(step for step in planned().steps if step.kind == "train")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        execution.execute(step)
        assert (seen, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(before)


def test_a_step_that_another_process_made_meanwhile_is_taken(home: Path) -> None:
    step = next(step for step in planned().steps if step.kind == "train")
    step.folder.mkdir(parents=True)
    (step.folder / "manifest.json").write_text('{"key": "theirs"}')
    assert execution.execute(step) == {"key": "theirs"}
    assert make(planned(), step) is False


def test_no_run_begins_while_steps_are_made_by_themselves(home: Path) -> None:
    step = next(step for step in planned().steps if step.kind == "train")
    require_none()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from filelock import FileLock\n"
            "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()",
            alone(step).lock_file,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match=f"the step {step.key[:12]} is being made"):
        require_none()
    holder.communicate()
    require_none()


def test_processes_are_no_part_of_a_key_and_share_each_training(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone_, shared = planned(), planned(resources={"processes": 2})
    assert [step.key for step in alone_.steps] == [step.key for step in shared.steps]
    asked: list[tuple] = []
    monkeypatch.setattr(
        "maec.distributed.launch", lambda *given, report: asked.append(given) or {"tokens": 1}
    )
    step = next(step for step in shared.steps if step.kind == "train")
    assert execution.execute(step)["tokens"] == 1
    assert asked[0][:3] == (execution.train_together, 2, step)


def chain(*kinds: str) -> Iterator[Step]:
    before: Step | None = None
    for number, kind in enumerate(kinds):
        before = Step(kind, {"number": number}, {"before": before} if before else {}, label=kind)
        yield before


def test_an_array_holds_what_may_be_made_side_by_side() -> None:
    found = arrays([*chain("train", "locate", "train"), Step("extract", {})], gpus=4)
    assert [(a.level, a.gpus, [step.kind for step in a.steps]) for a in found] == [
        (1, 0, ["extract"]),
        (1, 4, ["train"]),
        (2, 0, ["locate"]),
        (3, 4, ["train"]),
    ]


def test_jobs_ask_for_what_the_plan_is_priced_at(home: Path) -> None:
    plan = planned(resources={"processes": 4}, methods=["tv"], languages=["es"])
    for nodes, tasks in ((1, "--ntasks=1"), (2, "--nodes=2 --ntasks-per-node=1")):
        text = script(plan, Cluster(gpus=4, nodes=nodes, options=("--account=me and mine",)))
        trained, merged, run = (line for line in text.splitlines() if "=$(submit" in line)
        assert f"{tasks} --gpus-per-task=4 --mem=" in trained and "--time=0:30:00" in trained
        assert "--ntasks=1 --mem=" in merged and "--time" not in merged
        assert "--ntasks=1 --gpus-per-task=1" in run
        started = [line for line in text.splitlines() if "--step" in line]
        assert "--nproc-per-node=4 " in started[0] and "torch" not in started[1]
        assert started[0].startswith("srun ") is (nodes == 2)
        assert "'--account=me and mine'" in text
        assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
