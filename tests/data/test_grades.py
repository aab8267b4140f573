"""The ways of grading that a grid can name for its own questions; those of the sets are in test_answer."""

import pytest

from whoknows.data.grading import canonical, grade, number, wording, words


@pytest.mark.parametrize(
    "text, value",
    [
        ("1,000", 1000), ("about 12 or 13", 12), ("−3.5 °C", -3.5), ("COVID-19", 19), (".5", 0.5), ("3e8 m/s", 3e8),
        ("½", 0.5), ("3/4 of it", 0.75), ("5-3", 5), ("1,00", 1), ("$5.", 5), ("50%", 50), ("x", None), ("", None),
        ("1/0", None), ("7.", 7), ("1,234,567.8", 1234567.8), ("٣", 3), ("2½", 2.5), ("-1,000 ½ cups", -1000.5),
        ("–5", -5), ("x = –3.5", -3.5), ("3–5", 3), ("10³", 1000), ("1,5 × 10⁻³ m", 0.0015), ("2*10^3.", 2000),
        ("10^2.5", 10), ("x10^3", 10),
    ],
)  # fmt: skip
def test_the_first_number_of_a_text(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    "text, value",
    [
        ("minus 5", -5), ("negative 5 degrees", -5), ("-$5", -5), ("−€1,000", -1000), ("- 5", -5), ("it is – 5", 5),
        ("1 1/2", 1.5), ("2 3/4 inches", 2.75), ("-1-1/2", -1.5), ("1 and 1/2", 1.5), ("9 10/5", 9),
        ("7 1/2/2020", 7), (r"\frac{1}{2}", 0.5), (r"-2\frac{1}{2}", -2.5), (r"6.022 \times 10^{23}", 6.022e23),
        ("10^{-3}", 0.001), ("about 8.1 billion people", 8.1e9), ("1,500 millions", 1.5e9), ("1/2 million", 5e5),
        ("5 hundred thousand", 5e5), ("3 dozen", 36), ("40k", 40000), ("300 K", 300), ("5M", 5), ("3 to 5 million", 3),
        ("three", None), ("COVID- 19", 19),
    ],
)  # fmt: skip
def test_a_number_is_read_with_its_sign_and_what_multiplies_it(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    "text, value",
    [("1,5", 1.5), ("0,125", 0.125), ("-0,001 mg", -0.001), ("1234,567", 1234.567), ("6,022 × 10^23", 6.022e23),
     ("12,34,567", 1234567), ("1,23,456.7", 123456.7), ("2,5 million", 2.5e6),
     ("it is 3,14159.", 3.14159), ("-0,5, or so", -0.5), ("1,500", 1500), ("1,500,25", 1500),
     ("1,2,3", 1), ("1,5.2", 1), ("1, 5", 1), ("12,34/2", 6.17)],
)  # fmt: skip
def test_a_comma_is_a_decimal_one_where_it_cannot_part_thousands(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    "kind, answer, is_right",
    [
        ("exact", "The Paris!", True),
        ("exact", "Paris, of course", False),
        ("open", "Paris, of course", True),
        ("f1", "Paris in France", True),
        ("f1", "it may be Paris in France", False),
        ("f1", "London", False),
    ],
)
def test_words(kind, answer, is_right):
    assert grade(answer, ["Paris"], kind, "Where?") is is_right


@pytest.mark.parametrize(
    "answer, gold, is_right",
    [("答案是巴黎。", "巴黎", True), ("巴 黎", "巴黎", True), ("巴西", "巴黎", False),
     ("答えはiPhoneです", "iPhone", True), ("เมืองหลวงคือปารีส", "ปารีส", True), ("๑๕", "๑", False),
     ("有15个", "5", False), ("有15个", "15", True), ("Parisian", "Paris", False)],
)  # fmt: skip
def test_where_no_spaces_part_words_an_answer_stands_anywhere(answer, gold, is_right):
    assert grade(answer, [gold], "open", "哪里?") is is_right and grade(gold, [gold], "exact")


@pytest.mark.parametrize(
    "text, value",
    [
        ("1.234,50", 1234.5), ("1.234.567,8 €", 1234567.8), ("it is 1 234,50", 1234.5), ("1\u00a0234.50", 1234.5),
        ("−1\u202f234\u202f567,125", -1234567.125), ("1'234.50", 1234.5), ("CHF 1’234’567", 1234567),
        ("12 345/5", 2469), ("1.889", 1.889), ("1,500", 1500), ("1,234.50", 1234.5), ("1990 200", 1990),
        ("12 3456", 12), ("3.5 100", 3.5), ("1 23", 1), ("2,500 300", 2500), ("1.5,25", 1.5),
        ("1.000.000 people", 1000000), ("1.234.567.", 1234567), ("192.168.100.200.1", 192.168),
    ],
)  # fmt: skip
def test_thousands_and_decimals_of_other_countries(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    "text, normalised",
    [
        ("1.5", "1.5"), ("1,889.", "1889"), ("1,5", "1,5"), ("at 12:30!", "at 12:30"), ("−5 °C", "-5 °c"), ("½", "1/2"),
        ("1914–18", "1914-18"), ("COVID-19, x-2", "covid19 x2"), ("- 5 -", "5"), ("a.5-b", "a5b"), ("1⁄2.", "1/2"),
        ("$1,234,567.80", "1234567.80"), ("'9/11'", "9/11"), ("(-3)", "-3"), ("U.S.´s", "uss"),
        ("10⁻²", "10^-2"), ("5 m²", "5 m2"), ("2½", "2.5"),
    ],
)  # fmt: skip
def test_a_sign_without_which_a_number_is_another_one_is_kept(text, normalised):
    assert words(text) == normalised


@pytest.mark.parametrize(
    "gold, answer",
    [("15", "1.5"), ("3.14", "314"), ("-5", "it is 5"), ("12:30", "1230"), ("1/2", "12"), ("5", "-5"),
     ("10²", "102"), ("2½", "21/2")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["open", "exact", "f1"])
def test_another_number_is_wrong(kind, gold, answer):
    assert grade(gold, [gold], kind) and not grade(answer, [gold], kind)


@pytest.mark.parametrize(
    "gold, answer",
    [("O-", "O+"), ("O-", "O"), ("C#", "C"), ("C++", "C"), ("Na+", "Na"), ("Fe2−", "Fe2+"), ("x - y", "x + y"),
     ("x * y", "x - y"), ("a<b", "a>b")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["open", "exact", "f1"])
def test_a_sign_of_an_accepted_answer_is_asked_for(kind, gold, answer):
    is_shared = kind == "f1" and gold.startswith("x")  # two words of three
    assert grade(f"**{gold}**.", [gold], kind) and grade(answer, [gold], kind) is is_shared


@pytest.mark.parametrize(
    "gold, answer",
    [("+5", "5"), ("#1", "1"), ("1914 – 1918", "1914 1918"), ("50%", "50 percent"), ("$5", "5"), ("C", "C."),
     ("COVID-19", "COVID19"), ("E mc²", "E mc2"), ("AT&T", "ATT"), ("rock & roll", "rock roll")],
)  # fmt: skip
def test_a_sign_that_tells_no_answer_from_another_one_is_not(gold, answer):
    assert grade(answer, [gold], "open")


@pytest.mark.parametrize(
    "kind, answer, is_right",
    [
        ("number", "0.3", True),
        ("number", "it is 0.30 or so", True),
        ("number", "0.31", False),
        ("number 0.01", "0.31", True),
        ("number 0.01", "0.32", False),
        ("number", "none", False),
        ("number", "1e999", False),
    ],
)
def test_numbers(kind, answer, is_right):
    assert grade(answer, ["0.3"], kind) is is_right


@pytest.mark.parametrize(
    "question, other",
    [
        ("What is 5 + 3?", "What is 5 - 3?"), ("Square of 1.5?", "Square of 15?"), ("Who made C#?", "Who made C?"),
        ("What is 5²?", "What is 52?"), ("What is 10⁻³?", "What is 10³?"), ("Is 50% much?", "Is 50 much?"),
        ("Is A first?", "Is first?"), ("Where is Málaga?", "Where is Malaga?"),
    ],
)  # fmt: skip
def test_questions_that_differ_in_a_sign_are_two(question, other):
    assert canonical(question) != canonical(other)


@pytest.mark.parametrize(
    "question, other",
    [
        ("Who  was\nshe ?", "who was she"), ("What is “it”?", 'What is "it"?'), ("Who’s he…", "Who's he"),
        ("What is 5 − 3?", "What is 5 - 3?"), ("1990–2000?", "1990-2000"), ("Ｗhat\u00a0is it？", "What is it?"),
        ("Ma\u0301laga", "M\u00e1laga"), ("What is 5²?", "What is 5^2?"), ("Half is 1⁄2", "Half is 1/2."),
    ],
)  # fmt: skip
def test_a_question_is_the_same_in_other_letters_spaces_quotes_and_dashes(question, other):
    assert canonical(question) == canonical(other)


def test_the_wording_is_the_same_without_articles_and_marks_but_not_without_a_sign_that_means_something():
    assert wording("Who made the thing, number 5?") == wording("who made “thing” number 5")
    assert wording("What is COVID-19?") == wording("What is covid‐19")
    texts = ["5 + 3", "5 - 3", "5 -3", "5 3", "5^3", "5³ 3", "5.3", "5%", "5", "C", "C#", "C++", "AT&T", "ATT"]
    assert len({*map(wording, texts)}) == len(texts)
