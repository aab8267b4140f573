"""How texts are compared: without what two people may write differently."""

import re
import string
import unicodedata

# Apostrophes, a fraction's stroke and a minus: not punctuation to Unicode, though people write ' / - instead.
APOSTROPHES = str.maketrans("", "", "´ʹʻʼʽˈ⁄−")


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra space (the SQuAD normalisation)."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def words(text: str) -> str:
    """Normalised after NFKC, without punctuation of any script (category P) and invisible characters (Cf)."""
    text = unicodedata.normalize("NFKC", text.translate(APOSTROPHES))
    return normalise("".join(sign for sign in text if not unicodedata.category(sign).startswith(("P", "Cf"))))


def same(answer: str, accepted: str) -> bool:
    """Whether two answers are the same words.

    An accepted one that has no words (`A`, `$`) is compared as it stands, with the answer and with the answer less what
    surrounds its words.
    """
    if words(accepted):
        return words(answer) == words(accepted)
    given, wanted = (unicodedata.normalize("NFKC", text).strip().lower() for text in (answer, accepted))
    return bool(wanted) and wanted in (given, re.sub(r"^\W+|\W+$", "", given))


def holds(text: str, words: str) -> bool:
    """Whether a text has these words in it, one after the other and whole; both are normalised alike."""
    return f" {words} " in f" {text} "


def accepted(gold: list[str], question: str) -> list[str]:
    """Accepted answers without those that carry no information, since the question holds them.

    To what K is the symbol of, K is no answer, though a list of other names for potassium has it. Where the question
    holds the first of them, which is the answer itself, as one of several to choose from, all of them stay.

    Args:
        question: what stands below its first line, such as a passage, is there to be read and does not count.
    """
    asked = asked_in(question)
    is_held = {name: holds(asked, words(name)) for name in gold if words(name)}
    is_choice = next(iter(is_held.values()), False)
    return [name for name in gold if is_choice or not is_held.get(name, False)]


def asked_in(question: str) -> str:
    """The first line of a question, normalised."""
    return words(question.split("\n")[0])


def shows(answer: str, name: str, asked: str) -> bool:
    """Whether an answer holds an accepted one and, where the question holds that too, no other word of the question.

    Args:
        asked: as `asked_in` returns.
    """
    given, wanted = words(answer), words(name)
    if not wanted:
        return same(answer, name)
    rest = f" {given} ".replace(f" {wanted} ", " ").split()
    return holds(given, wanted) and not (holds(asked, wanted) and {*rest} & {*asked.split()})


def fold(name: str) -> str:
    """A name normalised, accents removed, spaces for hyphens: São Paulo is sao paulo, Guinea-Bissau guinea bissau."""
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return normalise(re.sub(r"[^\w\s]", "", letters.replace("-", " ")))
