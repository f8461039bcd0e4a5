"""A text as it is read aloud: numbers, money, dates, times, units and abbreviations in words.

Hosted models read "14:30" or "€1.250" differently each time, or in English; some charge for doing it well. Written out
here it is always the same, and the times that come back are of the words that are heard.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date

from avatar_pipeline.errors import package_missing
from avatar_pipeline.voice.normal_words import NUMBERS_ONLY, WORDS, Forms, Words

_MOST_DIGITS = 15
"""Longer numbers are read digit by digit, as those that begin with 0 (telephone numbers, codes) are."""
_FREE = r"(?<![\w.,:/])"
_END = r"(?![\w])(?![.,:/]\d)"
_TIME = re.compile(
    rf"{_FREE}([01]?\d|2[0-4])([:hH])([0-5]\d)(?::([0-5]\d))?(?:\s?(?:([ap])m|([ap])\.m\.)(?!\w)|\s(?:Uhr|uur)\b)?{_END}",
    re.IGNORECASE,
)
_ISO_DATE = re.compile(rf"{_FREE}(\d{{4}})-(\d\d)-(\d\d){_END}")
_DATE = re.compile(rf"{_FREE}(\d{{1,2}})([./-])(\d{{1,2}})\2(\d{{4}}){_END}")
_SPACE = "[ \u00a0\u202f]"
_PLAIN = re.compile(
    rf"{_FREE}([-−]?)([1-9]\d{{0,2}}(?:{_SPACE}\d{{3}})+(?!\d)|\d+(?!(?:{_SPACE}\d{{3}})+[.,]\d)){_END}"
)
_DECADE = re.compile(r"(?<![\w.,])(1[1-9]\d0|20\d0)s(?!\w)|(?<=['’])([2-9]0)s(?!\w)")
_DATIVE = frozenset({"am", "vom", "zum", "dem", "den", "im", "beim"})
"""Words after which a German day ends in n."""
_LAST_WORDS = frozenset({"etc.", "usw.", "ecc.", "enz."})
_YEAR_RANGE = re.compile(rf"{_FREE}([12]\d{{3}})[-–]([12]\d{{3}}){_END}")


def normalise(text: str, language: str) -> str:
    """Return `text` (Unicode NFC) with what is written in figures and signs written out in words.

    English, German, French, Spanish, Italian, Portuguese and Dutch are written out in full, in sixteen more languages
    whole numbers are, and other languages are left as they are. What is part of a name, such as A4 or MP3, stays. To
    normalise what is normalised changes nothing.

    Args:
        text: any text.
        language: BCP 47 tag, such as en, en-us or pt-br.

    Raises:
        EnvironmentProblem: num2words is not installed.
    """
    text = unicodedata.normalize("NFC", text)
    tag = language.lower()
    base = tag.partition("-")[0]
    base = "no" if base in {"nb", "nn"} else base
    words = WORDS.get(base)
    if words is not None:
        return _Reader(words, base, tag).read(text)
    if base in NUMBERS_ONLY:
        return _PLAIN.sub(lambda match: _whole(match, base), text)
    return text


def _whole(match: re.Match[str], language: str) -> str:
    sign, digits = match[1], re.sub(r"\D", "", match[2])
    if len(digits) > _MOST_DIGITS or digits.startswith("0"):
        return sign + " ".join(_cardinal(int(digit), language) for digit in digits)
    return _cardinal(int(digits), language) if not sign else match.group()


def _cardinal(number: int, language: str, to: str = "cardinal") -> str:
    try:
        from num2words import num2words
    except ImportError as error:
        raise package_missing(error) from error
    try:
        spoken = str(num2words(number, lang=language, to=to))
    except (NotImplementedError, OverflowError):
        # What a country's own words do not reach is said as elsewhere.
        spoken = str(num2words(number, lang=language.partition("_")[0]))
    return spoken.replace(",", "")


class _Reader:
    """Reads one language."""

    def __init__(self, words: Words, base: str, tag: str) -> None:
        self._words = words
        self._base = base
        self._tag = tag
        # The library knows some countries by themselves: seventy is 'septante' in Belgium.
        countries = {"fr-be": "fr_BE", "fr-ch": "fr_CH", "pt-br": "pt_BR", "es-co": "es_CO", "en-in": "en_IN"}
        self._language = countries.get(tag, base)
        group, point = re.escape(words.group), re.escape(words.point)
        # Everywhere thousands may be written with a space; a plain one is taken for that where it is usual.
        space = "[\u00a0\u202f]" if base == "en" else _SPACE
        whole = rf"\d{{1,3}}(?:{group}\d{{3}})+(?!\d)|[1-9]\d{{0,2}}(?:{space}\d{{3}})+(?!\d)|\d+"
        self._number = rf"([-−]?)({whole})(?:{point}(\d+))?"
        signs = "|".join(re.escape(sign) for sign in sorted(words.money, key=len, reverse=True))
        scales = "|".join(sorted(words.scales, key=len, reverse=True))
        scale = rf"(?:\s({scales})\b)?" if scales else "()"
        units = "|".join(re.escape(unit) for unit in sorted(words.units, key=len, reverse=True))
        self._rules: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
            (_ISO_DATE, lambda m: self._date(m, int(m[1]), int(m[2]), int(m[3]))),
            (_DATE, self._written_date),
            (_TIME, self._time),
            (_YEAR_RANGE, lambda m: f"{self._year(int(m[1]))} – {self._year(int(m[2]))}"),
            (
                re.compile(rf"(?:(?<![\w.,])([-−]))?(?<![\w.,])({signs})\s?{self._number}{scale}(?!\w)"),
                self._money_before,
            ),
            (re.compile(rf"(?<![\w.,]){self._number}{scale}\s?({signs})(?!\w)"), self._money_behind),
            (re.compile(rf"(?<![\w.,]){self._number}\s?%"), lambda m: f"{self._say(m[1], m[2], m[3])} {words.percent}"),
            # "$5m" is not of metres.
            (re.compile(rf"(?<![\w.,$€£¥])(?<![$€£¥]\s){self._number}\s?({units})(?![\w²³/])"), self._unit),
        ]
        if base == "en":
            self._rules.insert(0, (_DECADE, self._decade))
        if base == "de":
            day = rf"(?<![\w.,])([1-9]|[12]\d|3[01])\.\s?({'|'.join(words.months)})(?!\w)"
            self._rules.insert(0, (re.compile(day), lambda m: f"{self._german_day(m, int(m[1]))} {m[2]}"))
        if words.ordinals:
            self._rules.append((re.compile(rf"(?<![\w.,])(\d{{1,4}})(?:{words.ordinals})(?!\w)"), self._ordinal))
        self._rules.append((re.compile(rf"(?<![\w.,:/]){self._number}{_END}"), self._bare))
        known = "|".join(re.escape(short) for short in sorted(words.abbreviations, key=len, reverse=True))
        self._short = re.compile(rf"(?<![\w.])({known})(?!\w)")
        self._sign = re.compile(rf"(?:(?<=\s)|^)([{re.escape(''.join(words.signs))}])(?=\s|$)|(?<=\w)(&)(?=\w)")

    def read(self, text: str) -> str:
        """Write a text out."""
        text = self._short.sub(self._abbreviation, text)
        for pattern, spoken in self._rules:
            text = pattern.sub(spoken, text)
        return self._sign.sub(self._spelled_sign, text)

    def _abbreviation(self, match: re.Match[str]) -> str:
        spoken = self._words.abbreviations[match[1]]
        rest = match.string[match.end() :]
        # At the end of a sentence its full stop was the sentence's too.
        ends = match[1] in _LAST_WORDS and (not rest.strip() or re.match(r"\s+[A-ZÄÖÜÉ¿¡]", rest) is not None)
        return f"{spoken}." if ends else spoken

    def _spelled_sign(self, match: re.Match[str]) -> str:
        spoken = self._words.signs[match[1] or match[2]]
        return f" {spoken} " if match[2] else spoken

    def _say(self, sign: str, whole: str, decimals: str | None = None) -> str:
        digits = re.sub(r"\D", "", whole)
        if len(digits) > _MOST_DIGITS or (len(digits) > 1 and digits.startswith("0")):
            spoken = self._digits(digits)
        else:
            spoken = _cardinal(int(digits), self._language)
        if decimals:
            spoken += f" {self._words.spoken_point} {self._digits(decimals)}"
        return f"{self._words.minus} {spoken}" if sign else spoken

    def _digits(self, digits: str) -> str:
        return " ".join(_cardinal(int(digit), self._language) for digit in digits)

    def _counted(self, sign: str, whole: str, decimals: str | None, forms: Forms) -> str:
        """Say so many of something: 1 is said otherwise before a noun."""
        feminine = forms[0].startswith("+")
        one, several = forms[0].lstrip("+"), forms[1]
        if whole == "1" and not decimals:
            article = self._words.one[feminine]
            return f"{self._words.minus} {article} {one}" if sign else f"{article} {one}"
        return f"{self._say(sign, whole, decimals)} {several}"

    def _money_before(self, match: re.Match[str]) -> str:
        before, currency, sign, whole, decimals, scale = match.groups()
        return self._money(currency, before or sign, whole, decimals, scale)

    def _money_behind(self, match: re.Match[str]) -> str:
        sign, whole, decimals, scale, currency = match.groups()
        return self._money(currency, sign, whole, decimals, scale)

    def _money(self, currency: str, sign: str, whole: str, decimals: str | None, scale: str | None) -> str:
        main, small = self._words.money[currency]
        if scale:
            # Of these words the German one alone is feminine.
            one = whole == "1" and not sign and not decimals
            number = self._words.one[self._base == "de"] if one else self._say(sign, whole, decimals)
            return f"{number} {scale} {self._words.of}{main[1]}"
        if not decimals or len(decimals) != 2 or not small[0]:
            return self._counted(sign, whole, decimals, main)
        said = self._counted(sign, whole, None, main)
        if decimals == "00":
            return said
        cents = str(int(decimals))
        return said + self._words.cents.format(number=self._say("", cents), cents=self._counted("", cents, None, small))

    def _unit(self, match: re.Match[str]) -> str:
        sign, whole, decimals, unit = match.groups()
        return self._counted(sign, whole, decimals, self._words.units[unit])

    def _ordinal(self, match: re.Match[str]) -> str:
        return _cardinal(int(match[1]), self._language, "ordinal")

    def _bare(self, match: re.Match[str]) -> str:
        sign, whole, decimals = match.groups()
        if not sign and not decimals and re.fullmatch(r"1[1-9]\d\d|20\d\d", whole):
            return self._year(int(whole))
        return self._say(sign, whole, decimals)

    def _year(self, year: int) -> str:
        if self._base == "en" and 2000 <= year <= 2009:
            return (
                _cardinal(year, self._language).replace(" and ", " ")
                if self._tag == "en-us"
                else _cardinal(year, self._language)
            )
        return _cardinal(year, self._language, "year")

    def _decade(self, match: re.Match[str]) -> str:
        spoken = self._year(int(match[1])) if match[1] else _cardinal(int(match[2]), self._language)
        return f"{spoken[:-1]}ies" if spoken.endswith("y") else f"{spoken}s"

    def _german_day(self, match: re.Match[str], day: int) -> str:
        before = re.search(r"(\w+)\s*$", match.string[: match.start()])
        ending = "n" if before and before[1].lower() in _DATIVE else "r"
        return _cardinal(day, self._language, "ordinal") + ending

    def _written_date(self, match: re.Match[str]) -> str:
        first, separator, second, year = match.groups()
        month_first = self._base == "en" and self._tag in {"en", "en-us"} and separator == "/"
        day, month = (int(second), int(first)) if month_first else (int(first), int(second))
        if month > 12 >= day:
            day, month = month, day
        return self._date(match, int(year), month, day)

    def _date(self, match: re.Match[str], year: int, month: int, day: int) -> str:
        try:
            date(year, month, day)
        except ValueError:
            return match.group()
        words = self._words
        if self._base == "en":
            spoken_day = _cardinal(day, self._language, "ordinal")
        elif self._base == "de":
            spoken_day = self._german_day(match, day)
        else:
            spoken_day = words.first_of_month if day == 1 else _cardinal(day, self._language)
        return words.date.format(day=spoken_day, month=words.months[month - 1], year=self._year(year))

    def _time(self, match: re.Match[str]) -> str:
        hours, minutes, half = int(match[1]), int(match[3]), match[5] or match[6]
        if match[2] != ":" and self._base != "fr":
            return match.group()
        hour = _cardinal(hours, self._language)
        if self._base in {"fr", "de"} and hours == 1:
            hour = self._words.one[self._base == "fr"]
        between, sharp = self._words.hour, self._words.sharp
        if self._base == "fr" and hours <= 1:
            between, sharp = " heure ", " heure"
        if half:
            sharp = ""
        said = hour + sharp
        if minutes:
            zero = "oh " if self._base == "en" and minutes < 10 else ""
            said = f"{hour}{between}{zero}{_cardinal(minutes, self._language)}"
        if seconds := int(match[4] or 0):
            said += f" {self._words.signs['&']} {self._counted('', str(seconds), None, self._words.units['s'])}"
        return f"{said} {half.upper()}M" if half else said
