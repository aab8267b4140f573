"""How texts are compared: without what two people may write differently."""

import re
import string
import unicodedata


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra space (the SQuAD normalisation)."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def holds(text: str, words: str) -> bool:
    """Whether a text has these words in it, one after the other and whole; both are normalised alike."""
    return f" {words} " in f" {text} "


def accepted(gold: list[str], question: str) -> list[str]:
    """Accepted answers, normalised, without those that say nothing since the question itself holds them.

    In what K is the symbol of, K is no answer, though a list of other names for potassium has it. Where the question holds the
    first of them, which is the answer itself, as one of several to choose from, all of them stay.

    Args:
        question: what stands below its first line, such as a passage, is there to be read and does not count.
    """
    asked, names = asked_in(question), [name for name in map(normalise, gold) if name]
    return names if names and holds(asked, names[0]) else [name for name in names if not holds(asked, name)]


def asked_in(question: str) -> str:
    """The first line of a question, normalised."""
    return normalise(question.split("\n")[0])


def shows(said: str, name: str, asked: str) -> bool:
    """Whether an answer holds an accepted one and, where the question holds that, too, nothing else of the question's words.

    Args:
        said, name, asked: answer, accepted answer and question, all normalised.
    """
    rest = f" {said} ".replace(f" {name} ", " ").split()
    return holds(said, name) and not (holds(asked, name) and {*rest} & {*asked.split()})


def fold(name: str) -> str:
    """A name normalised, without accents, with spaces for hyphens: São Paulo is sao paulo, and Guinea-Bissau guinea bissau."""
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return normalise(re.sub(r"[^\w\s]", "", letters.replace("-", " ")))
