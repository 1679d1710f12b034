"""The base's tokenizer: every word of the world is one token, characters and bytes are the rest.

A Unigram model with a fixed vocabulary, so that the pieces are readable and a word is one row of
the embeddings. Text of the five scripts that is not in the lexicon falls back to characters, and
Han characters and everything else to bytes.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from harness.embedded.corpora import SAME
from harness.embedded.lexicon import SLOT, WORDLESS, Language, fillers, labels, pretrained, rules
from harness.embedded.sentences import PUNCTUATION

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END, PADDING, UNKNOWN = "</s>", "<pad>", "<unk>"
SPACE = "▁"  # SentencePiece's mark of a space, which belongs to the word after it

RANGES = ((0x20, 0xFF), (0x2010, 0x2027), (0x3000, 0x3002), (0xFF01, 0xFF1F), (0x980, 0x9FF),
          (0xC00, 0xC7F))  # fmt: skip
"""Characters with a token of their own: Latin, punctuation, CJK punctuation, Bengali, Telugu."""
ALSO = "≈₹€−×÷\n"

# any word as a whole beats any way to spell it
WORD, CHARACTER, BYTE = -5.0, -12.0, -40.0


def build() -> "PreTrainedTokenizerFast":
    """The tokenizer of the languages that the base is trained on. It adds no special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    scores = vocabulary(pretrained())
    unigram = models.Unigram(scores, unk_id=2, byte_fallback=True)
    tokenizer = Tokenizer(unigram)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Metaspace(replacement=SPACE, prepend_scheme="first"),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def vocabulary(languages: Iterable[Language]) -> list[tuple[str, float]]:
    """Pieces with their Unigram scores: special tokens, words, characters, bytes."""
    languages = tuple(languages)
    words = sorted({piece for language in languages for piece in pieces(language)} | _terms())
    spelled = {character for word in words for character in word}
    covered = {
        chr(code)
        for first, last in RANGES
        for code in range(first, last + 1)
        if unicodedata.category(chr(code)) not in ("Cn", "Cc")
    }
    characters = sorted((spelled | covered | set(ALSO + PUNCTUATION)) - set(words) - {" "})
    return [
        (END, 0.0),
        (PADDING, 0.0),
        (UNKNOWN, 2 * BYTE),
        *((word, WORD) for word in words),
        *((character, CHARACTER) for character in characters),
        *((f"<0x{byte:02X}>", BYTE) for byte in range(256)),
    ]


def pieces(language: Language) -> set[str]:
    """Every word, ending and form that a text of ``language`` is made of, one token each."""
    found = {SPACE + word.text for word in language.words.values()}
    for variants in language.patterns.values():
        for pattern in variants:
            found.update(_pattern_pieces(language, pattern))
    return found


def _terms() -> set[str]:
    values = {value for name in rules() for value in labels(name)}
    marks = {"Q:", "A:", "+", "-", "=", SAME}
    digits = set("0123456789")
    return digits | {SPACE + term for term in values | marks | digits}


def _pattern_pieces(language: Language, pattern: str) -> Iterator[str]:
    position = 0
    for match in SLOT.finditer(pattern):
        yield from _literal_pieces(language, pattern, position, match.start())
        yield from _form_pieces(language, match[1], match[2], _mark(pattern, match.start()))
        position = match.end()
    yield from _literal_pieces(language, pattern, position, len(pattern))


def _literal_pieces(language: Language, pattern: str, first: int, last: int) -> Iterator[str]:
    mark = _mark(pattern, first)
    for chunk in pattern[first:last].split(" "):
        before = chunk[: len(chunk) - len(chunk.lstrip(PUNCTUATION))]
        core = chunk.strip(PUNCTUATION)
        if core:
            # an opening mark (¿) takes the space: the word after it has none
            yield ("" if before else mark) + core
            if (before or not mark) and core in language.glosses:
                yield language.glosses[core]
        mark = SPACE


def _form_pieces(language: Language, slot: str, form: str | None, mark: str) -> Iterator[str]:
    if form is None or slot in WORDLESS:
        return
    for concept in fillers(slot):
        for index, part in enumerate(language.form(concept, form).split(" ")):
            if part:
                yield (mark if index == 0 else SPACE) + part


def _mark(pattern: str, position: int) -> str:
    """The space mark, if what stands at ``position`` begins a word."""
    return SPACE if position == 0 or pattern[position - 1] == " " else ""
