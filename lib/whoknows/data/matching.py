"""How texts are compared: without what two people may write differently."""

import re
import string
import unicodedata

APOSTROPHES = str.maketrans(
    "", "", "´ʹʻʼʽˈ⁄−"
)  # and a fraction's stroke and a minus: not punctuation to Unicode, though people write ' / - instead


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra space (the SQuAD normalisation)."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def words(text: str) -> str:
    """Normalised after what Unicode writes in more than one way: NFKC, and no punctuation of any script nor invisible signs."""
    text = unicodedata.normalize("NFKC", text.translate(APOSTROPHES))
    return normalise(
        "".join(
            letter for letter in text if unicodedata.category(letter)[0] != "P" and unicodedata.category(letter) != "Cf"
        )
    )


def same(answer: str, accepted: str) -> bool:
    """Whether two answers are the same words; an accepted one that has no words (`A`, `$`) is compared as it stands, but for what is around the answer."""
    if words(accepted):
        return words(answer) == words(accepted)
    said, wanted = (unicodedata.normalize("NFKC", text).strip().lower() for text in (answer, accepted))
    return bool(wanted) and wanted in (said, re.sub(r"^\W+|\W+$", "", said))


def holds(text: str, words: str) -> bool:
    """Whether a text has these words in it, one after the other and whole; both are normalised alike."""
    return f" {words} " in f" {text} "


def accepted(gold: list[str], question: str) -> list[str]:
    """Accepted answers without those that say nothing since the question itself holds them.

    In what K is the symbol of, K is no answer, though a list of other names for potassium has it. Where the question holds the
    first of them, which is the answer itself, as one of several to choose from, all of them stay.

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
    """Whether an answer holds an accepted one and, where the question holds that, too, nothing else of the question's words.

    Args:
        asked: as `asked_in` returns.
    """
    said, wanted = words(answer), words(name)
    if not wanted:
        return same(answer, name)
    rest = f" {said} ".replace(f" {wanted} ", " ").split()
    return holds(said, wanted) and not (holds(asked, wanted) and {*rest} & {*asked.split()})


def fold(name: str) -> str:
    """A name normalised, without accents, with spaces for hyphens: São Paulo is sao paulo, and Guinea-Bissau guinea bissau."""
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return normalise(re.sub(r"[^\w\s]", "", letters.replace("-", " ")))
