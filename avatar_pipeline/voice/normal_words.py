"""Words of seven languages for what texts write in signs: money, percent, units, months, abbreviations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Forms = tuple[str, str]
"""What one is called, and several. A leading '+' makes one of them feminine."""


@dataclass(frozen=True, slots=True)
class Words:
    """How one language says what it writes in signs.

    `group` and `point` are what thousands and decimals are written with; `spoken_point` is how a decimal one is said.
    `one` is 1 before a masculine and a feminine noun. `date` says a day, `{day} {month} {year}`. `hour` is what stands
    between hours and minutes, `sharp` what follows full hours.
    """

    group: str
    point: str
    spoken_point: str
    one: tuple[str, str]
    minus: str
    percent: str
    money: Mapping[str, tuple[Forms, Forms]]
    cents: str
    units: Mapping[str, Forms]
    months: tuple[str, ...]
    date: str
    first_of_month: str
    hour: str
    sharp: str
    signs: Mapping[str, str]
    abbreviations: Mapping[str, str]
    ordinals: str = ""
    scales: frozenset[str] = field(default_factory=frozenset)
    of: str = ""


def _units(**names: tuple[str, str]) -> dict[str, Forms]:
    written = {"kmh": "km/h", "mph": "mph", "celsius": "°C", "fahrenheit": "°F", "m2": "m²", "km2": "km²", "m3": "m³"}
    return {written.get(name, name): forms for name, forms in names.items()}


def _listed(names: str) -> tuple[str, ...]:
    return tuple(names.split())


ENGLISH = Words(
    group=",",
    point=".",
    spoken_point="point",
    one=("one", "one"),
    minus="minus",
    percent="percent",
    money={
        "$": (("dollar", "dollars"), ("cent", "cents")),
        "€": (("euro", "euros"), ("cent", "cents")),
        "£": (("pound", "pounds"), ("penny", "pence")),
        "¥": (("yen", "yen"), ("", "")),
    },
    cents=" and {cents}",
    units=_units(
        km=("kilometre", "kilometres"),
        cm=("centimetre", "centimetres"),
        mm=("millimetre", "millimetres"),
        m=("metre", "metres"),
        m2=("square metre", "square metres"),
        km2=("square kilometre", "square kilometres"),
        m3=("cubic metre", "cubic metres"),
        kg=("kilogram", "kilograms"),
        g=("gram", "grams"),
        mg=("milligram", "milligrams"),
        l=("litre", "litres"),
        ml=("millilitre", "millilitres"),
        kmh=("kilometre per hour", "kilometres per hour"),
        mph=("mile per hour", "miles per hour"),
        celsius=("degree Celsius", "degrees Celsius"),
        fahrenheit=("degree Fahrenheit", "degrees Fahrenheit"),
        kB=("kilobyte", "kilobytes"),
        MB=("megabyte", "megabytes"),
        GB=("gigabyte", "gigabytes"),
        TB=("terabyte", "terabytes"),
        kW=("kilowatt", "kilowatts"),
        kWh=("kilowatt hour", "kilowatt hours"),
        Hz=("hertz", "hertz"),
        kHz=("kilohertz", "kilohertz"),
        ms=("millisecond", "milliseconds"),
        s=("second", "seconds"),
        min=("minute", "minutes"),
        h=("hour", "hours"),
    ),
    months=_listed("January February March April May June July August September October November December"),
    date="{month} {day}, {year}",
    first_of_month="first",
    hour=" ",
    sharp=" o'clock",
    signs={"&": "and", "@": "at", "+": "plus", "=": "equals", "×": "times"},
    abbreviations={
        "Dr.": "Doctor",
        "Mr.": "Mister",
        "Mrs.": "Missus",
        "Ms.": "Miss",
        "Prof.": "Professor",
        "e.g.": "for example",
        "i.e.": "that is",
        "etc.": "et cetera",
        "vs.": "versus",
        "approx.": "approximately",
    },
    ordinals="st|nd|rd|th",
    scales=frozenset({"thousand", "million", "billion", "trillion"}),
)

GERMAN = Words(
    group=".",
    point=",",
    spoken_point="Komma",
    one=("ein", "eine"),
    minus="minus",
    percent="Prozent",
    money={
        "$": (("Dollar", "Dollar"), ("Cent", "Cent")),
        "€": (("Euro", "Euro"), ("Cent", "Cent")),
        "£": (("Pfund", "Pfund"), ("Penny", "Pence")),
        "¥": (("Yen", "Yen"), ("", "")),
    },
    cents=" {number}",
    units=_units(
        km=("Kilometer", "Kilometer"),
        cm=("Zentimeter", "Zentimeter"),
        mm=("Millimeter", "Millimeter"),
        m=("Meter", "Meter"),
        m2=("Quadratmeter", "Quadratmeter"),
        km2=("Quadratkilometer", "Quadratkilometer"),
        m3=("Kubikmeter", "Kubikmeter"),
        kg=("Kilogramm", "Kilogramm"),
        g=("Gramm", "Gramm"),
        mg=("Milligramm", "Milligramm"),
        l=("Liter", "Liter"),
        ml=("Milliliter", "Milliliter"),
        kmh=("Stundenkilometer", "Stundenkilometer"),
        celsius=("Grad Celsius", "Grad Celsius"),
        kB=("Kilobyte", "Kilobyte"),
        MB=("Megabyte", "Megabyte"),
        GB=("Gigabyte", "Gigabyte"),
        TB=("Terabyte", "Terabyte"),
        kW=("Kilowatt", "Kilowatt"),
        kWh=("+Kilowattstunde", "Kilowattstunden"),
        Hz=("Hertz", "Hertz"),
        kHz=("Kilohertz", "Kilohertz"),
        ms=("+Millisekunde", "Millisekunden"),
        s=("+Sekunde", "Sekunden"),
        min=("+Minute", "Minuten"),
        h=("+Stunde", "Stunden"),
    ),
    months=_listed("Januar Februar März April Mai Juni Juli August September Oktober November Dezember"),
    date="{day} {month} {year}",
    first_of_month="erster",
    hour=" Uhr ",
    sharp=" Uhr",
    signs={"&": "und", "@": "ät", "+": "plus", "=": "gleich", "×": "mal"},
    abbreviations={
        "z. B.": "zum Beispiel",
        "z.B.": "zum Beispiel",
        "d. h.": "das heißt",
        "d.h.": "das heißt",
        "u. a.": "unter anderem",
        "u.a.": "unter anderem",
        "usw.": "und so weiter",
        "bzw.": "beziehungsweise",
        "ca.": "circa",
        "Dr.": "Doktor",
        "Prof.": "Professor",
        "Nr.": "Nummer",
        "Hr.": "Herr",
        "Fr.": "Frau",
    },
    scales=frozenset({"Millionen", "Million", "Milliarden", "Milliarde", "Billionen"}),
)

FRENCH = Words(
    group=" ",
    point=",",
    spoken_point="virgule",
    one=("un", "une"),
    minus="moins",
    percent="pour cent",
    money={
        "$": (("dollar", "dollars"), ("cent", "cents")),
        "€": (("euro", "euros"), ("centime", "centimes")),
        "£": (("+livre", "livres"), ("penny", "pence")),
        "¥": (("yen", "yens"), ("", "")),
    },
    cents=" {number}",
    units=_units(
        km=("kilomètre", "kilomètres"),
        cm=("centimètre", "centimètres"),
        mm=("millimètre", "millimètres"),
        m=("mètre", "mètres"),
        m2=("mètre carré", "mètres carrés"),
        km2=("kilomètre carré", "kilomètres carrés"),
        m3=("mètre cube", "mètres cubes"),
        kg=("kilogramme", "kilogrammes"),
        g=("gramme", "grammes"),
        mg=("milligramme", "milligrammes"),
        l=("litre", "litres"),
        ml=("millilitre", "millilitres"),
        kmh=("kilomètre heure", "kilomètres heure"),
        celsius=("degré Celsius", "degrés Celsius"),
        Mo=("mégaoctet", "mégaoctets"),
        Go=("gigaoctet", "gigaoctets"),
        kW=("kilowatt", "kilowatts"),
        kWh=("kilowattheure", "kilowattheures"),
        Hz=("hertz", "hertz"),
        kHz=("kilohertz", "kilohertz"),
        ms=("+milliseconde", "millisecondes"),
        s=("+seconde", "secondes"),
        min=("+minute", "minutes"),
    ),
    months=_listed("janvier février mars avril mai juin juillet août septembre octobre novembre décembre"),
    date="{day} {month} {year}",
    first_of_month="premier",
    hour=" heures ",
    sharp=" heures",
    signs={"&": "et", "@": "arobase", "+": "plus", "=": "égale", "×": "fois"},
    abbreviations={
        "Mme": "Madame",
        "Mmes": "Mesdames",
        "Mlle": "Mademoiselle",
        "MM.": "Messieurs",
        "M.": "Monsieur",
        "Dr": "Docteur",
        "p. ex.": "par exemple",
        "c.-à-d.": "c'est-à-dire",
        "etc.": "et cetera",
    },
    ordinals="er|re|ère|e|ème|eme|nd|nde",
    scales=frozenset({"million", "millions", "milliard", "milliards"}),
    of="de ",
)

SPANISH = Words(
    group=".",
    point=",",
    spoken_point="coma",
    one=("un", "una"),
    minus="menos",
    percent="por ciento",
    money={
        "$": (("dólar", "dólares"), ("centavo", "centavos")),
        "€": (("euro", "euros"), ("céntimo", "céntimos")),
        "£": (("+libra", "libras"), ("penique", "peniques")),
        "¥": (("yen", "yenes"), ("", "")),
    },
    cents=" con {number}",
    units=_units(
        km=("kilómetro", "kilómetros"),
        cm=("centímetro", "centímetros"),
        mm=("milímetro", "milímetros"),
        m=("metro", "metros"),
        m2=("metro cuadrado", "metros cuadrados"),
        km2=("kilómetro cuadrado", "kilómetros cuadrados"),
        m3=("metro cúbico", "metros cúbicos"),
        kg=("kilogramo", "kilogramos"),
        g=("gramo", "gramos"),
        mg=("miligramo", "miligramos"),
        l=("litro", "litros"),
        ml=("mililitro", "mililitros"),
        kmh=("kilómetro por hora", "kilómetros por hora"),
        celsius=("grado Celsius", "grados Celsius"),
        MB=("megabyte", "megabytes"),
        GB=("gigabyte", "gigabytes"),
        kW=("kilovatio", "kilovatios"),
        kWh=("kilovatio hora", "kilovatios hora"),
        Hz=("hercio", "hercios"),
        kHz=("kilohercio", "kilohercios"),
        ms=("milisegundo", "milisegundos"),
        s=("segundo", "segundos"),
        min=("minuto", "minutos"),
        h=("+hora", "horas"),
    ),
    months=_listed("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"),
    date="{day} de {month} de {year}",
    first_of_month="primero",
    hour=" y ",
    sharp=" horas",
    signs={"&": "y", "@": "arroba", "+": "más", "=": "igual a", "×": "por"},
    abbreviations={
        "Sr.": "Señor",
        "Sra.": "Señora",
        "Srta.": "Señorita",
        "Dr.": "Doctor",
        "Dra.": "Doctora",
        "Ud.": "usted",
        "Uds.": "ustedes",
        "p. ej.": "por ejemplo",
        "etc.": "etcétera",
    },
    scales=frozenset({"mil", "millón", "millones"}),
    of="de ",
)

ITALIAN = Words(
    group=".",
    point=",",
    spoken_point="virgola",
    one=("un", "una"),
    minus="meno",
    percent="per cento",
    money={
        "$": (("dollaro", "dollari"), ("centesimo", "centesimi")),
        "€": (("euro", "euro"), ("centesimo", "centesimi")),
        "£": (("+sterlina", "sterline"), ("penny", "pence")),
        "¥": (("yen", "yen"), ("", "")),
    },
    cents=" e {number}",
    units=_units(
        km=("chilometro", "chilometri"),
        cm=("centimetro", "centimetri"),
        mm=("millimetro", "millimetri"),
        m=("metro", "metri"),
        m2=("metro quadrato", "metri quadrati"),
        km2=("chilometro quadrato", "chilometri quadrati"),
        m3=("metro cubo", "metri cubi"),
        kg=("chilogrammo", "chilogrammi"),
        g=("grammo", "grammi"),
        mg=("milligrammo", "milligrammi"),
        l=("litro", "litri"),
        ml=("millilitro", "millilitri"),
        kmh=("chilometro orario", "chilometri orari"),
        celsius=("grado Celsius", "gradi Celsius"),
        MB=("megabyte", "megabyte"),
        GB=("gigabyte", "gigabyte"),
        kW=("chilowatt", "chilowatt"),
        kWh=("chilowattora", "chilowattora"),
        Hz=("hertz", "hertz"),
        kHz=("chilohertz", "chilohertz"),
        ms=("millisecondo", "millisecondi"),
        s=("secondo", "secondi"),
        min=("minuto", "minuti"),
        h=("+ora", "ore"),
    ),
    months=_listed("gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre"),
    date="{day} {month} {year}",
    first_of_month="primo",
    hour=" e ",
    sharp="",
    signs={"&": "e", "@": "chiocciola", "+": "più", "=": "uguale", "×": "per"},
    abbreviations={
        "Sig.": "Signor",
        "Sig.ra": "Signora",
        "Dott.": "Dottor",
        "Dott.ssa": "Dottoressa",
        "Prof.": "Professor",
        "ecc.": "eccetera",
        "p. es.": "per esempio",
    },
    scales=frozenset({"mila", "milione", "milioni", "miliardo", "miliardi"}),
    of="di ",
)

PORTUGUESE = Words(
    group=".",
    point=",",
    spoken_point="vírgula",
    one=("um", "uma"),
    minus="menos",
    percent="por cento",
    money={
        "R$": (("real", "reais"), ("centavo", "centavos")),
        "$": (("dólar", "dólares"), ("cêntimo", "cêntimos")),
        "€": (("euro", "euros"), ("cêntimo", "cêntimos")),
        "£": (("+libra", "libras"), ("péni", "pence")),
        "¥": (("iene", "ienes"), ("", "")),
    },
    cents=" e {number}",
    units=_units(
        km=("quilómetro", "quilómetros"),
        cm=("centímetro", "centímetros"),
        mm=("milímetro", "milímetros"),
        m=("metro", "metros"),
        m2=("metro quadrado", "metros quadrados"),
        km2=("quilómetro quadrado", "quilómetros quadrados"),
        m3=("metro cúbico", "metros cúbicos"),
        kg=("quilograma", "quilogramas"),
        g=("grama", "gramas"),
        mg=("miligrama", "miligramas"),
        l=("litro", "litros"),
        ml=("mililitro", "mililitros"),
        kmh=("quilómetro por hora", "quilómetros por hora"),
        celsius=("grau Celsius", "graus Celsius"),
        MB=("megabyte", "megabytes"),
        GB=("gigabyte", "gigabytes"),
        kW=("quilowatt", "quilowatts"),
        kWh=("quilowatt-hora", "quilowatts-hora"),
        Hz=("hertz", "hertz"),
        kHz=("quilohertz", "quilohertz"),
        ms=("milissegundo", "milissegundos"),
        s=("segundo", "segundos"),
        min=("minuto", "minutos"),
        h=("+hora", "horas"),
    ),
    months=_listed("janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"),
    date="{day} de {month} de {year}",
    first_of_month="primeiro",
    hour=" e ",
    sharp=" horas",
    signs={"&": "e", "@": "arroba", "+": "mais", "=": "igual a", "×": "vezes"},
    abbreviations={
        "Sr.": "Senhor",
        "Sra.": "Senhora",
        "Dr.": "Doutor",
        "Dra.": "Doutora",
        "p. ex.": "por exemplo",
        "etc.": "et cetera",
    },
    scales=frozenset({"mil", "milhão", "milhões"}),
    of="de ",
)

DUTCH = Words(
    group=".",
    point=",",
    spoken_point="komma",
    one=("een", "een"),
    minus="min",
    percent="procent",
    money={
        "$": (("dollar", "dollar"), ("cent", "cent")),
        "€": (("euro", "euro"), ("cent", "cent")),
        "£": (("pond", "pond"), ("penny", "pence")),
        "¥": (("yen", "yen"), ("", "")),
    },
    cents=" {number}",
    units=_units(
        km=("kilometer", "kilometer"),
        cm=("centimeter", "centimeter"),
        mm=("millimeter", "millimeter"),
        m=("meter", "meter"),
        m2=("vierkante meter", "vierkante meter"),
        km2=("vierkante kilometer", "vierkante kilometer"),
        m3=("kubieke meter", "kubieke meter"),
        kg=("kilogram", "kilogram"),
        g=("gram", "gram"),
        mg=("milligram", "milligram"),
        l=("liter", "liter"),
        ml=("milliliter", "milliliter"),
        kmh=("kilometer per uur", "kilometer per uur"),
        celsius=("graad Celsius", "graden Celsius"),
        MB=("megabyte", "megabyte"),
        GB=("gigabyte", "gigabyte"),
        kW=("kilowatt", "kilowatt"),
        kWh=("kilowattuur", "kilowattuur"),
        Hz=("hertz", "hertz"),
        kHz=("kilohertz", "kilohertz"),
        ms=("milliseconde", "milliseconden"),
        s=("seconde", "seconden"),
        min=("minuut", "minuten"),
    ),
    months=_listed("januari februari maart april mei juni juli augustus september oktober november december"),
    date="{day} {month} {year}",
    first_of_month="een",
    hour=" uur ",
    sharp=" uur",
    signs={"&": "en", "@": "apenstaartje", "+": "plus", "=": "is", "×": "keer"},
    abbreviations={
        "bijv.": "bijvoorbeeld",
        "o.a.": "onder andere",
        "d.w.z.": "dat wil zeggen",
        "enz.": "enzovoort",
        "dhr.": "de heer",
        "mevr.": "mevrouw",
        "dr.": "dokter",
    },
    scales=frozenset({"miljoen", "miljard", "duizend"}),
)

WORDS: Mapping[str, Words] = {
    "en": ENGLISH,
    "de": GERMAN,
    "fr": FRENCH,
    "es": SPANISH,
    "it": ITALIAN,
    "pt": PORTUGUESE,
    "nl": DUTCH,
}
NUMBERS_ONLY = frozenset(
    {"sv", "da", "no", "fi", "pl", "cs", "sk", "ru", "uk", "ro", "hu", "tr", "lt", "lv", "sl", "id"}
)
"""Languages in which only whole numbers are written out: their nouns bend to the number before them."""
