"""Texts as they are read aloud."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.voice.normal_words import NUMBERS_ONLY, WORDS
from avatar_pipeline.voice.normalise import normalise

READ = [
    ("en", "It is 12.", "It is twelve."),
    (
        "en",
        "1,234,567.89 of them",
        "one million two hundred and thirty-four thousand five hundred and sixty-seven point eight nine of them",
    ),
    ("en", "-3 and 0.5", "minus three and zero point five"),
    ("en", "$12.50, £1, €3 million", "twelve dollars and fifty cents, one pound, three million euros"),
    ("en", "$5.00 or 5 €", "five dollars or five euros"),
    ("en", "$1.01", "one dollar and one cent"),
    ("en", "on 2026-11-24", "on November twenty-fourth, twenty twenty-six"),
    ("en", "11/24/2026", "November twenty-fourth, twenty twenty-six"),
    ("en-gb", "24/11/2026", "November twenty-fourth, twenty twenty-six"),
    ("en", "in 1984, 2005 and 1066", "in nineteen eighty-four, two thousand and five and one thousand and sixty-six"),
    ("en", "at 14:30, 9:05 am, 10:00", "at fourteen thirty, nine oh five AM, ten o'clock"),
    ("en", "at 5 p.m. and at 5:00 p.m.", "at five p.m. and at five PM"),
    ("en", "12% of 5 km, 1 kg", "twelve percent of five kilometres, one kilogram"),
    ("en", "the 1st and the 22nd", "the first and the twenty-second"),
    ("en", "Dr. Smith vs. Mrs. Jones, etc.", "Doctor Smith versus Missus Jones, et cetera."),
    ("en", "Tom & Jerry of R&D", "Tom and Jerry of R and D"),
    (
        "en",
        "0049 and 1234567890123456",
        "zero zero four nine and one two three four five six seven eight nine zero one two three four five six",
    ),
    ("en", "A4, MP3 and v2.5 of 192.168.0.1", "A4, MP3 and v2.5 of 192.168.0.1"),
    ("de", "1.250,50 € und 12,5 %", "eintausendzweihundertfünfzig Euro fünfzig und zwölf Komma fünf Prozent"),
    (
        "de",
        "am 24.11.2026 um 14:30 Uhr",
        "am vierundzwanzigsten November zweitausendsechsundzwanzig um vierzehn Uhr dreißig",
    ),
    ("de", "Es war der 1.5.1984.", "Es war der erster Mai neunzehnhundertvierundachtzig."),
    ("de", "z. B. 1 h bzw. 1 kg", "zum Beispiel eine Stunde beziehungsweise ein Kilogramm"),
    ("fr", "à 14h30, 1 250,50 €", "à quatorze heures trente, mille deux cent cinquante euros cinquante"),
    ("fr", "le 1/12/2026, Mme Dupont", "le premier décembre deux mille vingt-six, Madame Dupont"),
    ("fr-be", "71", "septante et un"),
    ("es", "£1 y 1.250,50 €", "una libra y mil doscientos cincuenta euros con cincuenta"),
    ("es", "$3 millones", "tres millones de dólares"),
    ("it", "il 24/11/2026, 3,14", "il ventiquattro novembre duemilaventisei, tre virgola uno quattro"),
    ("pt-br", "R$ 12,50", "doze reais e cinquenta"),
    ("nl", "€ 12,50 om 14:30", "twaalf euro vijftig om veertien uur dertig"),
    ("pl", "mam 12 lat", "mam dwanaście lat"),
    ("sv", "25 bilar, 3,5 l", "tjugofem bilar, 3,5 l"),
    ("ja", "5時に", "5時に"),
    ("en", "31/02/2026", "31/02/2026"),
    ("en", "the 1990s and the 1900s", "the nineteen nineties and the nineteen hundreds"),
    ("en", "in the '80s, for 30s", "in the 'eighties, for thirty seconds"),
    ("en", "$5m, £3k, €2bn", "$5m, £3k, €2bn"),
    ("en", "a loss of -$5.50, 10-$20", "a loss of minus five dollars and fifty cents, ten-twenty dollars"),
    ("en", "in 1:02:30 or 10:30:00", "in one oh two and thirty seconds or ten thirty"),
    ("en-in", "10000000000", "ten billion"),
    ("de", "am 3. Mai, der 1. Mai", "am dritten Mai, der erster Mai"),
    ("de", "1 Million €, 10 000 Menschen", "eine Million Euro, zehntausend Menschen"),
    ("es", "1 millón €", "un millón de euros"),
    ("sv", "10 000 kronor", "tiotusen kronor"),
    ("sv", "12 345,5", "12 345,5"),
    ("cs", "1\u00a0250\u00a0000 lidí", "milion dvěstě padesát tisíc lidí"),
]


@pytest.mark.parametrize(("language", "text", "read"), READ)
def test_it_is_read_so(language: str, text: str, read: str) -> None:
    assert normalise(text, language) == read


@pytest.mark.parametrize("language", sorted(WORDS))
def test_each_language_has_the_same_kinds_of_words(language: str) -> None:
    words = WORDS[language]
    assert len(words.months) == 12
    assert {"$", "€", "£", "¥"} <= set(words.money) and {"km", "kg", "°C", "min"} <= set(words.units)


@pytest.mark.parametrize("language", sorted(NUMBERS_ONLY))
def test_the_library_knows_the_numbers_of_the_others(language: str) -> None:
    assert not any(character.isdigit() for character in normalise("Ala 12 340 ma.", language))


SIGNS = st.sampled_from(
    [
        "12",
        "1984",
        "3rd",
        "$5",
        "7 €",
        "12,5",
        "1.250",
        "14:30",
        "2026-11-24",
        "5 km",
        "12%",
        "z. B.",
        "Dr.",
        "&",
        "a",
        ".",
        ",",
        " ",
        "-",
        "  ",
        "x9",
    ]
)


@given(st.lists(SIGNS | st.text(max_size=4), max_size=12).map("".join), st.sampled_from([*sorted(WORDS), "sv", "ja"]))
def test_what_is_normalised_stays_as_it_is(text: str, language: str) -> None:
    once = normalise(text, language)
    assert normalise(once, language) == once
    assert unicodedata.is_normalized("NFC", once)


@given(st.text(st.characters(categories=["L", "Zs"]), max_size=60), st.sampled_from(sorted(WORDS)))
def test_plain_words_are_left_alone(text: str, language: str) -> None:
    plain = unicodedata.normalize("NFC", text)
    if not any(short in plain for short in WORDS[language].abbreviations):
        assert normalise(text, language) == plain
