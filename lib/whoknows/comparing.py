"""How texts are compared: without what two people may write differently."""

import re
import string
import unicodedata


APOSTROPHES = str.maketrans("", "", "´ʹʻʼʽˈ⁄−")  # and a fraction's stroke and a minus: not punctuation to Unicode, though people write ' / - instead


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra space (the SQuAD normalisation)."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def words(text: str) -> str:
    """Normalised after what Unicode writes in more than one way: NFKC, and no punctuation of any script nor invisible signs."""
    text = unicodedata.normalize("NFKC", text.translate(APOSTROPHES))
    return normalise("".join(letter for letter in text if unicodedata.category(letter)[0] != "P" and unicodedata.category(letter) != "Cf"))


def same(answer: str, accepted: str) -> bool:
    """Whether two answers are the same words; an accepted one that has no words (`A`, `$`) is compared as it stands, but for what is around the answer."""
    if words(accepted):
        return words(answer) == words(accepted)
    said, wanted = (unicodedata.normalize("NFKC", text).strip().lower() for text in (answer, accepted))
    return bool(wanted) and wanted in (said, re.sub(r"^\W+|\W+$", "", said))


def accepts(answer: str, accepted: str) -> bool:
    """Whether an answer is the accepted one, or holds its words."""
    return holds(words(answer), words(accepted)) if words(accepted) else same(answer, accepted)


def holds(text: str, words: str) -> bool:
    """Whether a text has these words in it, one after the other and whole; both are normalised alike."""
    return f" {words} " in f" {text} "


def fold(name: str) -> str:
    """A name normalised, without accents, with spaces for hyphens: São Paulo is sao paulo, and Guinea-Bissau guinea bissau."""
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return normalise(re.sub(r"[^\w\s]", "", letters.replace("-", " ")))
