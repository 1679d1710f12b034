"""The shipped base: recipe and weights belong together, and it is what the world needs."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from harness.embedded import corpora, lexicon, pretrain
from maec.checkpoint import fingerprint, open_checkpoint

BASE = Path(corpora.__file__).parent / "base"


@pytest.fixture(scope="module")
def recorded() -> dict:
    return json.loads((BASE / pretrain.MANIFEST).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    return transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()


def test_the_manifest_names_this_recipe_this_text_and_these_weights(recorded: dict) -> None:
    remedy = "run `make embedded-base`"
    assert recorded["recipe"] == pretrain.recipe_hash(), remedy
    assert recorded["corpora"] == pretrain.corpus_fingerprint(), remedy
    assert recorded["weights"] == fingerprint(open_checkpoint(BASE)), remedy


@pytest.mark.slow
def test_the_first_steps_of_the_recipe_give_the_recorded_losses(
    recorded: dict, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    losses: list[float] = []

    def progress(step: int, steps: int, loss: float) -> None:
        losses.append(loss)
        if len(losses) == pretrain.FIRST:
            raise Enough

    with pytest.raises(Enough):
        pretrain.run(tmp_path / "base", progress)
    assert losses == pytest.approx(recorded["first_losses"], abs=2e-3)
    assert losses[0] > losses[-1] > 5  # close to the log of the vocabulary's size, and falling


def test_the_weights_give_the_recorded_loss_on_text_they_have_not_seen(recorded: dict) -> None:
    loss = pretrain.held_out_loss(BASE)
    assert loss == pytest.approx(recorded["held_out_loss"], abs=1e-3)
    assert loss < 1.5


def test_it_is_small_untied_and_takes_real_prompts(model) -> None:
    (weights,) = BASE.glob("*.safetensors")
    assert weights.stat().st_size <= 8 * 2**20
    assert not model.config.tie_word_embeddings
    assert model.config.max_position_embeddings == 1024
    kinds = {info.dtype for info in open_checkpoint(BASE).tensors.values()}
    assert kinds == {"BF16"}
    with torch.no_grad():
        assert model(input_ids=torch.full((1, 1024), 5)).logits.isfinite().all()


def test_known_words_lie_with_their_translations_and_new_words_do_not(model) -> None:
    words = transformers.AutoTokenizer.from_pretrained(BASE)
    rows = model.get_input_embeddings().weight.detach()
    pivot = lexicon.pivot()

    def row(text: str) -> torch.Tensor:
        (token,) = words(text)["input_ids"]
        return rows[token]

    for language in lexicon.pretrained()[1:]:
        nearness: dict[bool, list[float]] = {True: [], False: []}
        for concept, word in language.words.items():
            if word.text == pivot.words[concept].text:
                continue
            near = torch.cosine_similarity(row(word.text), row(pivot.words[concept].text), dim=0)
            nearness[concept in language.new].append(float(near))
        assert min(nearness[False]) > 0.8
        assert abs(sum(nearness[True]) / len(nearness[True])) < 0.1
