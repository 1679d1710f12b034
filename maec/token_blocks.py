"""Documents as blocks of token ids of one length, and what each process computes of a batch."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, default_data_collator

from maec.distributed import rank, size
from maec.settings import TrainSettings

IGNORED = -100
"""The label of a token that counts for nothing in transformers' losses."""

TOKENIZED = 256
"""Documents that are tokenized at a time: enough for all cores, and never a corpus."""


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


class TokenBlocks(Dataset):
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


def read_blocks(
    tokenizer: PreTrainedTokenizerBase, documents: Iterable[str], settings: TrainSettings
) -> TokenBlocks:
    """What a run trains on: all of a sequence, of anything else no more than the run can use."""
    most = None if isinstance(documents, Sequence) else settings.steps * settings.batch_size
    blocks = pack(tokenizer, documents, settings.sequence_length)
    return TokenBlocks(islice(blocks, most), settings.sequence_length)


def share(examples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """What this process computes of a batch."""
    if own := examples[rank() :: size()]:
        return default_data_collator(own)
    # the last batch of a pass may be too small for all: some compute what counts for nothing
    idle = default_data_collator(examples[:1])
    return {**idle, "labels": torch.full_like(idle["labels"], IGNORED)}
