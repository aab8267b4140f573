"""Grading: whether an answer is right, by the kind of its question, and how texts are compared for it."""

import re
import string
import unicodedata
from collections import Counter
from math import isclose, isfinite, prod

from whoknows.data.prompts import LETTERS

# Quotes, dashes and a fraction's stroke -> what people type instead.
TYPED = str.maketrans({
    **dict.fromkeys("‘’‚‛´ʹʻʼʽˈ′", "'"), **dict.fromkeys("“”„‟«»″", '"'), **dict.fromkeys("‐‑‒–—―−", "-"), "⁄": "/",
})  # fmt: skip
SUPERSCRIPT = re.compile("([⁺⁻]?[²³¹⁰⁴-⁹]+)")
MIXED = re.compile("(?<=[0-9]) ?([¼½¾⅐-⅞])")  # 2½
ENDS = " .,:;?!。؟।"  # what a question may end with, or not
# Punctuation without which a number is another one: 1.5, 12:30, 1/2, 3-1, 1,5, 10^2 and -5. Not the comma of 1,500.
OF_NUMBERS = re.compile(r"((?<=\d)[.:/-](?=\d)|(?<=\d)\^(?=-?\d)|(?<=\d),(?=\d)(?!\d{3}(?!\d))|(?<!\w)-(?=\d))")
# Those, and signs without which a question is another one: 5 + 3, x^2, 5%, C# and AT&T, not the hyphen of COVID-19.
OF_QUESTIONS = re.compile(rf"{OF_NUMBERS.pattern[:-1]}|[+*/=<>^%#$&@\\|~]|(?<!\w)-|-(?!\w))")
# Signs without which an accepted answer is another one: C++, O-, C#, a > b and x - y, not +5, #1 and 1914 - 1918.
MEANT = r"(?<=\w)\+|\+(?!\d)|(?<=\w)-(?!\w)|(?<=[^\W\d_])#|[<=>]|(?<=\b\w )[-*/](?= \w\b)"
OF_ANSWERS = re.compile(rf"{OF_NUMBERS.pattern[:-1]}|{MEANT})")
# Words that are no other choice, though the question has them, too: is gold heavier, or silver? It is gold.
FUNCTION_WORDS = {*"is are was were be it its they this that these those which what who and or of as".split()}
YES_NO = {"yes", "no", "true", "false"}
# Letters of scripts without spaces: Thai, Lao, Myanmar, Khmer, Hiragana, Katakana and Han.
UNSPACED = re.compile(
    r"(?!\d)[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
ENOUGH_SHARED = 0.5  # token F1 from which an answer counts as right
# "A", "(A) iron", "**A**", "A iron" and "a." choose a letter, also behind leads as in "So I think the answer is A" and
# "\boxed{A}"; "a dog" and "A car moves because" begin with an article, "I think" and "I'm" with a pronoun.
LEAD = (
    r"(?i:so|thus|therefore|hence|i (?:think|believe)(?: that)?|(?:it|that)(?:'s| is)|boxed|text|"
    r"(?:the |my )?(?:correct |right |best |final )?(?:answer|choice|option)(?: (?:is|(?:should|would|must) be))?)"
)
LETTER = rf"([{LETTERS}](?![^\W_])|[{LETTERS.lower()}](?=$|[.:,)\]}}>*_`]))"
CHOICE = re.compile(rf"(?:[\W_]*{LEAD}\b)*[\W_]*{LETTER}")
WORD = re.compile(
    r"(?<![a-z] )A (?!(?:is|was|because|since|as)\b)[a-z]+ \w|I(?:'[a-z]| (?!(?:is|because|since)\b)[a-z])"
)
# How numbers are written -> how `NUMBER` reads them, in this order. LaTeX's come first, then powers and signs.
POWER = r"10\^(?=[-+]?\d+(?!\.?\d))"
WRITTEN = {
    re.compile(form): read
    for form, read in {
        r"\\[dt]?frac\{(\d+)\}\{(\d+)\}": r" \1/\2",
        r"\\(?:times|cdot)\b": "×",
        r"\^\{([-+]?\d+)\}": r"^\1",
        rf"(?<=\d) ?[×x*·⋅] ?{POWER}": "e",  # 5 × 10^3
        rf"(?<![\w.,]){POWER}": "1e",
        r"(?i)\b(?:minus|negative) ?(?=[$€£¥]? ?\.?\d)": "-",
        r"(^|[=:(]) *- ?(?=[$€£¥]? ?\.?\d)": r"\1 -",  # - 5, not a dash within a sentence
        r"(?<![\w.])-([$€£¥]) ?(?=\.?\d)": r"\1-",  # -$5
        r"(?<=\d)k\b": " thousand",
    }.items()
}
MIXED_FRACTION = re.compile(r"(?<![\w.,/])(\d+)(?: and |[ -])(\d+)/(\d+)(?![\d/])")  # 2 1/2
SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "bn": 1e9, "billion": 1e9, "trillion": 1e12}
SCALES |= {"dozen": 12, "lakh": 1e5, "crore": 1e7}
# 1,000 and -.5 and 3e8 and 1/2 and 2.5 million; the 19 of COVID-19 is not negative, and 0,125 has no thousands.
NUMBER = re.compile(
    r"((?:(?<![\w.])[-+])?(?:(?!0)\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?:\.\d+)?(?:e[-+]?\d+)?)(?: ?/ ?(\d+))?"
    rf"((?: ?(?:{'|'.join(SCALES)})s?\b)*)",
    re.IGNORECASE,
)
# 1,5 and 3,14159 and 0,125 and 1234,567 and 6,022e23, but not 1,500 nor the list 1,2,3.
DECIMAL_COMMA = re.compile(r"(?<![\d.,])(?:(?=0|\d{4})\d+,\d+|\d+,(?:\d{1,2}|\d{4,}|\d+(?=[eE][-+]?\d)))(?![.,]?\d)")
# 1 234,50 and 1'234.50 and 12,34,567 and, since no number has two decimal signs, 1.234,50 and 1.234.567; but not 1.889.
GROUPED = re.compile(
    r"(?<![\w.,])(\d{1,2}(?:,\d\d)+,\d{3}|"
    r"\d{1,3}(?:(?:[ ']\d{3})+|(?:\.\d{3})+(?=,\d)|(?:\.\d{3}){2,}(?!\.\d)))(?!\d)(?:[.,](?=\d))?"
)
# Beside a number: another one, a date as 2-Jan or 2. Jan, an error, or what may multiply it, as the M of 5M.
NO_UNIT = re.compile(
    r"[\d#:;!?|√π]|(?<!\w)-|-(?!\w)|^\. ?[^\W\d_]|\b[kM]\b|"
    r"(?i:hundred|thousand|illi(?:on|ard)|dozen|\b(?:half|below)\b)"
)
ROUNDING = 1e-9  # more than decimal fractions lose in binary
# How a grid names the gradings of a file's questions -> their kind, which has more words after `number` and `judge`.
GRADINGS = {"contains": "open", "exact": "exact", "f1": "f1", "choice": "choice", "number": "number", "judge": "judge"}
JUDGED = "judge "  # begins the kind of what a judge grades, before the judge's url and model


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra space (the SQuAD normalisation)."""
    return _spaced(text.translate(str.maketrans("", "", string.punctuation)))


def _spaced(text: str) -> str:
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower()).split())


def typed(text: str) -> str:
    """A text after NFKC, with quotes, dashes and strokes as a keyboard has them."""
    return unicodedata.normalize("NFKC", text.translate(TYPED)).translate(TYPED)


def _plain(text: str) -> str:
    """`typed`, with a ^ before a superscript, and mixed numbers as decimal ones: 10² is 10^2, and 2½ is 2.5."""
    decimals = MIXED.sub(lambda match: f"{unicodedata.numeric(match[1]):.12f}"[1:].rstrip("0"), text)
    return typed(SUPERSCRIPT.sub(r"^\1", decimals))


def canonical(question: str) -> str:
    """A question as it is told from others: `typed`, in lower case, with single spaces, without marks at its end.

    Unlike `normalise`, it tells 5 + 3 from 5 - 3, 1.5 from 15, C# from C and 5² from 52.
    """
    text = _plain(question).lower()
    return " ".join(text.split()).rstrip(ENDS)


def wording(question: str) -> str:
    """A question as it is told from those of other tasks: its `words`, and the signs `OF_QUESTIONS`.

    Unlike `canonical`, it is the same without articles and with other punctuation.
    """
    return words(canonical(question), OF_QUESTIONS)


def words(text: str, signs: re.Pattern = OF_NUMBERS) -> str:
    """Normalised after `_plain`, without punctuation of any script (category P) and invisible characters (Cf).

    The signs stay. In scripts without spaces every letter is a word.
    """
    parts = signs.split(_plain(text))  # text and sign in turn
    bare = "".join(part if at % 2 else _bare(part) for at, part in enumerate(parts))
    return _spaced(UNSPACED.sub(r" \g<0> ", bare))


def _bare(text: str) -> str:
    kept = (sign for sign in text if not unicodedata.category(sign).startswith(("P", "Cf")))
    return "".join(sign for sign in kept if sign not in string.punctuation)


def signs_of(accepted: str) -> re.Pattern:
    """The signs that stay where a text is compared with an accepted answer: `OF_ANSWERS` if it has one of these."""
    return OF_ANSWERS if re.search(MEANT, _plain(accepted)) else OF_NUMBERS


def same(answer: str, accepted: str) -> bool:
    """Whether two answers are the same words, with the signs that the accepted one has.

    An accepted one without words (`A`, `$`) is compared as it stands: with the answer, and with its words alone.
    """
    signs = signs_of(accepted)
    if words(accepted, signs):
        return words(answer, signs) == words(accepted, signs)
    given, wanted = (unicodedata.normalize("NFKC", text).strip().lower() for text in (answer, accepted))
    return bool(wanted) and wanted in (given, re.sub(r"^\W+|\W+$", "", given))


def holds(text: str, words: str) -> bool:
    """Whether a text has these words in it, one after the other and whole; both are normalised alike."""
    return f" {words} " in f" {text} "


def accepted(gold: list[str], question: str) -> list[str]:
    """Accepted answers without those that carry no information, since the question's first line holds them.

    To what K is the symbol of, K is no answer, though a list of other names for potassium has it. Where the question
    holds the first of them, which is the answer itself, as one of several to choose from, all of them stay.
    """
    is_held = {name: held(name, question) for name in gold if words(name)}
    is_choice = next(iter(is_held.values()), False)
    return [name for name in gold if is_choice or not is_held.get(name, False)]


def held(name: str, question: str) -> bool:
    """Whether the first line of a question holds an accepted answer that has words."""
    signs = signs_of(name)
    return bool(words(name)) and holds(words(question.split("\n")[0], signs), words(name, signs))


def shows(answer: str, name: str, question: str = "") -> bool:
    """Whether an answer holds an accepted one and, if the question holds that too, no other word of its first line.

    A function word is no such word. Beside yes, no, true or false, only another one of these is.
    """
    signs = signs_of(name)
    given, wanted = words(answer, signs), words(name, signs)
    if not wanted or not holds(given, wanted):
        return not wanted and same(answer, name)
    asked = words(question.split("\n")[0], signs)
    others = {*asked.split()} & YES_NO if wanted in YES_NO else {*asked.split()} - FUNCTION_WORDS
    rest = f" {given} ".replace(f" {wanted} ", " ").split()
    return not (holds(asked, wanted) and {*rest} & others)


def fold(name: str) -> str:
    """A name normalised, accents removed, spaces for hyphens: São Paulo is sao paulo, Guinea-Bissau guinea bissau."""
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return normalise(re.sub(r"[^\w\s]", "", letters.replace("-", " ")))


def grade(answer: str, gold: list[str], kind: str, question: str = "") -> bool:
    """Whether an answer is right.

    Args:
        kind: `open`: it equals an accepted answer after normalisation, or holds one as whole words, with its signs, see
            `signs_of`; what the question holds is no proof, see `accepted` and `shows`.
            `name`: what stands before its first comma or bracket is one, whatever the accents and hyphens.
            `choice`: the accepted letter is the one `chosen`.
            `exact`: it equals an accepted answer after normalisation. `f1`: as `token_f1`, one half or more.
            `number`: its first number is an accepted one, or as near to one as the kind says, as in `number 0.5`.
            `judge URL MODEL`: not here, see `stages.judge`.
    """
    if kind == "choice":
        return chosen(answer) == gold[0]
    if kind == "name":
        head = fold(re.split("[,(]", answer)[0])
        return any(head == fold(name) if fold(name) else same(answer, name) for name in gold)
    if kind == "exact":
        return any(same(answer, name) for name in gold)
    if kind == "f1":
        return token_f1(answer, gold) >= ENOUGH_SHARED
    if kind.startswith("number"):
        given, apart = number(answer), float(kind.removeprefix("number") or 0) * (1 + ROUNDING)
        right = [value for value in map(number, gold) if value is not None]
        return given is not None and any(isclose(given, n, rel_tol=ROUNDING, abs_tol=apart) for n in right)
    return any(shows(answer, name, question) for name in accepted(gold, question))


def chosen(answer: str) -> str | None:
    """The letter that an answer begins with, bare or in marks, or behind a lead such as the answer is; or None.

    A small letter with words behind it is a word, and so is the A or I that begins a sentence.
    """
    letter = CHOICE.match(typed(answer))
    return letter[1].upper() if letter and not WORD.match(letter.string, letter.start(1)) else None


def named(kind: str) -> str:
    """How a kind is graded, in a grid's words; of a judge with its model."""
    if kind.startswith(JUDGED):
        return f"judge {judge_of(kind)[1]}"
    first = kind.split(" ")[0]
    return {kind: grading for grading, kind in GRADINGS.items()}.get(first, first)


def judge_of(kind: str) -> tuple[str, str]:
    """The url and the model of the judge that grades a kind."""
    url, model = kind.removeprefix(JUDGED).split(" ", 1)
    return url, model


def number(text: str) -> float | None:
    """The first number in a text, or None; words such as three are none, but those behind a number (2 million) count.

    A comma behind groups, behind a zero or before other than three digits is a decimal one.
    """
    match = NUMBER.search(_pointed(_digits(text)))
    over = float(match[2] or 1) if match else 0
    if not match or not over:
        return None
    scales = re.findall("|".join(SCALES), match[3].lower())
    return float(match[1].replace(",", "")) / over * prod(SCALES[word] for word in scales)


def is_one_number(text: str) -> bool:
    """Whether a text is a finite number and at most its unit, of which neither a comma nor a date makes another one."""
    read, value = _digits(text), number(text)
    is_plain = value is not None and isfinite(value) and _pointed(read) == read
    return is_plain and not NO_UNIT.search(NUMBER.sub("", read, count=1))


def _digits(text: str) -> str:
    """`_plain`, with numbers as `NUMBER` reads them, save for commas and spaces: 5 × 10^3 as 5e3 and 1 1/2 as 1.5."""
    text = _plain(text)
    for form, read in WRITTEN.items():
        text = form.sub(read, text)
    return MIXED_FRACTION.sub(_decimal, text)


def _decimal(mixed: re.Match) -> str:
    whole, over, under = map(int, mixed.groups())
    return str(whole + over / under) if over < under else mixed[0]


def _pointed(text: str) -> str:
    """A text whose numbers have a decimal point, and no groups but those of 1,000."""
    text = GROUPED.sub(lambda match: re.sub(r"\D", "", match[1]) + "." * (match[0] != match[1]), text)
    return DECIMAL_COMMA.sub(lambda match: match[0].replace(",", "."), text)


def token_f1(answer: str, gold: list[str]) -> float:
    """The highest F1 of the normalised words of an answer and of an accepted answer (Rajpurkar et al. 2016)."""
    return max((_f1(answer, name) or float(same(answer, name)) for name in gold), default=0.0)


def _f1(answer: str, gold: str) -> float:
    given, wanted = (Counter(words(text, signs_of(gold)).split()) for text in (answer, gold))
    shared = (given & wanted).total()
    return 2 * shared / (given.total() + wanted.total()) if shared else 0.0
