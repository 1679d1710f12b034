"""Schedules: what must hold of any, against bounds that are proven and against all orders."""

import json
import math
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import machine, store
from harness.cli import app
from harness.jobs import on_gpus, on_this_machine
from harness.plan import make_plan
from harness.policy import Job
from harness.price import DEFAULT_GPU, GPUS, UTILISATION, Gpu, Prices
from harness.recorded import Recorded, recorded, unshared
from harness.simulate import Resources, Simulated, simulate
from harness.spec import load_matrix
from maec.errors import InputError
from tests.harness.test_store import cell, items

SECONDS = st.integers(1, 40).map(lambda tenths: tenths / 10)


@st.composite
def dags(draw: Any, most: int = 12, gpus: tuple[int, ...] = (1,)) -> list[Job]:
    """Steps that need earlier ones."""
    jobs: list[Job] = []
    for number in range(draw(st.integers(1, most))):
        needs = (
            draw(st.sets(st.sampled_from([job.key for job in jobs]), max_size=3)) if jobs else ()
        )
        jobs.append(Job(str(number), draw(SECONDS), tuple(needs), draw(st.sampled_from(gpus))))
    return jobs


@st.composite
def matrices(draw: Any) -> list[Job]:
    """Steps of all kinds, and questions to what some of them make."""
    steps = draw(dags(gpus=(0, 1, 2, 4, 6)))
    asked = []
    for step in steps:
        base = draw(st.sampled_from("ab"))
        costs = {"model": step.key, "base": base, "start": 3.0, "switch": 0.5}
        for number in range(draw(st.integers(0, 3))):
            key = f"{step.key} {number}"
            size = 2 if base == "b" else 1
            asked.append(Job(key, draw(SECONDS), (step.key,), gpus=size, **costs))
    return [*steps, *asked]


def used(found: Simulated, time: float) -> Counter[tuple[int, str]]:
    """By node: GPUs and slots in use."""
    total: Counter[tuple[int, str]] = Counter()
    for span in found.spans:
        if span.start <= time < span.end:
            for node, gpus in span.place:
                total[node, "gpus"] += gpus
                total[node, "slots"] += not span.job.gpus
    return total


@settings(deadline=None, max_examples=40)
@given(matrices())
def test_nothing_is_used_twice_and_nothing_starts_before_what_it_needs(jobs: list[Job]) -> None:
    found = simulate(jobs, Resources(nodes=2, gpus=4, slots=2))
    ended = {span.job.key: span.end for span in found.spans}
    assert len(found.spans) == len(ended) == len(jobs)
    for span in found.spans:
        assert all(span.start >= ended[needed] for needed in span.job.needs)
        assert span.end - span.start == pytest.approx(span.overhead + span.job.seconds)
        assert sum(gpus for _, gpus in span.place) == span.job.gpus
        assert len(span.place) == (1 if span.job.gpus <= 4 else 2)
        in_use = used(found, span.start)
        assert all(in_use[node, "gpus"] <= 4 and in_use[node, "slots"] <= 2 for node in (0, 1))
    gpu_work = sum(job.gpus * job.seconds for job in jobs)
    assert found.makespan >= max(found.shortest, gpu_work / 8) - 1e-9
    assert all(before.key in job.needs for before, job in pairwise(found.critical))
    # whoever asks a model first has switched to it
    firsts = {span.job.model: span for span in reversed(found.spans) if span.job.model}
    assert all(span.overhead in (0.5, 3.5) for span in firsts.values())


@settings(deadline=None, max_examples=40)
@given(dags())
def test_with_gpus_enough_a_schedule_is_as_long_as_its_critical_path(jobs: list[Job]) -> None:
    longest: dict[str, float] = {}
    for job in jobs:
        longest[job.key] = job.seconds + max((longest[key] for key in job.needs), default=0.0)
    found = simulate(jobs, Resources(gpus=len(jobs)))
    assert found.makespan == pytest.approx(max(longest.values()))
    assert found.shortest == pytest.approx(found.makespan)


@settings(deadline=None, max_examples=30)
@given(dags(most=6), st.integers(1, 3))
def test_a_schedule_is_at_most_graham_s_bound_longer_than_the_best_one(
    jobs: list[Job], count: int
) -> None:
    """Graham 1969: any list schedule on m machines takes at most 2 − 1/m times the best one."""
    best = min(in_order(order, count) for order in permutations(jobs))
    found = simulate(jobs, Resources(gpus=count)).makespan
    assert best - 1e-9 <= found <= (2 - 1 / count) * best + 1e-9


def in_order(jobs: tuple[Job, ...], count: int) -> float:
    """One job after the other as early as can be; some order gives the best schedule there is."""
    ends: dict[str, float] = {}
    free = [0.0] * count
    for job in jobs:
        if not ends.keys() >= set(job.needs):
            return math.inf
        ready = max((ends[key] for key in job.needs), default=0.0)
        # the latest machine that is free by then leaves the others for what comes
        machine = max((t for t in free if t <= ready), default=min(free))
        ends[job.key] = max(ready, machine) + job.seconds
        free[free.index(machine)] = ends[job.key]
    return max(ends.values())


def test_the_longest_chain_goes_first_whatever_comes_first_in_the_plan() -> None:
    short = [Job(f"short {n}", 3.0, gpus=1) for n in range(2)]
    chain = [Job("first", 1.0, gpus=1), Job("second", 6.0, ("first",), gpus=1)]
    assert simulate([*short, *chain], Resources(gpus=2)).makespan == 7


def asked(model: str, count: int, base: str = "base", gpus: int = 1, switch: float = 1.0) -> list:
    return [
        Job(f"{model} {n}", 2.0, gpus=gpus, model=model, base=base, start=10.0, switch=switch)
        for n in range(count)
    ]


def test_an_engine_keeps_its_model_and_only_another_base_needs_another_engine() -> None:
    found = simulate([*asked("a", 3), *asked("b", 2)], Resources())
    assert [span.overhead for span in found.spans] == [11, 0, 0, 1, 0]
    assert [span.job.model for span in found.spans] == ["a", "a", "a", "b", "b"]
    assert found.makespan == 11 + 3 * 2 + 1 + 2 * 2
    other = simulate([*asked("a", 3), *asked("b", 2, base="other")], Resources())
    assert [span.overhead for span in other.spans] == [11, 0, 0, 11, 0]


def test_a_second_engine_helps_only_where_its_start_is_worth_it() -> None:
    few = simulate(asked("a", 3), Resources(gpus=2))
    assert {span.place for span in few.spans} == {((0, 1),)} and len(few.spans) == 3
    assert few.makespan == 11 + 3 * 2
    many = simulate(asked("a", 20), Resources(gpus=2))
    assert many.makespan == 11 + 10 * 2


def test_small_work_does_not_keep_a_large_run_from_its_gpus() -> None:
    step, large = Job("step", 15.0), Job("large", 5.0, ("step",), gpus=4)
    # of different lengths, so that their ends do not coincide
    small = [replace(job, seconds=2 + n / 7) for n in range(12) for job in asked(f"m{n}", 3)]
    found = simulate([step, large, *small], Resources(gpus=4))
    start = next(span.start for span in found.spans if span.job is large)
    before = [span for span in found.spans if span.start < 15 <= span.end and span.job.gpus]
    # what runs when the step ends is waited for, and nothing that would end later is begun
    assert start == max(span.end for span in before)
    assert all(span.end <= start or span.start >= start for span in found.spans)


def test_steps_wait_for_memory_and_what_fits_nowhere_is_said() -> None:
    jobs = [Job(str(n), 1.0, memory=60) for n in range(4)]
    assert simulate(jobs, Resources(nodes=2, slots=4, memory=100)).makespan == 2
    with pytest.raises(ValueError, match="huge: no node has room"):
        simulate([Job("x", 1.0, memory=101, label="huge")], Resources(memory=100))


@settings(deadline=None, max_examples=30)
@given(dags(gpus=(0, 1)), st.sampled_from((0.7, 1, 2.5, 4)))
def test_what_sharing_cores_took_can_be_taken_out_again(jobs: list[Job], cores: float) -> None:
    found = simulate(jobs, Resources(gpus=2, slots=3, cores=cores))
    alone = unshared([(span.start, span.end) for span in found.spans], cores)
    assert alone == pytest.approx([span.job.seconds for span in found.spans])


def test_processes_share_cores_evenly() -> None:
    jobs = [Job("a", 1.0), Job("b", 2.0)]
    found = simulate(jobs, Resources(slots=2, cores=1))
    assert [span.end for span in found.spans] == [2, 3]
    assert simulate(jobs, Resources(slots=2, cores=2)).makespan == 2
    assert simulate(jobs, Resources(slots=2, cores=1, slot_start=0.5)).makespan == 4


PAPER = Path(__file__).parents[2] / "harness" / "matrices" / "paper-llama3-8b.yaml"


def simulated(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    app(["plan", str(PAPER), "--json", *options], standalone_mode=False)
    return json.loads(capsys.readouterr().out)["simulated"]


def test_the_paper_s_matrix_on_1_8_and_64_gpus(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, eight, many = (
        simulated(capsys, "--nodes", nodes, "--gpus", gpus)
        for nodes, gpus in (("1", "1"), ("1", "8"), ("8", "8"))
    )
    assert one["makespan"] > eight["makespan"] > many["makespan"]
    assert one["utilisation"] > eight["utilisation"] > many["utilisation"]
    assert one["offloaded"] and not eight["offloaded"]
    for found in (one, eight, many):
        assert found["makespan"] >= max(found["critical_path"], found["gpu_bound"])
        assert found["makespan"] == max(row["end"] for row in found["schedule"])
        assert sum(group["jobs"] for group in found["groups"].values()) == len(found["schedule"])
    # by hand: 3 GPUs have the memory of a full training of 8B parameters, two such a node of 8
    joint = [row for row in eight["schedule"] if row["job"].startswith("train joint")]
    assert [sum(row["gpus"].values()) for row in joint] == [3, 3]
    flops = 6 * 8_030_261_248 * 244 * 16 * 2048
    reading = 2 * 2 * 8_030_261_248 / 1e9
    took = flops / (3 * 0.4 * 989.4e12) + 30 + reading
    assert joint[0]["end"] - joint[0]["start"] == pytest.approx(took)


def test_a_recorded_run_says_what_work_takes_alone(home: Path) -> None:
    """On one core: an engine starts (0 to 4), a worker starts (0 to 2) and trains (to 6); the base
    is asked 8 questions from when the engine is there (to 10)."""
    began = datetime(2026, 1, 1, tzinfo=UTC)

    def at(seconds: float) -> datetime:
        return began + timedelta(seconds=seconds)

    run = {"run_id": "r", "matrix": "m", "matrix_file": {}, "versions": {}, "hardware": {}}
    manifest = {"seconds": 4.0, "tokens": 100, "parameters": 7, "bytes": 28}
    artifact = {"key": "k", "kind": "train", "label": "language es", "path": "/k"}
    with store.writer() as writer:
        writer.begin_run({**run, "started": began})
        made = {**manifest, "created": at(6).isoformat()}
        writer.record_artifact({**artifact, "manifest": made, "created": at(6)})
        for key, task, seconds in (("a", "sums", 1.0), ("b", "more", 3.0)):
            row = cell(key, model_key="base", task=task, seconds=seconds, created=at(10))
            writer.commit_cell(row, items(key, [True] * 4))
        writer.finish_run("r", "done", at(20), {"start_seconds": 4.0})
        writer.snapshot(now=True)
    found = recorded(cores=1)
    assert (found.engine, found.worker, found.steps) == (2, 1, {"k": 2})
    assert found.likes == {("language", 7): 0.02}
    assert found.cells == {("base", "sums"): 1.25, ("base", "more"): 3.75}
    assert found.item == 5 / 8
    shared = recorded(cores=2)
    assert (shared.engine, shared.worker, shared.steps) == (4, 2, {"k": 4})


def test_this_machine_is_simulated_by_what_was_recorded_on_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 4)
    plan = make_plan(load_matrix(PAPER.with_name("nano.yaml")))
    steps = {step.key: 1.0 for step in plan.missing_steps}
    prices = Prices(plan, DEFAULT_GPU, UTILISATION)
    known = Recorded(steps=steps, item=0.0, engine=2.0, worker=1.0)
    work = on_this_machine(plan, prices, known, workers=1)
    assert work.sources == {"recorded": len(steps), "like": len(work.jobs) - len(steps)}
    # one worker makes one step after the other; questions take no time here
    assert simulate(work.jobs, work.resources).makespan == 1 + len(steps)
    two = on_this_machine(plan, prices, known, workers=2)
    assert 1 + len(steps) / 2 <= simulate(two.jobs, two.resources).makespan < 1 + len(steps)


def test_what_is_unknown_is_counted_and_a_model_that_fits_nowhere_is_refused(home: Path) -> None:
    scaled = load_matrix(PAPER.with_name("micro-scale.yaml"))
    fewer = {"methods": scaled.methods[:3], "languages": ["te"], "variants": scaled.variants[1:2]}
    plan = make_plan(scaled.model_copy(update=fewer))
    prices = Prices(plan, DEFAULT_GPU, UTILISATION)
    work = on_gpus(plan, prices, GPUS[DEFAULT_GPU], nodes=1, gpus=2)
    pretrained = {step.key for step in plan.missing_steps if step.kind == "pretrain"}
    # nothing says how long these take, nor how large what is trained from them is
    assert pretrained and work.sources["unknown"] >= len(pretrained)
    assert len(simulate(work.jobs, work.resources).spans) == len(work.jobs)
    large = make_plan(load_matrix(PAPER))
    small = Gpu("small", bfloat16=1e12, float32=1e12, memory=8e9)
    with pytest.raises(InputError, match=r"--gpus: 2: a model of 16.1 GB does not fit on the GPUs"):
        on_gpus(large, Prices(large, DEFAULT_GPU, UTILISATION), small, nodes=4, gpus=2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--workers", "2", "--gpus", "8"], "--workers: this machine without a GPU"),
        (["--nodes", "4"], "--nodes: 4; say with --gpus how many GPUs each has"),
        (["--gpus", "1", "--gpu", "h10"], "--gpu: 'h10' is unknown; did you mean 'h100'?"),
    ],
)
def test_what_cannot_be_simulated_is_refused(home: Path, options: list[str], told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        app(["plan", str(PAPER), *options], standalone_mode=False)
