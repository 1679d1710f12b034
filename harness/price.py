"""What a matrix will take before anything of it is here: downloads, disk, GPU memory, GPU hours.

From the plan alone: no network, no torch. What is not known is counted as unknown, never as 0.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import footprint
from harness.footprint import Shape
from harness.plan import Cell, Plan
from harness.sizes import bases, parameters, sizes
from harness.spec_machine import Engine
from harness.steps import Step
from harness.tasks import Task
from harness.world import cached, known_config, known_numel
from maec.checkpoint import open_checkpoint
from maec.errors import InputError, nearest
from maec.settings import TrainSettings


@dataclass(frozen=True)
class Gpu:
    """Dense peak FLOP/s by arithmetic, and bytes of memory."""

    name: str
    bfloat16: float
    float32: float
    memory: float

    def peak(self, dtype: str) -> float:
        return self.float32 if dtype == "float32" else self.bfloat16


# NVIDIA's data sheets (of the RTX 4090 the Ada architecture's white paper); half of what they give
# "with sparsity"; float32 is that of the plain cores, as torch multiplies by default
GPUS = {
    "a100": Gpu("NVIDIA A100 80 GB", 312e12, 19.5e12, 80e9),
    "h100": Gpu("NVIDIA H100 SXM", 989.4e12, 66.9e12, 80e9),
    "h100-pcie": Gpu("NVIDIA H100 PCIe", 756e12, 51.2e12, 80e9),
    "h200": Gpu("NVIDIA H200 SXM", 989.4e12, 66.9e12, 141e9),
    "l40s": Gpu("NVIDIA L40S", 362e12, 91.6e12, 48e9),
    "rtx4090": Gpu("NVIDIA RTX 4090", 165.2e12, 82.6e12, 24e9),
}
DEFAULT_GPU = "h100"
UTILISATION = 0.4

STORED = 2
"""Bytes of a parameter of a published checkpoint."""

TEXT_BYTES = 4
"""Bytes of training text a token."""

PROMPT_BYTES = 3
"""Bytes of a question a token: scripts other than Latin take more tokens."""

GENERATED = 256
"""Tokens of an answer where a task does not limit it: lm-eval's own limit."""

CHOICES = 4

TEST_SETS = (
    (r".*_(native_cot|en_cot|direct)_\w+", 250, 300),
    (r".*_arc_\w+", 1_172, 300),
    (r".*_global_mmlu_full_\w+_stem", 3_153, 600),
    (r".*_(m_mmlu|global_mmlu_full)_[a-z]+", 14_042, 600),
)
"""Questions of a task that was not fetched yet, by its name, and about so many bytes of each: sizes
of the English originals, GSM8K's sample, ARC-Challenge, MMLU and its STEM subjects."""

FIGURES = ("download", "disk", "flops", "gpu_hours")
"""What adds up; GPU memory does not."""

Row = dict[str, Any]


def price(plan: Plan, gpu: str = DEFAULT_GPU, utilisation: float = UTILISATION) -> dict[str, Any]:
    """The price of what a plan has left to do, as JSON values.

    ``steps`` holds one row a step, ``groups`` sums over steps of a kind that are missing, and
    ``evaluation`` is among them; ``total`` is their sum. A sum is ``{"known": …, "unknown": n}``
    with the number of its terms that are unknown. Bytes are those of ``download``, ``disk`` and
    ``gpu_memory`` (of one step at a time; the largest of a group), ``gpu_hours`` those of the
    ``flops`` at the peak of ``gpu`` times ``utilisation``.

    Raises:
        InputError: no such GPU, or a utilisation outside (0, 1].
    """
    priced = Prices(plan, gpu, utilisation)
    rows = [priced.step(step) for step in plan.steps]
    left = {step.key for step in plan.missing_steps}
    evaluations = [priced.evaluation(cell) for cell in asked(plan.missing_cells)]
    wanted = [*(row for row in rows if row["key"] in left), *evaluations]
    # the sorting is stable: trainings stay in the order of the plan
    names = sorted(dict.fromkeys(row["group"] for row in wanted), key=_place)
    return {
        "gpu": GPUS[gpu].name,
        "gpu_memory": GPUS[gpu].memory,
        "peak": {"bfloat16": GPUS[gpu].bfloat16, "float32": GPUS[gpu].float32},
        "utilisation": utilisation,
        "bases": priced.bases(),
        "steps": rows,
        "groups": {name: _sum(wanted, name) for name in names},
        "total": _sum(wanted),
    }


class Prices:
    """Prices of steps and evaluations of one plan.

    Raises:
        InputError: as :func:`price`.
    """

    def __init__(self, plan: Plan, gpu: str, utilisation: float) -> None:
        if gpu not in GPUS:
            raise InputError(
                f"--gpu: '{gpu}' is unknown{nearest(gpu, GPUS)} (known: {', '.join(GPUS)})"
            )
        if not 0 < utilisation <= 1:
            raise InputError(f"--utilisation: {utilisation}; give a share in (0, 1]")
        self._plan = plan
        self._speed = {d: GPUS[gpu].peak(d) * utilisation * 3600 for d in footprint.BYTES}
        self._parameters = parameters(plan, known_numel)
        self._written = sizes(plan.steps, self._parameters)
        self._base = bases(plan)
        self._shapes = {base.key: _shape(plan, base) for base in self._distinct()}
        self._counted: dict[Task, tuple[int | None, int]] = {}
        self._fetched: set[str] = set()

    def _distinct(self) -> Iterable[Step]:
        return {base.key: base for base in self._base.values()}.values()

    def bases(self) -> list[Row]:
        """What is known of each base."""
        return [
            {
                "label": base.label,
                "parameters": self._parameters[base.key],
                "layers_known": self._shapes[base.key] is not None,
            }
            for base in self._distinct()
        ]

    def step(self, step: Step) -> Row:
        download = self._download(step)
        written = self._written[step.key]
        flops, dtype = self._flops(step)
        return {
            "key": step.key,
            "group": _group(step),
            "download": download,
            # what is fetched stays in the hub's cache; text that is read does not stay
            "disk": _added(written, download) if step.kind == "fetch" else written,
            "gpu_memory": self._memory(step),
            "flops": flops,
            "gpu_hours": None if flops is None else flops / self._speed[dtype],
        }

    def parameters(self, step: Step) -> int | None:
        """Of the base that a step belongs to."""
        return self._parameters[step.key]

    def weights(self, cell: Cell) -> int:
        """Bytes of a cell's model in its engine; 0 where they are unknown."""
        number, shape = self.parameters(cell.base), self._shapes[cell.base.key]
        return footprint.weights(cell.engine, number or 0, shape)

    def bytes(self, step: Step) -> int:
        """Of what a step makes or, a base, is; 0 where they are unknown."""
        number = self.parameters(step) or 0
        if step.kind == "fetch" and "model" in step.settings:
            return STORED * number
        return self._written[step.key] or 0

    def evaluation(self, cell: Cell) -> Row:
        """A row for the questions that a cell asks its model; their download is that of the first
        model that is asked them."""
        engine = cell.engine
        number, (tokens, size) = self._parameters[cell.base.key], self._asked(cell.task)
        here = bool(cell.task.docs) or cell.task.name in self._fetched
        self._fetched.add(cell.task.name)
        flops = None if number is None or tokens is None else 2 * number * tokens
        return {
            "group": "evaluation",
            "download": 0 if here else size or None,
            "disk": 0,
            "gpu_memory": footprint.serving(engine, number, self._shapes[cell.base.key]),
            "flops": flops,
            "gpu_hours": None if flops is None else flops / self._speed[engine.dtype],
        }

    def _asked(self, task: Task) -> tuple[int | None, int]:
        """Tokens and bytes of a task's questions, counted once for all models."""
        if task not in self._counted:
            sizes = _question_bytes(task, self._plan.matrix.items)
            self._counted[task] = (_tokens(task, sizes) if sizes else None, sum(sizes))
        return self._counted[task]

    def _download(self, step: Step) -> int | None:
        if step.kind == "fetch" and "model" in step.settings:
            if _is_whole(cached(step)):
                return 0
            number = self._parameters[step.key]
            return None if number is None else STORED * number
        sources = [corpus.get("source") or {} for corpus in step.settings.get("corpora", [])]
        if not any("dataset" in source for source in sources):
            return 0
        tokens = _read(step)
        return None if tokens is None else TEXT_BYTES * tokens

    def _flops(self, step: Step) -> tuple[float | None, str]:
        """FLOPs on a GPU, and their arithmetic. Merges and masks are the CPU's."""
        number = self._parameters[step.key]
        if step.kind == "train":
            settings = step.settings["training"]
            flops = None if number is None else 6 * number * trained_tokens(settings)
            return flops, settings["precision"]
        unknown = step.kind == "pretrain" or step.settings.get("importance") == "activation"
        return None if unknown else 0, "float32"

    def _memory(self, step: Step) -> int | None:
        """None where it is unknown; 0 for what needs no GPU."""
        if step.kind == "train":
            settings = TrainSettings(**step.settings["training"])
            shape = self._shapes[self._base[step.key].key]
            masked = "mask" in step.inputs
            return footprint.training(
                settings,
                self._parameters[step.key],
                shape,
                masked=masked,
                processes=step.processes,
            )
        return None if step.kind == "pretrain" else 0


def asked(cells: Iterable[Cell]) -> list[Cell]:
    """One cell for each task that each model in each engine is asked, by whatever name it stands
    in a matrix."""
    found: dict[tuple[str, str, Engine], Cell] = {}
    for cell in cells:
        task = str(cell.task.key or cell.task.name)
        found.setdefault((cell.model.key, task, cell.engine), cell)
    return list(found.values())


def trained_tokens(training: Mapping[str, Any]) -> int:
    """D of a run."""
    return training["steps"] * training["batch_size"] * training["sequence_length"]


def _read(step: Step) -> int | None:
    """Tokens of text that a step reads at most; None where nothing but documents is counted."""
    budgets = [corpus.get("tokens") for corpus in step.settings["corpora"]]
    most = None if None in budgets else sum(budgets)
    if step.kind != "train":
        return most
    trained = trained_tokens(step.settings["training"])
    return trained if most is None else min(trained, most)


def _question_bytes(task: Task, limit: int | None) -> list[int]:
    """Of each question; estimated while they were not fetched, and none where nothing says it."""
    if task.docs:
        return [_bytes(doc) for doc in task.docs]
    for name, questions, size in TEST_SETS:
        if re.fullmatch(name, task.name):
            return [size] * min(questions, limit or questions)
    return []


def _tokens(task: Task, sizes: list[int]) -> int:
    """Tokens that a model reads and writes for a task at most."""
    config = task.config
    shots = 1 + (config.get("num_fewshot") or 0)
    prompts = sum(-(-size * shots // PROMPT_BYTES) for size in sizes)
    match config.get("output_type", "generate_until"):
        case "multiple_choice":
            choices = config.get("doc_to_choice")
            return prompts * (len(choices) if isinstance(choices, list) else CHOICES)
        case "generate_until":
            limits = config.get("generation_kwargs") or {}
            return prompts + len(sizes) * int(limits.get("max_gen_toks") or GENERATED)
        case _:
            return prompts


def _bytes(value: Any) -> int:
    """Of all text in a question."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return sum(_bytes(part) for part in value.values())
    return sum(_bytes(part) for part in value) if isinstance(value, list | tuple) else 0


def _shape(plan: Plan, base: Step) -> Shape | None:
    return Shape.of(known_config(plan.matrix, base))


def _is_whole(folder: Path | None) -> bool:
    try:
        return folder is not None and bool(open_checkpoint(folder).tensors)
    except InputError:
        return False


def _group(step: Step) -> str:
    return f"train {step.label.split()[0]}" if step.kind == "train" else step.kind


def _place(group: str) -> int:
    """Where a table has a group."""
    order = ("fetch", "pretrain", "train", "locate", "extract", "combine", "mergekit", "evaluation")
    return order.index(group.split()[0])


def _added(*terms: int | None) -> int | None:
    return None if None in terms else sum(term for term in terms if term is not None)


def _sum(rows: Iterable[Row], group: str | None = None) -> dict[str, Any]:
    own = [row for row in rows if group in (None, row["group"])]

    def total(figure: str) -> dict[str, Any]:
        values = [row[figure] for row in own]
        known = [value for value in values if value is not None]
        return {"known": sum(known), "unknown": len(values) - len(known)}

    memory = [row["gpu_memory"] for row in own]
    largest = max((value for value in memory if value is not None), default=0)
    return {
        "count": len(own),
        **{figure: total(figure) for figure in FIGURES},
        "gpu_memory": {"known": largest, "unknown": memory.count(None)},
    }


def gpus_needed(memory: float, each: float) -> int:
    """How many GPUs with ``each`` bytes have so much memory between them."""
    return max(1, -(-int(memory) // int(each)))


def assumptions(plan: Plan, found: Mapping[str, Any]) -> list[str]:
    """What the prices take for granted, a line each, as far as it matters for them."""
    engine, peak = plan.matrix.engine, found["peak"]
    held = engine.max_num_seqs if engine.kind == "vllm" else engine.batch_size
    lines = [
        f"GPU hours: FLOPs at {found['utilisation']:.0%} of the dense peak of one {found['gpu']} "
        f"({peak['bfloat16'] / 1e12:,.0f} TFLOP/s in bfloat16, {peak['float32'] / 1e12:,.0f} in "
        "float32; NVIDIA's data sheets); writing answers reaches less. Merges need no GPU.",
        f"Evaluation: 2·N FLOPs a token; questions at {PROMPT_BYTES} bytes a token, times one and "
        "the number of examples; answers as long as they may be; memory: weights, keys and values "
        f"of {held} sequences of {engine.max_model_len} tokens, {engine.dtype} (vLLM does with "
        "less).",
    ]
    if any(name.startswith("train") for name in found["groups"]):
        lines.append(
            "Training: 6·N·D FLOPs, D = steps × batch_size × sequence_length; memory: weights, "
            "gradients and AdamW's moments in float32 (16 bytes a parameter), and activations as "
            "in harness/footprint.py; disk: without states of runs under way, 12 bytes a parameter."
        )
    if (count := plan.matrix.resources.processes) > 1:
        lines.append(
            f"Each training is shared by {count} GPUs: memory is that of each, hours are those of "
            "all."
        )
    if (count := max(cell.engine.workers for cell in plan.cells)) > 1:
        lines.append(
            f"Engines are split among up to {count} GPUs: their memory is that of all together."
        )
    if any(found["total"]["download"].values()):
        lines.append(
            f"Downloads: {STORED} bytes a parameter of models that are not in the hub's cache, "
            f"where they stay; text as far as runs can read it, {TEXT_BYTES} bytes a token, for "
            "each run anew."
        )
    if any(not cell.task.docs for cell in plan.missing_cells):
        lines.append(
            "Questions that were not fetched yet: as many as in the English originals of MGSM, ARC "
            "and MMLU, 300 to 600 bytes each; of other tasks they are unknown."
        )
    unknown = [b["label"] for b in found["bases"] if not (b["parameters"] and b["layers_known"])]
    if unknown:
        lines.append(
            f"Of unknown size until it is here: {', '.join(unknown)}; of a base on a hub "
            "`parameters` and `config` in the matrix file say it."
        )
    return lines
