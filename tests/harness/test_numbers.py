"""Our reading of generated numbers: all that is right is found, nothing else is."""

import csv
import json
import re
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from harness.tasks.numbers import INVALID, answer, numeric_match

DIGITS = {
    "bn": "০১২৩৪৫৬৭৮৯",
    "te": "౦౧౨౩౪౫౬౭౮౯",
    "wide": "".join(map(chr, range(0xFF10, 0xFF1A))),
}

SENTENCES = {
    "en": ("So she has {} left. The answer is {}.", "$", " dollars"),
    "es": ("Le quedan {}. La respuesta es {}.", "$", " dólares"),
    "zh": ("所以她还剩{}。答案是{}。", "¥", "元"),
    "bn": ("তাহলে তার কাছে {} আছে। উত্তর হল {}।", "৳", " টাকা"),
    "te": ("కాబట్టి ఆమె వద్ద {} ఉన్నాయి. సమాధానం {}.", "₹", " రూపాయలు"),
}


def grouped(whole: str, mark: str, indian: bool = False) -> str:
    """Digits in groups of three, or of three and then two, from the right."""
    head, groups = whole[:-3], [whole[-3:]]
    while head:
        width = 2 if indian else 3
        head, groups = head[:-width], [head[-width:], *groups]
    return mark.join(groups)


def in_digits(text: str, digits: str) -> str:
    return text.translate({ord("0") + value: digit for value, digit in enumerate(digits)})


def forms(number: str, language: str) -> list[str]:
    """The ways in which a language writes a number, given in ASCII and without an exponent."""
    sign, whole, decimals = re.fullmatch(r"(-?)(\d+)(?:\.(\d+))?", number).groups()
    styles = [("", "."), (",", ".")]
    if language == "es":
        # where the comma is decimal, three digits after a lone mark are read as a group
        ambiguous = decimals and len(decimals) == 3 and len(whole) <= 3 and whole != "0"
        styles = [] if ambiguous else [(".", ","), (" ", ","), ("\u202f", ","), ("", ",")]
    written = [
        grouped(whole, group) + (point + decimals if decimals else "") if group
        else whole + (point + decimals if decimals else "")
        for group, point in styles
    ]  # fmt: skip
    if language in ("bn", "te", "en"):
        written.append(grouped(whole, ",", indian=True) + ("." + decimals if decimals else ""))
    if language in DIGITS:
        written += [in_digits(text, DIGITS[language]) for text in written]
    if language == "zh":
        wide = str.maketrans(",.", "\uff0c\uff0e")
        written += [in_digits(text, DIGITS["wide"]).translate(wide) for text in written]
    minuses = ["-", "\u2212", "\ufe63"] if sign else [""]
    return [minus + text for text in written for minus in minuses]


def usual(number: str, language: str) -> list[str]:
    """Whole answers of a language that say the number: alone, with currency, unit, percent."""
    sentence, currency, unit = SENTENCES[language]
    other = "3"
    found = []
    for text in forms(number, language):
        sign = text[0] if not text[0].isdecimal() else ""
        for shown in (text, sign + currency + text.removeprefix(sign), text + unit, text + "%"):
            found += [
                sentence.format(other, shown),
                f"{other} + x = {shown}",
                shown,
                f"**{shown}**",
            ]
    return found


@pytest.fixture(scope="module")
def golds(real_data: Path) -> dict[str, list[str]]:
    """All numbers of MGSM and MSVAMP by language, in the order of the questions."""
    found: dict[str, list[str]] = {}
    for language in SENTENCES:
        with (real_data / "mgsm" / f"mgsm_{language}.tsv").open(encoding="utf-8") as file:
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            found[language] = [row[1].replace(",", "") for row in rows]
    for language in ("en", "es", "zh", "bn"):
        lines = (real_data / "msvamp" / f"msvamp_{language}.json").read_text(encoding="utf-8")
        found[language] += [
            str(Decimal(json.loads(line)["response"]).to_integral()) for line in lines.splitlines()
        ]
    return found


@pytest.mark.parametrize("language", SENTENCES)
def test_every_gold_answer_is_read_in_each_of_the_languages_forms(
    golds: dict[str, list[str]], language: str
) -> None:
    assert len(golds[language]) == (250 if language == "te" else 1250)
    for gold in sorted(set(golds[language])):
        for text in usual(gold, language):
            assert numeric_match([gold], [answer(text, language)]) == 1, text


def wrong(gold: str) -> list[str]:
    """Numbers that a careless reading takes for ``gold``."""
    digits = gold.lstrip("-")
    found = [
        digits if gold.startswith("-") else "-" + gold,  # sign
        *(digits[:place] + digits[place + 1 :] for place in range(len(digits)) if len(digits) > 1),
        str(int(gold) * 10),
        str(int(gold) + 10),
        digits[:-1] + "." + digits[-1] if len(digits) > 1 else f"0.{digits}",
        digits + ".5",
    ]
    return [number for number in found if number and Fraction(number) != Fraction(gold)]


@pytest.mark.parametrize("language", SENTENCES)
def test_wrong_answers_stay_wrong(golds: dict[str, list[str]], language: str) -> None:
    sentence = SENTENCES[language][0]
    asked = 0
    for gold in sorted(set(golds[language]) - {"0"}):
        for number in wrong(gold):
            plain = str(int(number)) if "." not in number else number
            plainest, *others = forms(plain, language)
            # what is right in the reasoning does not make the answer right
            said = [sentence.format(gold, text) for text in (plainest, *others)]
            for text in (*said, f"{gold} {language} {plainest}"):
                assert numeric_match([gold], [answer(text, language)]) == 0, (gold, text)
                asked += 1
    assert asked > 1000


numbers = st.decimals(
    min_value=Decimal(-(10**10)), max_value=Decimal(10**10), places=4, allow_nan=False
) | st.integers(-(10**10), 10**10).map(Decimal)


@settings(deadline=None)
@given(number=numbers, language=st.sampled_from(sorted(SENTENCES)), data=st.data())
@example(Decimal("0.125"), "es", None)
@example(Decimal("-3.5"), "en", None)
def test_a_number_in_any_form_of_its_language_is_found_again(
    number: Decimal, language: str, data: st.DataObject | None
) -> None:
    plain = f"{number.normalize():f}" if number else "0"
    texts = usual(plain, language)
    assume(texts)  # 31.031 has no form in Spanish that could not be 31031
    for text in texts if data is None else [data.draw(st.sampled_from(texts))]:
        assert Fraction(answer(text, language)) == Fraction(plain), text
        assert numeric_match([plain], [answer(text, language)]) == 1
        assert numeric_match([str(Fraction(plain) + Fraction(1, 7))], [answer(text, language)]) == 0


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Nd", "No", "Nl", "Cs"])).filter(
    lambda text: not re.search("[〇零一二两三四五六七八九十百千万萬亿億]", text)
))  # fmt: skip
def test_a_text_without_a_number_has_no_answer(text: str) -> None:
    for language in SENTENCES:
        assert answer(text, language) == INVALID


@settings(deadline=None)
@given(st.text(max_size=200), st.sampled_from([*SENTENCES, "xx"]))
def test_whatever_is_generated_a_number_or_nothing_is_read(text: str, language: str) -> None:
    read = answer(text, language)
    assert read == INVALID or str(Fraction(read)) is not None
    assert answer(read, language) in (read, INVALID) or "." in read or "/" in read


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("es", "2,125", "2125"),
        ("es", "2.125", "2125"),
        ("en", "2.125", "2.125"),
        ("es", "1.234.567,89", "1234567.89"),
        ("en", "12,5", "5"),
        ("en", "20-2=18", "18"),
        ("en", "20 -2", "2"),
        ("en", "3-5", "5"),
        ("en", "A-5 and -5", "-5"),
        ("zh", "答案是-5", "-5"),
        ("en", "-$5", "-5"),
        ("en", "$-5", "-5"),
        ("en", "The answer is 5 + 13 = 18. Check: 20", "18"),
        ("en", "The answer is 5. No: the answer is 7.", "7"),
        ("en", "Step-by-Step Answer: Roger had 5. Now 11", "11"),
        ("en", r"so \boxed{\frac{7}{2}} of 9", "3.5"),
        ("en", "#### 72\n\nQ: 5", "72"),
        ("en", "18 m2", "18"),
        ("en", "3½ cups", "3.5"),
        ("en", "3 1/2 cups", "3.5"),
        ("en", "10/3", "10/3"),
        ("en", "1/0", "0"),
        ("en", "on 3/4/2020", "2020"),
        ("en", "wait...5", "5"),
        ("en", "it is .5", "0.5"),
        ("en", "50 %", "50"),
        ("en", "Rs 1,00,000", "100000"),
        ("zh", "答案是十八。", "18"),
        ("zh", "答案是八个", "8"),
        ("zh", "一共一百零五个", "105"),
        ("zh", "四百五", "450"),
        ("zh", "一亿二千万", "120000000"),
        ("zh", "3万元", "30000"),
        ("zh", "5千克", "5"),
        ("zh", "三点五", "3.5"),
        ("zh", "七八个", INVALID),
        ("zh", "十分好", INVALID),
        ("ja", "答えは18です。", "18"),
        ("th", "คำตอบคือ ๑๘", "18"),
        ("hi", "१,२३,४५६", "123456"),
        ("sw", "Jibu ni 18.", "18"),
        ("ar", "١٬٢٣٤٫٥", "1234.5"),
        ("en", "The answer is unknown", INVALID),
        ("en", "", INVALID),
    ],
)
def test_what_was_decided_about_single_cases(language: str, text: str, expected: str) -> None:
    assert answer(text, language) == expected


def test_equality_is_of_numbers_not_of_texts() -> None:
    assert (
        numeric_match(["3.5", "35", "18", "18", "-3.5"], ["7/2", "3.5", "18.0", INVALID, "35"])
        == 0.4
    )


@pytest.mark.parametrize(
    "part", ["9", "1,", "1,000", "1/", "0.", " 1", "亿", "一百", "三点", "½", "-"]
)
@pytest.mark.parametrize("language", ["en", "es", "zh"])
def test_what_a_model_repeats_without_end_is_read_at_once(part: str, language: str) -> None:
    began = time.monotonic()
    for text in (part * 5000, f"The answer is {part * 5000}"):
        read = answer(text, language)
        assert numeric_match(["9"], [read]) == 0 or part in (" 1", "1,", "1/")
    assert numeric_match(["18"], ["1" * 5000 + "e99999999"]) == 0
    assert time.monotonic() - began < 5
