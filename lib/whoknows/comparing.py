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


def fold(name: str) -> str:
    """A name normalised, without accents, with spaces for hyphens: São Paulo is sao paulo, and Guinea-Bissau guinea bissau."""
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return normalise(re.sub(r"[^\w\s]", "", letters.replace("-", " ")))
