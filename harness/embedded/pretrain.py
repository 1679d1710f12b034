"""Pre-training of the base model that is shipped in ``base/``, from the recipe in ``base.yaml``.

The base plays the part of a released multilingual model. What such a model has learnt from very
much text, that words lie close together if they mean the same in two languages, or are of one
kind (river and lake, buy and win), is put in here by hand for the words that the base knows: their
input rows start at their translations' and are pulled towards them, and those towards their kin.
Noise on the input embeddings makes the layers read a row by what it shares with its kin, so that
new rows need only come near (compare NEFTune, Jain et al. 2023, arXiv 2310.05914).
"""

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from harness.embedded import corpora, lexicon, tokenizer
from maec.checkpoint import fingerprint, open_checkpoint
from maec.reading import read_yaml
from maec.settings import TrainSettings
from maec.token_blocks import pack
from maec.train import TrainReport, train

RECIPE = Path(__file__).with_name("base.yaml")
BASE = Path(__file__).with_name("base")
MANIFEST = "base.json"

FIRST = 10
"""Steps whose losses the manifest records, so that a short run can check the recipe."""

HELD_OUT = {"pivot": 200, "equations": 50} | dict.fromkeys(
    ("monolingual", "switched", "parallel", "dictionary"), 50
)
"""Documents of each kind that the manifest's loss is measured on."""

Progress = Callable[[int, int, float], None]


def recipe() -> dict[str, Any]:
    """The recipe as written."""
    return read_yaml(RECIPE)


def run(
    out: Path, progress: Progress | None = None, model: Mapping[str, Any] | None = None
) -> TrainReport:
    """Pre-train a base from the recipe into the new folder ``out``.

    ``model`` replaces entries of the recipe's model: a base of another size.
    """
    plan = recipe()
    plan["model"] |= model or {}
    languages = lexicon.pretrained()
    documents = corpora.pretraining(plan["documents"], plan["seed"], languages)
    words = tokenizer.build()
    pairs = translations(words, languages)
    settings = TrainSettings(seed=plan["seed"], **plan["training"])
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start"
        initial(plan, words, pairs).save_pretrained(start)
        words.save_pretrained(start)
        pull = _pull(pairs, kin(words), plan["alignment"])
        with noisy_embeddings(plan["embedding_noise"]):
            return train(start, documents, out, settings, extra_loss=pull, progress=progress)


@contextmanager
def noisy_embeddings(deviation: float) -> Iterator[None]:
    """Add Gaussian noise to what every embedding layer puts out while its model is in training."""

    def disturb(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(module, torch.nn.Embedding) and module.training:
            return output + deviation * torch.randn_like(output)
        return None

    hook = torch.nn.modules.module.register_module_forward_hook(disturb)
    try:
        yield
    finally:
        hook.remove()


def initial(
    plan: dict[str, Any], words: PreTrainedTokenizerBase, pairs: torch.Tensor
) -> LlamaForCausalLM:
    """The untrained model, float32, the rows of known words at their translations."""
    torch.manual_seed(plan["seed"])
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            num_key_value_heads=plan["model"]["num_attention_heads"],
            tie_word_embeddings=False,
            rms_norm_eps=1e-5,
            bos_token_id=None,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
            **plan["model"],
        )
    )
    rows = model.get_input_embeddings().weight
    with torch.no_grad():
        noise = plan["alignment"]["noise"] * torch.randn(len(pairs), rows.shape[1])
        rows[pairs[:, 0]] = rows[pairs[:, 1]] + noise
    return model


def translations(
    words: PreTrainedTokenizerBase, languages: Iterable[lexicon.Language]
) -> torch.Tensor:
    """Known words and the pivot's words for them: (pairs, 2) int64 token ids."""
    pivot = lexicon.pivot()
    pairs = []
    for language in languages:
        if language.is_pivot:
            continue
        meant = {
            word.text: pivot.words[concept].text
            for concept, word in language.words.items()
            if concept not in language.new
        }
        for word, meaning in (meant | dict(language.glosses)).items():
            ids = [words(text, add_special_tokens=False)["input_ids"] for text in (word, meaning)]
            if ids[0] != ids[1] and all(len(one) == 1 for one in ids):
                pairs.append([ids[0][0], ids[1][0]])
    return torch.tensor(pairs)


def kin(words: PreTrainedTokenizerBase) -> list[torch.Tensor]:
    """Groups of pivot words that are of one kind: (words,) int64 token ids each."""
    known = lexicon.concepts()
    groups = [list(known["gain"]), list(known["loss"])]
    for rule in lexicon.rules().values():
        for trait in known[rule.trait]:
            groups.append([concept for concept, has in rule.traits.items() if has == trait])
    said = lexicon.pivot().words
    return [
        torch.tensor([words(said[concept].text)["input_ids"][0] for concept in group])
        for group in groups
    ]


def numel(model: Mapping[str, Any]) -> int:
    """Parameters of a base whose model entries differ from the recipe's by ``model``."""
    plan = recipe()
    plan["model"] |= model
    words = tokenizer.build()
    with torch.device("meta"):
        return initial(plan, words, torch.empty((0, 2), dtype=torch.long)).num_parameters()


def held_out_loss(folder: Path) -> float:
    """Mean cross-entropy in nats a token of the checkpoint on text that it was not trained on."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = corpora.pretraining(HELD_OUT, recipe()["seed"] + 1, lexicon.pretrained())
    length = recipe()["training"]["sequence_length"]
    blocks = torch.tensor(list(pack(tokenizer.build(), texts, length)))
    with torch.no_grad():
        return float(model(input_ids=blocks, labels=blocks).loss)


def recipe_hash() -> str:
    """SHA-256 of the recipe's content, whatever its comments."""
    return hashlib.sha256(json.dumps(recipe(), sort_keys=True).encode()).hexdigest()


def corpus_fingerprint() -> str:
    """Fingerprint of the text of the languages that the base is trained on."""
    return corpora.fingerprint(*(language.code for language in lexicon.pretrained()))


def manifest(folder: Path, report: TrainReport) -> dict[str, Any]:
    """What ties the weights in ``folder`` to the recipe."""
    return {
        "recipe": recipe_hash(),
        "corpora": corpus_fingerprint(),
        "languages": [language.code for language in lexicon.pretrained()],
        "weights": fingerprint(open_checkpoint(folder)),
        "first_losses": [round(loss, 5) for loss in report.losses[:FIRST]],
        "held_out_loss": round(held_out_loss(folder), 5),
        "tokens": report.tokens,
        "seconds": round(report.seconds),
        "torch": torch.__version__,
    }


def _pull(
    pairs: torch.Tensor, groups: list[torch.Tensor], weights: dict[str, float]
) -> Callable[[PreTrainedModel], torch.Tensor]:
    """translation · mean |e(word) − e(meaning)|² + kinship · mean |e(word) − mean of its kin|²,
    e the input row."""

    def extra(model: PreTrainedModel) -> torch.Tensor:
        rows = model.get_input_embeddings().weight
        apart = (rows[pairs[:, 0]] - rows[pairs[:, 1]]).square().sum(-1)
        spread = torch.cat(
            [(rows[group] - rows[group].mean(0)).square().sum(-1) for group in groups]
        )
        return weights["translation"] * apart.mean() + weights["kinship"] * spread.mean()

    return extra


def _show(step: int, steps: int, loss: float) -> None:
    if step % 50 == 0 or step == steps:
        print(f"step {step}/{steps}  loss {loss:.3f}", flush=True)


def main() -> None:
    """Pre-train and put the result where the base is shipped, or into ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=BASE, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(dir=arguments.out.parent, prefix=".partial-") as scratch:
        made = Path(scratch) / "base"
        report = run(made, _show)
        described = json.dumps(manifest(made, report), indent=2) + "\n"
        (made / MANIFEST).write_text(described, encoding="utf-8")
        if arguments.out.exists():
            shutil.rmtree(arguments.out)
        made.rename(arguments.out)
    print(described)


if __name__ == "__main__":
    main()
