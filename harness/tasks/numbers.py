"""The number that a generated answer gives, whatever way its language has of writing numbers.

lm-eval loads this file as a filter and a metric (``!function numbers.answers_te`` and
``!function numbers.numeric_match``).  A task's folder holds a copy of it, so that it needs nothing
but the standard library.

What counts as one number: digits of any script; groups of three, or of three and then two as in
India; a decimal point or comma; a minus sign; a fraction of whole numbers.  Currency, percent signs
and units are left out: 50 % is 50.  Two marks are read as most writers of a language mean them:
where the comma is decimal, three digits after the only mark are still a group (both 2.125 and 2,125
are in use there for 2125), anything else behind it is a decimal part.

Which number is the answer: the one after the last phrase that announces it, at the end of its
equation if there is one, else the last number of the text.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any, NamedTuple

INVALID = "[invalid]"
"""What lm-eval's own filters say where they find nothing."""

DECIMAL_COMMA = frozenset((
    *("ca", "cs", "da", "de", "el", "es", "fi", "fr", "hr", "hu", "id", "it", "nb", "nl", "no"),
    *("pl", "pt", "ro", "ru", "sv", "tr", "uk", "vi"),
))  # fmt: skip
"""Languages that write 3,5; all others write 3.5."""

SPACE_GROUPS = frozenset(
    ("ca", "cs", "es", "fi", "fr", "hu", "nb", "no", "pl", "pt", "ru", "sv", "uk")
)
"""Languages that write 80 000 with an ordinary space; narrow and fixed ones count everywhere."""

CHINESE_DIGITS = frozenset(("zh", "ja"))
"""Languages whose numbers may be written 一百二十."""

_ANNOUNCED = {
    "bn": ("উত্তর", "(?:টি )?(?:হলো|হল|হচ্ছে|হবে|হয়)"),
    "de": ("antwort", "(?:ist|lautet|beträgt)"),
    "en": ("answer", "(?:is|was|will be|would be)"),
    "es": ("respuesta(?: final)?", "(?:es|será|sería)"),
    "fr": ("réponse(?: finale)?", "est"),
    "hi": ("उत्तर", "है"),
    "ja": ("答え", "は"),
    "pt": ("resposta(?: final)?", "(?:é|será)"),
    "ru": ("ответ", "(?:равен|составляет|—)"),
    "sw": ("jibu", "ni"),
    "te": ("సమాధానం", "(?:అంటే|ఏమిటంటే)"),
    "th": ("คำตอบ", "คือ"),
    "zh": ("答案", "(?:是|为|為|就是)"),
}
"""How a language announces an answer: a noun, and what may stand between it and the number."""

_LONGEST = 100
"""Digits and groups beyond which nothing is an answer: models may repeat themselves without end."""

_MINUS = "\\-\u2212\ufe63\uff0d\u2010\u2011\u2013"  # hyphens, minus signs, the short dash
_CURRENCY = (
    "(?:(?:US|R|A|C|HK)?[$€£₹৳₩₽₦₫฿\u00a5\uffe5\ufe69\uff04]"
    r"|\bRs\.?|\bTk\.?|\bUSD|\bEUR|\bINR|\bBDT)"
)
_GROUP_MARKS = "'\u2019\u066c\u00a0\u2009\u202f"  # apostrophes, Arabic, fixed and narrow spaces
_DECIMAL_MARK = "\u066b"  # Arabic
_MARKS = f"[,.{_DECIMAL_MARK}{_GROUP_MARKS}]"
_RUN = re.compile(rf"\d+(?:{_MARKS}\d+)*")
_RUN_WITH_SPACES = re.compile(rf"\d+(?:{_MARKS}\d+| \d{{3}}(?!\d))*")
_LEADING_POINT = re.compile(r"(?:^|[^\w.,])\.$")
_SIGN = re.compile(rf"([{_MINUS}])(?:{_CURRENCY}\s?)?$")
_SIGN_AFTER_CURRENCY = re.compile(rf"{_CURRENCY}\s?([{_MINUS}])$")
_POWER_OF_UNIT = re.compile(r"(?<![^\W\d_])([cdkm]?m|ft|in|yd)\^?[23](?!\d)")
_CANONICAL = re.compile(r"-?\d{1,100}(\.\d{1,100}|/[1-9]\d{0,99})?", re.ASCII)
_FRACTION = re.compile(r"(?<![\d/])(\d+)/(\d+)(?![\d/])")
_MIXED = re.compile(r"(?<![\d/.,])(\d+) (\d+)/(\d+)(?![\d/])")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{\s*(\d+)\s*\}\{\s*(\d+)\s*\}")
_VULGAR_FRACTION = re.compile(r"(?:(\d) ?)?([\u00bc-\u00be\u2153-\u215e])")
_WIDE_MARK = re.compile("(?<=[\uff10-\uff19])[\uff0c\uff0e](?=[\uff10-\uff19])")
_SENTENCE_END = re.compile(r"[\n\u3002\u0964!?\uff01\uff1f]|\.(?=\s|$)")
_HAN_DIGITS = {digit: value for value, digit in enumerate("〇一二三四五六七八九")} | {
    "零": 0,
    "两": 2,
}
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000}
_HAN_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HAN = "".join([*_HAN_DIGITS, *_HAN_UNITS, *_HAN_MYRIADS])
_HAN_RUN = re.compile(f"[{_HAN}]+(?:点[{''.join(_HAN_DIGITS)}]+(?!十))?")
_HAN_FACTOR = re.compile("[十百千]?[万萬亿億]{1,2}")


class _Number(NamedTuple):
    start: int
    end: int
    value: Fraction


def answer(text: str, language: str) -> str:
    """The number that ``text`` gives as its answer, in ASCII, or ``INVALID``.

    Whole numbers and finite decimals have no superfluous digit (``-3.5``); others are a fraction.
    """
    text = _plain(text)
    numbers = _numbers(text, language)
    found = _announced(text, numbers, language) or (numbers[-1] if numbers else None)
    return INVALID if found is None else canonical(found.value)


def answers(
    responses: Sequence[Sequence[str]], docs: Sequence[Any], *, language: str
) -> list[list[str]]:
    """``answer`` of every response to every question: an lm-eval filter, but for ``language``."""
    return [[answer(text, language) for text in given] for given in responses]


def numeric_match(references: Sequence[str], predictions: Sequence[str]) -> float:
    """The share of predictions that are the same number as their reference: an lm-eval metric."""
    pairs = list(zip(references, predictions, strict=True))
    equal = [(value := _read(one)) is not None and value == _read(other) for one, other in pairs]
    return sum(equal) / len(equal)


def canonical(value: Fraction) -> str:
    """The shortest exact way to write ``value``: ``18``, ``-3.5``, ``10/3``."""
    rest = value.denominator
    twos, fives = _power(rest, 2), _power(rest, 5)
    if rest != 2**twos * 5**fives:
        return str(value)
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // rest).rjust(places + 1, "0")
    whole, decimals = digits[: len(digits) - places], digits[len(digits) - places :]
    return ("-" if value < 0 else "") + whole + ("." + decimals if decimals else "")


def __getattr__(name: str) -> Any:
    # lm-eval gives a filter no argument of its own, so that each language has a name
    if name.startswith("answers_"):
        return partial(answers, language=name.removeprefix("answers_"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _power(number: int, base: int) -> int:
    count = 0
    while number % base == 0:
        number, count = number // base, count + 1
    return count


def _read(text: str) -> Fraction | None:
    """A number that stands alone, or else the answer that a text gives."""
    plain = text.strip()
    found = plain if _CANONICAL.fullmatch(plain) else answer(text, "en")
    return None if found == INVALID else Fraction(found)


def _plain(text: str) -> str:
    """Digits in ASCII, full-width marks between full-width digits too, fractions with a slash."""
    text = unicodedata.normalize("NFC", text)
    text = _WIDE_MARK.sub(lambda mark: unicodedata.normalize("NFKC", mark[0]), text)
    text = "".join(map(_plain_digit, text))
    text = _VULGAR_FRACTION.sub(_spelled_out, text).replace("\u2044", "/")
    text = _LATEX_FRACTION.sub(r"\1/\2", text.replace("{,}", ",").replace(r"\,", "\u202f"))
    return _POWER_OF_UNIT.sub(r"\1", text)


def _plain_digit(character: str) -> str:
    value = None if character.isascii() else unicodedata.decimal(character, None)
    return character if value is None else str(value)


def _spelled_out(fraction: re.Match[str]) -> str:
    whole, sign = fraction.groups()
    return " ".join(filter(None, (whole, unicodedata.normalize("NFKC", sign))))


def _announced(text: str, numbers: Sequence[_Number], language: str) -> _Number | None:
    """The number after the last phrase that announces an answer and has one behind it."""
    for phrase in reversed(list(_phrases(language).finditer(text))):
        if language in CHINESE_DIGITS and (lone := _lone_han(text, phrase.end())):
            return lone
        behind = [number for number in numbers if number.start >= phrase.end()]
        if behind:
            return _end_of_equation(text, behind)
    return None


@lru_cache
def _phrases(language: str) -> re.Pattern[str]:
    known = [_ANNOUNCED["en"]] + ([_ANNOUNCED[language]] if language in _ANNOUNCED else [])
    directly = rf"[\s*_:\uff1a=]*(?=(?:[{_MINUS}]|{_CURRENCY}|\s)*\d)"
    worded = "|".join(rf"{noun}\s*(?:{verb}(?![a-zà-ÿа-я])|{directly})" for noun, verb in known)
    return re.compile(rf"####|\\boxed\{{|{worded}", re.IGNORECASE)


def _end_of_equation(text: str, numbers: Sequence[_Number]) -> _Number:
    """The first of ``numbers``, or what the equation that it begins comes to."""
    first = numbers[0]
    end = _SENTENCE_END.search(text, first.end)
    sentence = [number for number in numbers if end is None or number.start < end.start()]
    last = sentence[-1]
    sign = max(text.rfind(mark, first.end, last.start) for mark in "=\uff1d")
    return next((number for number in sentence if number.start > sign), first)


def _numbers(text: str, language: str) -> list[_Number]:
    """Every number in plain text, from left to right."""
    found = list(_digit_numbers(text, language))
    if language in CHINESE_DIGITS:
        found = sorted([*_with_factors(text, found), *_han_numbers(text)])
    return found


def _digit_numbers(text: str, language: str) -> Iterator[_Number]:
    mixed = {m.start(): (m.end(), _ratio(m[2], m[3]), m[1]) for m in _MIXED.finditer(text)}
    ratios = {m.start(): (m.end(), _ratio(m[1], m[2]), "0") for m in _FRACTION.finditer(text)}
    fractions = {
        start: (end, _int(whole) + ratio)
        for start, (end, ratio, whole) in {**ratios, **mixed}.items()
        if ratio is not None and (whole == "0" or ratio < 1)
    }
    runs = _RUN_WITH_SPACES if language in SPACE_GROUPS else _RUN
    done = 0
    for run in runs.finditer(text):
        if run.start() < done:
            continue
        if run.start() in fractions:
            end, value = fractions[run.start()]
            yield _Number(run.start(), end, _signed(text, run.start(), value))
            done = end
            continue
        for number in _split(run[0], run.start(), language):
            start, value = number.start, number.value
            if start == run.start() and _LEADING_POINT.search(text[max(0, start - 2) : start]):
                digits = number.end - start
                if value.denominator == 1 and text[start : number.end].isdigit():
                    start, value = start - 1, value / 10**digits
            yield _Number(start, number.end, _signed(text, start, value))


def _ratio(over: str, under: str) -> Fraction | None:
    return Fraction(_int(over), _int(under)) if _int(under) else None


def _int(digits: str) -> int:
    return int(digits[:_LONGEST])


def _signed(text: str, start: int, value: Fraction) -> Fraction:
    """``value`` with the minus sign before it, which is none where it stands between numbers."""
    before = text[max(0, start - 8) : start]
    sign = _SIGN.search(before) or _SIGN_AFTER_CURRENCY.search(before)
    if sign is None:
        return value
    left = text[: start - len(before) + sign.start()]
    attached = left[-1:]
    # 20-2 and 20 -2 subtract, A-5 is a name; scripts without capitals may leave no space
    if attached.isupper() or attached.islower() or left.rstrip()[-1:] in {*"0123456789)%"}:
        return value
    return -value


def _split(run: str, start: int, language: str) -> Iterator[_Number]:
    """The numbers in a run of digits and marks: one, if its marks make sense together."""
    parts = re.split(rf"({_MARKS}| )", run)
    while parts:
        longest = min(len(parts), 25)  # twelve marks
        count = next(n for n in range(longest, 0, -2) if _value(parts[:n], language) is not None)
        length = len("".join(parts[:count]))
        yield _Number(start, start + length, _value(parts[:count], language))
        start += length + 1
        parts = parts[count + 1 :]


def _value(parts: Sequence[str], language: str) -> Fraction | None:
    """The number that digits, mark, digits, … make; None if they make none."""
    digits, marks = parts[::2], parts[1::2]
    if not marks:
        return Fraction(_int(digits[0]))
    whole, last = marks[:-1], marks[-1]
    if len(set(marks)) == 1 and _groups(digits, last) and not _decimal_only(marks, language):
        return Fraction(_int("".join(digits)))
    if last not in (".", ",", _DECIMAL_MARK) or last in whole or (whole and len(set(whole)) > 1):
        return None
    if whole and not _groups(digits[:-1], whole[0]):
        return None
    if not whole and last == "," and language not in DECIMAL_COMMA:
        return None
    return Fraction(f"{_int(''.join(digits[:-1]))}.{digits[-1][:_LONGEST]}")


def _decimal_only(marks: Sequence[str], language: str) -> bool:
    """Whether a single mark cannot separate groups."""
    return marks[0] == _DECIMAL_MARK or (list(marks) == ["."] and language not in DECIMAL_COMMA)


def _groups(digits: Sequence[str], mark: str) -> bool:
    """Whether ``digits`` are grouped by thousands, or with a comma as in India."""
    first, *middle, last = digits if len(digits) > 1 else (digits[0], "000")
    if first.startswith("0") or len(last) != 3:
        return False
    if len(first) <= 3 and all(len(group) == 3 for group in middle):
        return True
    return mark == "," and len(first) <= 2 and all(len(group) == 2 for group in middle)


def _with_factors(text: str, numbers: Sequence[_Number]) -> Iterator[_Number]:
    """3万 is 30000."""
    for number in numbers:
        factor = _HAN_FACTOR.match(text, number.end)
        if factor is None:
            yield number
            continue
        value = number.value
        for character in factor[0]:
            value *= (_HAN_UNITS | _HAN_MYRIADS)[character]
        yield _Number(number.start, factor.end(), value)


def _han_numbers(text: str) -> Iterator[_Number]:
    """Numbers in Chinese characters; a single one of them is more often a word (一个, 十分)."""
    for run in _HAN_RUN.finditer(text):
        clear = len(run[0]) > 1 and run[0][0] in {**_HAN_DIGITS, "十": 10}
        beside_digits = text[max(0, run.start() - 1) : run.start()].isdigit()
        if clear and not beside_digits and (value := _han_value(run[0])) is not None:
            yield _Number(run.start(), run.end(), value)


def _lone_han(text: str, start: int) -> _Number | None:
    """A number in Chinese characters, even a single one, where an answer is announced."""
    run = _HAN_RUN.match(text, start)
    value = None if run is None else _han_value(run[0])
    return None if value is None else _Number(start, run.end(), value)


def _han_value(numeral: str) -> Fraction | None:
    """The value of a numeral, None if it has none: 七八个 is seven or eight, 二〇二四 a year."""
    if len(numeral) > _LONGEST:
        return None
    whole, _, decimals = numeral.partition("点")
    if decimals:
        value = _han_value(whole)
        places = "".join(str(_HAN_DIGITS[digit]) for digit in decimals)
        return None if value is None else value + Fraction(int(places), 10 ** len(places))
    if all(character in _HAN_DIGITS for character in whole):
        if len(whole) == 2 and "〇" not in whole:
            return None
        return Fraction(int("".join(str(_HAN_DIGITS[digit]) for digit in whole)))
    total, below, digit, unit = 0, 0, 0, 1
    for place, character in enumerate(whole):
        if character in _HAN_DIGITS:
            if digit:
                return None
            digit = _HAN_DIGITS[character]
            unit = unit if digit else 1  # 四百五 is 450, 四百零五 is 405
        elif character in _HAN_UNITS:
            unit = _HAN_UNITS[character]
            below += (digit or 1) * unit
            digit = 0
        else:
            unit = _HAN_MYRIADS[character]
            below += digit or (place == 0)
            total = (total + below) * unit if unit > 10**4 else total + below * unit
            below, digit = 0, 0
    return Fraction(total + below + digit * (unit // 10 if unit >= 100 else 1))
