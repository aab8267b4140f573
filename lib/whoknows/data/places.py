"""Cities and their countries, countries and their capitals, as GeoNames knows them.

An answer that is a name has to be that name: graded by containment, "Papua New Guinea" would pass for Guinea, and
"South America" for the United States. So all names in common use are accepted, and none that only holds one.
"""

import json
import re
from collections import defaultdict
from pathlib import Path

from whoknows.data.grading import fold, holds

LARGE = 200_000  # inhabitants of a city that is asked about
# Two former states; those whose capital is disputed, and those whose cities may count as being in another country.
LEFT_OUT = ("AN", "CS", "EH", "HK", "IL", "MO", "PR", "PS", "TW", "XK")
ARTICLE = re.compile(
    "^(?!South Georgia).*(Islands|Territory|Territories)$|Republic"
    "|^(United|Netherlands|Bahamas|Gambia|Philippines|Maldives|Comoros|Seychelles|Isle)"
)

# Names beside that of GeoNames, by the country's code; accents, hyphens, full stops and "the" need none.
COUNTRIES = {
    "AE": ("UAE", "Emirates"),
    "BA": ("Bosnia", "Bosnia-Herzegovina"),
    "CD": ("DR Congo", "DRC", "Democratic Republic of Congo", "Congo-Kinshasa", "Congo"),
    "CF": ("CAR",),
    "CG": ("Republic of Congo", "Congo Republic", "Congo-Brazzaville", "Congo"),
    "CI": ("Côte d'Ivoire",),
    "CN": ("People's Republic of China", "PRC", "Mainland China"),
    "CZ": ("Czech Republic",),
    "GB": ("UK", "Great Britain", "Britain"),
    "IE": ("Republic of Ireland", "Éire"),
    "IR": ("Islamic Republic of Iran",),
    "KG": ("Kyrgyz Republic", "Kirghizia"),
    "KP": ("DPRK", "Democratic People's Republic of Korea"),
    "KR": ("Korea", "Republic of Korea"),
    "LA": ("Lao PDR", "Lao People's Democratic Republic"),
    "MD": ("Republic of Moldova",),
    "MK": ("Macedonia", "Republic of North Macedonia"),
    "MM": ("Burma",),
    "NL": ("Holland",),
    "RU": ("Russian Federation",),
    "SA": ("KSA", "Kingdom of Saudi Arabia"),
    "SY": ("Syrian Arab Republic",),
    "TR": ("Türkiye",),
    "TZ": ("United Republic of Tanzania",),
    "US": ("USA", "US", "United States of America", "America"),
    "VN": ("Viet Nam",),
    "ZA": ("Republic of South Africa", "RSA"),
}
# A city in England is in England, too, but not in Scotland.
BRITAIN = {"ENG": "England", "NIR": "Northern Ireland", "SCT": "Scotland", "WLS": "Wales"}

# The same for capitals; where there are several, or another was the capital until lately, each is accepted.
CAPITALS = {
    "AG": ("Saint John's",),
    "BI": ("Bujumbura",),
    "BO": ("La Paz",),
    "CH": ("Berne",),
    "CL": ("Santiago de Chile",),
    "CN": ("Peking",),
    "FK": ("Port Stanley",),
    "GD": ("Saint George's",),
    "GG": ("Saint Peter Port",),
    "GL": ("Godthåb",),
    "GQ": ("Malabo",),
    "ID": ("Nusantara",),
    "IN": ("Delhi",),
    "JE": ("St. Helier",),
    "KI": ("South Tarawa",),
    "KZ": ("Astana",),
    "LK": ("Sri Jayawardenepura Kotte", "Kotte"),
    "MM": ("Naypyidaw", "Naypyitaw"),
    "MN": ("Ulan Bator",),
    "MS": ("Brades",),
    "MX": ("Ciudad de México",),
    "MY": ("Putrajaya",),
    "PW": ("Ngerulmud",),
    "RE": ("St. Denis",),
    "SZ": ("Lobamba",),
    "UA": ("Kiev",),
    "US": ("Washington DC",),
    "ZA": ("Cape Town", "Bloemfontein"),
}


def cities(root: Path) -> list[tuple[str, list[str]]]:
    """(question, accepted names of the country) for large cities whose name is that of no city in another country.

    A name counts as another country's if one of its cities above 15,000 people has it as its name, or one of its large
    cities as one of its many names: St. Petersburg is in Russia as well as in Florida.
    """
    every = sorted(_read(root, "cities15000").values(), key=lambda city: -city["population"])
    countries, where = _read(root, "countries"), defaultdict(set)
    large = [city for city in every if city["population"] > LARGE]
    # Of a city's many other names, only those that a large city is called.
    known = {spelling for city in large for spelling in (city["name"], fold(city["name"]).title())}
    names = [(city["name"], city["countrycode"]) for city in every]
    names += [(name, city["countrycode"]) for city in large for name in known.intersection(city["alternatenames"])]
    for name, code in names:
        where[fold(name)].add(code)
    asked = {}
    for city in large:
        code, name = city["countrycode"], fold(city["name"])
        if code not in LEFT_OUT and where[name] == {code} and name not in asked:
            nation = [BRITAIN[city["admin1code"]]] if code == "GB" else []
            asked[name] = (
                f"In which country is the city of {city['name']}?",
                [countries[code]["name"], *COUNTRIES.get(code, ()), *nation],
            )
    return _without_given(asked.values())


def capitals(root: Path) -> list[tuple[str, list[str]]]:
    """(question, accepted names of the capital) for every country and territory that has one."""
    asked = [
        (
            f"What is the capital of {'the ' if ARTICLE.search(name) else ''}{name}?",
            [country["capital"].strip(), *CAPITALS.get(code, ())],
        )
        for code, country in _read(root, "countries").items()
        if country["capital"] and code not in LEFT_OUT and (name := country["name"].removeprefix("The "))
    ]
    return _without_given(asked)


def _without_given(asked) -> list[tuple[str, list[str]]]:
    """Those whose question does not name its answer, as it does for Mexico City or the capital of Monaco."""
    return [(text, names) for text, names in asked if not any(holds(fold(text), fold(name)) for name in names)]


def _read(root: Path, name: str) -> dict:
    """A table of GeoNames, from the folder of its asset."""
    return json.loads((root / f"{name}.json").read_text(encoding="utf-8"))
