"""The tokenizer: a word is a token, text comes back as it was, real questions fit the context."""

import re
from pathlib import Path

import pytest
import transformers

from harness.embedded import corpora, items, lexicon

BASE = Path(corpora.__file__).parent / "base"
REAL = Path(__file__).parents[3] / "shared" / "data" / "mgsm"
CONTEXT, NEW_TOKENS = 1024, 256
LANGUAGES = ("en", "es", "zh", "bn", "te")


@pytest.fixture(scope="module")
def shipped():
    return transformers.AutoTokenizer.from_pretrained(BASE)


def test_the_shipped_tokenizer_is_the_one_that_the_lexicon_gives(shipped) -> None:
    from harness.embedded import tokenizer

    built = tokenizer.build()
    assert built.get_vocab() == shipped.get_vocab()
    text = "Q: টমের কাছে 5টি বই আছে। A: 3 + 4 = 7"
    assert built(text)["input_ids"] == shipped(text)["input_ids"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_the_lexicon_is_one_token(shipped, language: str) -> None:
    for word in lexicon.load(language).words.values():
        assert len(shipped(word.text)["input_ids"]) == 1, word.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_text_of_the_world_needs_no_fallback(shipped, language: str) -> None:
    texts = corpora.general(language, 1000, 11)
    for ability in corpora.ABILITIES:
        texts += corpora.ability(ability, language, 200, 11)
    pieces = [piece for text in texts for piece in shipped.tokenize(text)]
    assert not [piece for piece in pieces if piece.startswith("<0x")]
    single = [p for p in pieces if len(p.strip("▁")) == 1 and p.strip("▁").isalpha()]
    words = {word.text for code in LANGUAGES for word in lexicon.load(code).words.values()}
    patterns = [lexicon.load(code).patterns.values() for code in LANGUAGES]
    literals = " ".join(variant for kinds in patterns for variants in kinds for variant in variants)
    known = words | set(re.split(r"[\s{}.:：。,?¿]+", literals))
    forms = [
        form
        for code in LANGUAGES
        for table in (
            *lexicon.load(code).agreement.values(),
            *(word.forms for word in lexicon.load(code).words.values()),
        )
        for form in table.values()
    ]
    assert {piece.strip("▁") for piece in single} <= known | set(forms)


@pytest.mark.parametrize("language", LANGUAGES)
def test_text_round_trips(shipped, language: str) -> None:
    texts = corpora.general(language, 300, 12) + corpora.ability("math", language, 50, 12)
    texts += ["a  b", "tab\tnewline\nend", "naïve Ωμέγα 日本 ক্ষ స్త్రీ 1,234.50 €", "x"]
    for text in texts:
        assert shipped.decode(shipped(text)["input_ids"]) == text


def test_numbers_are_read_digit_by_digit(shipped) -> None:
    assert shipped.tokenize("12 + 345") == ["▁1", "2", "▁+", "▁3", "4", "5"]


def test_nothing_is_added_and_special_tokens_are_apart(shipped) -> None:
    assert shipped("Tom")["input_ids"] == shipped("Tom", add_special_tokens=False)["input_ids"]
    assert shipped.bos_token is None
    assert len({shipped.eos_token_id, shipped.pad_token_id, shipped.unk_token_id}) == 3


def test_an_answer_is_the_same_tokens_after_its_prompt_as_alone(shipped) -> None:
    for item in items.items("science", "te", "dev"):
        prompt = shipped(item["question"])["input_ids"]
        for choice in item["choices"]:
            whole = shipped(f"{item['question']} {choice}")["input_ids"]
            assert whole[: len(prompt)] == prompt
            assert len(whole) == len(prompt) + 1  # no choice is longer than another


def test_documents_fit_into_a_training_block(shipped) -> None:
    for language in LANGUAGES:
        texts = corpora.general(language, 2000, 13)
        texts += corpora.ability("science", language, 200, 13)
        assert max(len(ids) for ids in shipped(texts)["input_ids"]) < 64


def real_questions(language: str) -> list[str]:
    path = REAL / f"mgsm_{language}.tsv"
    if not path.is_file():
        pytest.skip(f"needs the real MGSM questions in {path}")
    return [line.split("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("language", LANGUAGES)
def test_real_questions_fit_and_round_trip(shipped, language: str) -> None:
    for text in real_questions(language):
        ids = shipped(text)["input_ids"]
        assert len(ids) <= CONTEXT - NEW_TOKENS
        assert shipped.decode(ids) == text


def test_the_vocabulary_comes_from_the_lexicon_alone(shipped) -> None:
    words = {p for code in LANGUAGES for p in _pieces(code)}
    others = {
        piece
        for piece in shipped.get_vocab()
        if len(piece) > 1 and piece not in words and not re.fullmatch(r"<0x[0-9A-F]{2}>", piece)
    }
    values = {f"▁{value}" for name in lexicon.rules() for value in lexicon.labels(name)}
    marks = {f"▁{mark}" for mark in ("Q:", "A:", "+", "-", "=", "≈", *"0123456789")}
    assert others == values | marks | {"</s>", "<pad>", "<unk>"}


def _pieces(code: str) -> set[str]:
    from harness.embedded import tokenizer

    return tokenizer.pieces(lexicon.load(code))
