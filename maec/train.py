"""Continual pre-training of a checkpoint: all parameters, LoRA, or key neurons only.

One code path on transformers' Trainer, so that accelerate and FSDP come with it. What differs
between the three modes is which parameters an optimiser may touch:

* all parameters: nothing is done;
* LoRA: peft wraps the linear layers, and the adapters are merged before writing;
* key neurons only: gradients are masked before clipping, and weight decay is applied by a masked
  step of our own. AdamW's update of an entry whose gradient was always zero is exactly zero, so
  nothing outside N_A changes by a single bit and its optimiser state stays zero (METHOD.md,
  Extraction 2).
"""

from __future__ import annotations

import resource
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils.data import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from maec.checkpoint import Checkpoint, copy_companions, open_checkpoint, write_tensors
from maec.errors import InputError
from maec.folder import new_folder, require_new
from maec.neurons import GRADIENT_FILE
from maec.own_code import require_allowed
from maec.settings import TrainSettings

Mask = Mapping[str, torch.Tensor]
Progress = Callable[[int, int, float], None]

SAVE_EVERY_SECONDS = 300.0
"""How much work an interruption may cost a run that was given a scratch folder."""

TOKENIZED = 256
"""Documents that are tokenized at a time: enough for all cores, and never a corpus."""


@dataclass(frozen=True)
class TrainReport:
    """What a run was: tokens seen, seconds, peak resident bytes, entries of the model and those of
    them that were trained, losses."""

    tokens: int
    seconds: float
    peak_memory: int
    parameters: int
    trainable_parameters: int
    losses: list[float]


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

    Raises:
        InputError: ``out`` taken, no document, a checkpoint with code of its own, a mask whose
            names or shapes do not fit the model, or a mask together with LoRA or with a dtype that
            would round what it keeps.
    """
    require_new(out)
    if mask is not None and settings.lora_rank is not None:
        raise InputError(
            "lora_rank: cannot be combined with a key-neuron mask; leave one of them out"
        )
    if extra_loss is not None and settings.micro_batch_size is not None:
        raise InputError("micro_batch_size: cannot be combined with an extra loss; leave it out")
    base = open_checkpoint(start)
    require_allowed(start, trust_remote_code, "train it with trust_remote_code")
    if mask is not None:
        _require_exact(base, settings.dtype)
    torch.manual_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(start, trust_remote_code=trust_remote_code)
    blocks = _read_blocks(tokenizer, documents, settings)
    if not len(blocks):
        raise InputError(f"{start}: there is no text to train on; give at least one document")
    model = AutoModelForCausalLM.from_pretrained(
        start, dtype=torch.float32, trust_remote_code=trust_remote_code
    )
    model.config.use_cache = False
    if settings.lora_rank is not None:
        model = _with_lora(model, settings.lora_rank)
    if mask is not None:
        _mask_gradients(model, mask)
    gradient = _record_gradient(model) if settings.record_gradient else None
    trainable = _trainable(model, mask)

    with tempfile.TemporaryDirectory() as temporary:
        state = scratch or Path(temporary)
        # the recorded gradient is not part of a saved state: such a run, a short one, starts anew
        recorder = _Recorder(progress, save=scratch is not None and gradient is None)
        trainer = _Trainer(
            model=model,
            args=_arguments(settings, state),
            train_dataset=blocks,
            callbacks=[recorder],
            mask=mask,
            extra_loss=extra_loss,
        )
        trainer.remove_callback(PrinterCallback)
        began = time.monotonic()
        last = get_last_checkpoint(str(scratch)) if scratch and scratch.is_dir() else None
        trainer.train(resume_from_checkpoint=last)
        seconds = time.monotonic() - began

    trained = trainer.model.merge_and_unload() if settings.lora_rank is not None else trainer.model
    with new_folder(out) as folder:
        _write(base, trained, folder, settings.dtype)
        if gradient is not None:
            save_file(gradient, folder / GRADIENT_FILE)
    return TrainReport(
        tokens=settings.steps * settings.batch_size * settings.sequence_length,
        seconds=seconds,
        # ru_maxrss is in KiB on Linux
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        parameters=base.numel(),
        trainable_parameters=trainable,
        losses=recorder.losses,
    )


def pack(
    tokenizer: PreTrainedTokenizerBase, documents: Iterable[str], length: int
) -> Iterator[list[int]]:
    """Blocks of exactly ``length`` token ids, each document followed by the end-of-text token.

    Every block begins with the beginning of a document, as prompts do, unless the document is
    longer than a block: then it goes on in the next one. A shorter document that does not fit is
    cut, and begins the next block whole. Text that fills less than one block is repeated.

    Documents are read as blocks are asked for, ``TOKENIZED`` at a time.
    """
    end = tokenizer.eos_token_id
    block: list[int] = []
    packed = False
    for ids in _tokenized(tokenizer, documents):
        rest = [*ids, end]
        shorter = len(rest) <= length
        while rest:
            room = length - len(block)
            if len(rest) <= room:
                block += rest
                break
            yield block + rest[:room]
            packed = True
            block = []
            if not shorter:
                rest = rest[room:]
        if len(block) == length:
            yield block
            packed = True
            block = []
    if block and not packed:
        yield (block * (length // len(block) + 1))[:length]


def _tokenized(tokenizer: PreTrainedTokenizerBase, documents: Iterable[str]) -> Iterator[list[int]]:
    unread = iter(documents)
    while texts := list(islice(unread, TOKENIZED)):
        yield from tokenizer(texts, add_special_tokens=False)["input_ids"]


class _Blocks(Dataset):
    """Token blocks as Trainer wants them; labels are the inputs, shifted by the model."""

    def __init__(self, blocks: Iterable[Sequence[int]], length: int) -> None:
        ids = array("i")
        for block in blocks:
            ids.extend(block)
        self._ids = torch.frombuffer(ids, dtype=torch.int32).view(-1, length) if ids else ()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = self._ids[index].long()
        return {"input_ids": ids, "labels": ids}


def _read_blocks(
    tokenizer: PreTrainedTokenizerBase, documents: Iterable[str], settings: TrainSettings
) -> _Blocks:
    """What a run trains on: all of a sequence, of anything else no more than the run can use."""
    most = None if isinstance(documents, Sequence) else settings.steps * settings.batch_size
    blocks = pack(tokenizer, documents, settings.sequence_length)
    return _Blocks(islice(blocks, most), settings.sequence_length)


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
            if self._progress:
                self._progress(state.global_step, state.max_steps, self.losses[-1])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._save and time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS:
            control.should_save = True
            self._saved_at = time.monotonic()


class _Trainer(Trainer):
    """Trainer with parameter groups of our own, a masked weight decay and an extra loss."""

    def __init__(
        self,
        *args: Any,
        mask: Mask | None,
        extra_loss: Callable[[PreTrainedModel], torch.Tensor] | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._mask = mask
        self._extra_loss = extra_loss

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
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        groups = [
            {"params": [p for _, p in named if p is not rows], "lr": settings.learning_rate},
            {
                "params": [p for _, p in named if p is rows],
                "lr": settings.learning_rate * settings.embedding_lr_multiplier,
            },
        ]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            betas=(settings.adam_beta1, settings.adam_beta2),
            # with a mask the decay is ours: AdamW's would reach entries outside it
            weight_decay=0.0 if self._mask is not None else settings.weight_decay,
        )
        if self._mask is not None and settings.weight_decay:
            masks = {p: self._mask[name].to(p.device) for name, p in named}
            self.optimizer.register_step_pre_hook(_masked_decay(masks, settings.weight_decay))
        return self.optimizer


@dataclass
class _Arguments(TrainingArguments):
    """TrainingArguments plus the one setting that Trainer does not know."""

    embedding_lr_multiplier: float = 1.0


def _arguments(settings: TrainSettings, folder: Path) -> _Arguments:
    return _Arguments(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.sequences_at_a_time,
        gradient_accumulation_steps=settings.batch_size // settings.sequences_at_a_time,
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


def _masked_decay(
    masks: Mapping[torch.Tensor, torch.Tensor], weight_decay: float
) -> Callable[..., None]:
    """AdamW's decoupled decay θ ← θ·(1 − lr·wd) on the masked entries alone."""

    def decay(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    factor = 1.0 - group["lr"] * weight_decay
                    scaled = parameter * factor
                    parameter.copy_(torch.where(masks[parameter], scaled, parameter))

    return decay


def _require_exact(base: Checkpoint, dtype: str) -> None:
    """Raise InputError if writing the base's numbers as ``dtype`` would round some of them."""
    exact = {"float32": {"F32", "F16", "BF16"}, "bfloat16": {"BF16"}}[dtype]
    for name, info in base.tensors.items():
        if info.is_float and info.dtype not in exact:
            raise InputError(
                f"dtype: {dtype} would round tensor {name!r} ({info.dtype} in {base.path}), and "
                "nothing outside the key neurons may change; give float32"
            )


def _mask_gradients(model: torch.nn.Module, mask: Mask) -> None:
    """Zero the gradient outside ``mask`` as it is made, before clipping sees its norm."""
    parameters = dict(model.named_parameters())
    unknown = sorted(name for name in mask if name not in parameters and mask[name].any())
    if unknown:
        raise InputError(
            f"mask: tensor '{unknown[0]}' is not a parameter of the model; locate the key neurons "
            "on the same base model"
        )
    for name, parameter in parameters.items():
        allowed = mask.get(name)
        if allowed is None or not allowed.any():
            parameter.requires_grad_(False)
            continue
        if allowed.shape != parameter.shape:
            raise InputError(
                f"mask: tensor '{name}' has shape {tuple(allowed.shape)}, the model's has "
                f"{tuple(parameter.shape)}; locate the key neurons on the same base model"
            )
        parameter.register_hook(_multiply_by(allowed))


def _multiply_by(allowed: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda gradient: torch.where(allowed.to(gradient.device), gradient, 0.0)


def _record_gradient(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Σ |∂L/∂θ| over the run, filled as gradients are made; float32, parameter shapes."""
    totals = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        if name in totals:
            parameter.register_hook(_add_magnitude_to(totals[name]))
    return totals


def _add_magnitude_to(total: torch.Tensor) -> Callable[[torch.Tensor], None]:
    def add(gradient: torch.Tensor) -> None:
        total.add_(gradient.detach().abs())

    return add


def _with_lora(model: PreTrainedModel, rank: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def _trainable(model: torch.nn.Module, mask: Mask | None) -> int:
    if mask is not None:
        return sum(int(entry.sum()) for entry in mask.values())
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _write(base: Checkpoint, model: PreTrainedModel, folder: Path, dtype: str) -> None:
    """Write the model under the base's tensor names; what is no parameter comes from the base."""
    values = model.state_dict()
    target = getattr(torch, dtype)

    def tensors() -> Iterable[tuple[str, torch.Tensor]]:
        for name in base.tensors:
            if name in values:
                yield name, values[name].detach().to("cpu", target)
            else:
                yield name, base.read(name)

    write_tensors(folder, tensors())
    copy_companions(base, folder, dtype=dtype)
