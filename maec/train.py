"""Continual pre-training of a checkpoint: all parameters, LoRA, or key neurons only.

One code path on transformers' Trainer, so that accelerate and FSDP come with it. What differs
between the three modes is which parameters an optimiser may touch:

* all parameters: nothing is done;
* LoRA: peft wraps the linear layers, and the adapters are merged before writing;
* key neurons only: gradients are masked before clipping, and weight decay is applied by a masked
  step of our own. AdamW's update of an entry whose gradient was always zero is exactly zero, so
  nothing outside N_A changes by a single bit and its optimiser state stays zero (METHOD.md,
  Extraction 2).

Several processes (:mod:`maec.distributed`) hold a part each of weights, gradients, optimiser state
and mask, by FSDP2, and compute a share each of every batch: the same batches in the same order,
however many they are.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import save_file
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from maec.checkpoint import Checkpoint, copy_companions, open_checkpoint, write_tensors
from maec.distributed import from_first, local, meet, rank, size, whole
from maec.errors import InputError
from maec.folder import new_folder, require_new
from maec.masked import KeyNeurons, Mask
from maec.neurons import GRADIENT_FILE
from maec.own_code import require_allowed
from maec.settings import TrainSettings
from maec.token_blocks import read_blocks, share

Progress = Callable[[int, int, float], None]

SAVE_EVERY_SECONDS = 300.0
"""How much work an interruption may cost a run that was given a scratch folder."""


@dataclass(frozen=True)
class TrainReport:
    """What a run was: tokens seen, seconds, peak resident bytes of the first process, entries of
    the model and those of them that were trained, losses, how many processes there were."""

    tokens: int
    seconds: float
    peak_memory: int
    parameters: int
    trainable_parameters: int
    losses: list[float]
    processes: int


def train(
    start: Path,
    documents: Iterable[str],
    out: Path,
    settings: TrainSettings,
    *,
    mask: Mask | None = None,
    extra_loss: Callable[[PreTrainedModel], torch.Tensor] | None = None,
    progress: Progress | None = None,
    scratch: Path | None = None,
    trust_remote_code: bool = False,
) -> TrainReport:
    """Train the checkpoint at ``start`` on ``documents`` and write the result to ``out``.

    Documents are packed into blocks of ``sequence_length`` tokens, and each pass over the blocks
    has an order of its own, drawn from the seed. A sequence of documents is packed whole, so that
    the blocks of a short run are a sample of all of it. Anything else is read once, in its own
    order and no further than the run's steps × batch_size blocks go; text that ends sooner is
    passed over again, like a sequence. A token takes 4 bytes of memory, a document none once it is
    packed.

    ``mask`` maps tensor names to bool tensors of the same shape; entries that are False, and
    tensors that it does not name, keep every bit. ``extra_loss`` is added to the language-model
    loss. ``progress`` is called with (step, steps, loss) after every step. With ``scratch``, the
    run saves its state there every few minutes and goes on from it when called again.
    ``trust_remote_code`` runs code that the checkpoint brings.

    Where there are several processes, all of them call this, with a ``scratch`` that all can reach.
    The first one reads ``documents``, reports ``progress`` and writes ``out``; the others may be
    given none of the three. Sums are made in another order then: results agree to rounding.

    Raises:
        InputError: ``out`` taken, no document, a checkpoint with code of its own, a mask whose
            names or shapes do not fit the model, or a mask together with LoRA or with a dtype that
            would round what it keeps.
    """
    meet()
    if rank() == 0:
        require_new(out)
    if mask is not None and settings.lora_rank is not None:
        raise InputError(
            "lora_rank: cannot be combined with a key-neuron mask; leave one of them out"
        )
    if extra_loss is not None and settings.micro_batch_size is not None:
        raise InputError("micro_batch_size: cannot be combined with an extra loss; leave it out")
    if extra_loss is not None and size() > 1:
        raise InputError("processes: an extra loss needs the whole model; train in one process")
    base = open_checkpoint(start)
    require_allowed(start, trust_remote_code, "train it with trust_remote_code=True")
    if mask is not None:
        _require_exact(base, settings.dtype)
    torch.manual_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(start, trust_remote_code=trust_remote_code)
    blocks = from_first(read_blocks(tokenizer, documents, settings) if rank() == 0 else None)
    if not len(blocks):
        raise InputError(f"{start}: there is no text to train on; give at least one document")
    fresh = partial(
        AutoModelForCausalLM.from_pretrained,
        start,
        dtype=torch.float32,
        trust_remote_code=trust_remote_code,
    )
    model = fresh()
    model.config.use_cache = False
    if settings.lora_rank is not None:
        model = _with_lora(model, settings.lora_rank)
    keys = KeyNeurons(model, mask) if mask is not None else None
    gradient = _Gradient() if settings.record_gradient else None
    trainable = keys.count if keys else _trainable(model)
    if scratch and size() > 1:
        scratch = scratch / f"{size()}-processes"  # each with its part of the state

    with tempfile.TemporaryDirectory() as temporary:
        state = scratch or Path(temporary)
        # the recorded gradient is not part of a saved state: such a run, a short one, starts anew
        recorder = _Recorder(progress, save=scratch is not None and gradient is None)
        trainer = _Trainer(
            model=model,
            args=_arguments(settings, state),
            train_dataset=blocks,
            data_collator=share,
            callbacks=[recorder, *filter(None, (keys, gradient))],
            keys=keys,
            gradient=gradient,
            extra_loss=extra_loss,
        )
        trainer.remove_callback(PrinterCallback)
        began = time.monotonic()
        last = get_last_checkpoint(str(scratch)) if scratch and scratch.is_dir() else None
        trainer.train(resume_from_checkpoint=from_first(last))
        seconds = time.monotonic() - began

    lora = settings.lora_rank is not None
    values = _merged(trainer.model, fresh, settings) if lora else trainer.model.state_dict()
    _write(out, base, values, settings.dtype, gradient)
    return TrainReport(
        tokens=settings.steps * settings.batch_size * settings.sequence_length,
        seconds=seconds,
        # ru_maxrss is in KiB on Linux
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        parameters=base.numel(),
        trainable_parameters=trainable,
        losses=recorder.losses,
        processes=size(),
    )


class _Recorder(TrainerCallback):
    """Keep the loss of every step, report progress, and save the run's state now and then."""

    def __init__(self, progress: Progress | None, *, save: bool) -> None:
        self.losses: list[float] = []
        self._progress = progress
        self._save = save
        self._saved_at = time.monotonic()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))
            if self._progress and rank() == 0:
                self._progress(state.global_step, state.max_steps, self.losses[-1])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # processes save together, when the first one's clock says so
        if self._save and from_first(time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS):
            control.should_save = True
            self._saved_at = time.monotonic()


class _Gradient(TrainerCallback):
    """Σ |∂L/∂θ| over the steps of a run, in float32; each process holds a part."""

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: torch.nn.Module, **_: Any
    ) -> None:
        self._named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._totals = {name: torch.zeros_like(p, requires_grad=False) for name, p in self._named}

    def add(self) -> None:
        """Count the gradient of a step."""
        for name, parameter in self._named:
            if parameter.grad is not None:
                local(self._totals[name]).add_(local(parameter.grad).abs())

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """By name, whole; all processes must take them together."""
        for name, total in self._totals.items():
            yield name, whole(total)


class _Trainer(Trainer):
    """Trainer with parameter groups of our own, key neurons and an extra loss."""

    def __init__(
        self,
        *args: Any,
        keys: KeyNeurons | None,
        gradient: _Gradient | None,
        extra_loss: Callable[[PreTrainedModel], torch.Tensor] | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._keys = keys
        self._gradient = gradient
        self._extra_loss = extra_loss

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        if state.distributed_type == DistributedType.MULTI_CPU:
            # accelerate asks for FSDP2 on GPUs alone; torch has it wherever there are processes
            state.distributed_type = DistributedType.FSDP
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True

    def get_train_dataloader(self) -> DataLoader:
        """Whole batches, the same in every process: the collator takes the process's share."""
        loader = DataLoader(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            shuffle=True,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return prepare_data_loader(
            loader,
            device=self.args.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            use_seedable_sampler=True,
            data_seed=self.args.data_seed,
        )

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:  # the gradient of a step is whole, and not clipped yet
            if self._keys:
                self._keys.clear_gradients()
            if self._gradient:
                self._gradient.add()
        return loss

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if self._extra_loss is None:
            return loss
        extra = self._extra_loss(self.accelerator.unwrap_model(model))
        return (loss[0] + extra, *loss[1:]) if isinstance(loss, tuple) else loss + extra

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        settings = self.args
        module = model or self.model
        rows = module.get_input_embeddings().weight
        moving = [p for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in moving if p is not rows], "lr": settings.learning_rate},
            {
                "params": [p for p in moving if p is rows],
                "lr": settings.learning_rate * settings.embedding_lr_multiplier,
            },
        ]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            betas=(settings.adam_beta1, settings.adam_beta2),
            # with a mask KeyNeurons does it: AdamW's would reach entries outside
            weight_decay=0.0 if self._keys else settings.weight_decay,
        )
        return self.optimizer


@dataclass
class _Arguments(TrainingArguments):
    """TrainingArguments plus the one setting that Trainer does not know."""

    embedding_lr_multiplier: float = 1.0


def _arguments(settings: TrainSettings, folder: Path) -> _Arguments:
    together = settings.sequences_together(size())
    arguments = _Arguments(
        output_dir=str(folder),
        max_steps=settings.steps,
        # of all processes, as get_train_dataloader has it
        per_device_train_batch_size=together,
        gradient_accumulation_steps=settings.batch_size // together,
        # gradients are added up where they stay: nothing is held whole between parts of a batch
        accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": True}},
        fsdp=size() > 1,
        fsdp_config={"state_dict_type": "SHARDED_STATE_DICT"} if size() > 1 else None,
        gradient_checkpointing=settings.gradient_checkpointing,
        # the other kind has no gradients where the embeddings are frozen
        gradient_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=settings.learning_rate,
        embedding_lr_multiplier=settings.embedding_lr_multiplier,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": settings.min_lr_ratio},
        warmup_steps=round(settings.warmup_ratio * settings.steps),
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bfloat16",
        use_cpu=not torch.accelerator.is_available(),  # else bf16 is refused where there is none
        seed=settings.seed,
        data_seed=settings.seed,
        logging_steps=1,
        save_strategy="no",
        save_total_limit=1,  # a saved state holds the model and twice that of the optimiser
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
    )
    if size() > 1 and arguments.bf16:
        # as a process alone does: sums of gradients are float32
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        arguments.fsdp_plugin_args["mixed_precision_policy"] = policy
    return arguments


def _require_exact(base: Checkpoint, dtype: str) -> None:
    """Raise InputError if writing the base's numbers as ``dtype`` would round some of them."""
    exact = {"float32": {"F32", "F16", "BF16"}, "bfloat16": {"BF16"}}[dtype]
    for name, info in base.tensors.items():
        if info.is_float and info.dtype not in exact:
            raise InputError(
                f"dtype: {dtype} would round tensor {name!r} ({info.dtype} in {base.path}), and "
                "nothing outside the key neurons may change; give float32"
            )


def _with_lora(model: PreTrainedModel, rank: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def _merged(
    trained: Any, fresh: Callable[[], PreTrainedModel], settings: TrainSettings
) -> Mapping[str, torch.Tensor]:
    """The tensors with their adapters merged in; of several processes, in the first alone."""
    if size() == 1:
        return trained.merge_and_unload().state_dict()
    adapters = {
        n: whole(p.detach()).cpu() for n, p in trained.named_parameters() if p.requires_grad
    }
    if rank() > 0:
        return {}
    # peft merges whole layers
    model = _with_lora(fresh(), settings.lora_rank)
    model.load_state_dict(adapters, strict=False)
    return model.merge_and_unload().state_dict()


def _trainable(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _write(
    out: Path,
    base: Checkpoint,
    values: Mapping[str, torch.Tensor],
    dtype: str,
    gradient: _Gradient | None,
) -> None:
    """Write the checkpoint and what was recorded; a tensor at a time is put together, by all."""
    tensors = _tensors(base, values, dtype)
    totals = gradient.tensors() if gradient else iter(())
    if rank() > 0:
        deque(chain(tensors, totals), maxlen=0)
        return
    with new_folder(out) as folder:
        write_tensors(folder, tensors)
        copy_companions(base, folder, dtype=dtype)
        if gradient:
            save_file(dict(totals), folder / GRADIENT_FILE)


def _tensors(
    base: Checkpoint, values: Mapping[str, torch.Tensor], dtype: str
) -> Iterator[tuple[str, torch.Tensor]]:
    """The model under the base's tensor names, whole; what is no parameter comes from the base.

    All processes must take them together; the first one alone gets them.
    """
    for name in base.tensors:
        value = whole(values[name].detach()) if name in values else None
        if rank() == 0:
            yield name, base.read(name) if value is None else value.to("cpu", getattr(torch, dtype))
