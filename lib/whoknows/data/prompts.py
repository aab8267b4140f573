"""Wording: what stands between questions and answers, in plain text or in the chat template of a tuned model."""

import re
from dataclasses import dataclass
from datetime import date

from whoknows import WhoknowsError

DATE = "2025-01-01"  # in templates that state the date, where the grid names none: the same text on every day
CHAT = "chat:"  # before the source of a model that is asked in its chat template
LETTERS = "ABCDEFGHIJ"  # of choices
LINE_END = re.compile(r"[\r\n]")  # where an answer ends
QUERY = "\n\nIs the proposed answer correct?\nChoices:\n(i): no\n(ii): yes\nAnswer:"
ANCHOR = "a"  # no tokenizer merges a letter with the space, line end or special token behind it
USER, REPLY, AGAIN = "Q1qQ", "A1aA", "Q2qQ"  # no template has these words


@dataclass(frozen=True)
class Wording:
    """All texts of one kind."""

    first: str  # before the first question
    later: str  # before a question that follows another one's answer
    asked: str  # between a question and what is answered
    given: str  # between an example's question and its answer
    lead: str  # before the answer's first word
    end: str  # after the answer of an example
    query: str  # after an answer, where its correctness is asked for
    before: str  # what an answer follows, as far as a tokenizer has to know


BRIEF = "Answer each question with the answer alone, in a few words and on one line."  # to a model behind an endpoint
PLAIN = Wording("Question: ", "Question: ", "\nAnswer:", "\nAnswer: ", " ", "\n\n", QUERY, ANCHOR)


def shown(gold: list[str]) -> str:
    """The accepted answer to show as an example: one in plain case, for capitals are copied."""
    return next((g for g in gold if not g.isupper()), gold[0])


def conversation(questions: list[str], answers: list[str], question: str) -> list[dict[str, str]]:
    """Messages to an endpoint: each example is a turn of the user and one of the assistant, then comes the question.

    The first turn says what is wanted: not every template takes a system message.
    """
    first, *others = [text for turns in zip(questions, answers) for text in turns] + [question]
    turns = [f"{BRIEF}\n\n{first}", *others]
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns)]


def chat(tokenizer, day: str = DATE, thinking: bool = False) -> Wording:
    """The words of a tokenizer's chat template, cut from a rendered conversation whose three words are in no template.

    Args:
        day: the date, as year-month-day, for a template that states it.
        thinking: whether the model thinks before answering, for a template that has a switch for it.

    Raises:
        WhoknowsError: there is no template, or it fails, has other words at a conversation's end or where there is one
            question alone, or lacks the switch.
    """
    name, remedy = tokenizer.name_or_path, f"leave {CHAT} out of its source in the grid"
    template = f"models: the chat template of {name}"
    if not tokenizer.chat_template:
        raise WhoknowsError(f"models: {name} has no chat template; {remedy}")
    try:
        quick, thoughtful = (_render(tokenizer, day, thinks) for thinks in (False, True))
        alone = _render(tokenizer, day, thinking, turns=1)
    except Exception as error:  # whatever a template raises
        raise WhoknowsError(f"{template} cannot be used ({' '.join(str(error).split())}); {remedy}") from None
    try:
        first, rest = (thoughtful if thinking else quick).split(USER)
        answered, rest = rest.split(REPLY)
        later, asked = rest.split(AGAIN)
    except ValueError:
        raise WhoknowsError(f"{template} leaves out or repeats what is said; {remedy}") from None
    if alone != first + USER + asked:
        raise WhoknowsError(f"{template} has other words around a question alone than in a conversation; {remedy}")
    if thinking and quick == thoughtful:
        raise WhoknowsError(f"{template} has no switch for thinking; leave thinking out of the grid")
    if not answered.startswith(asked) and (quick == thoughtful or not asked.startswith(answered)):
        why = "puts other words before an answer that is given than before one that is asked for"
        raise WhoknowsError(f"{template} {why}; {remedy}")
    # Some templates put an empty thought before the last answer alone.
    lead = answered.removeprefix(asked) if answered.startswith(asked) else ""
    if not thinking:  # what all answers begin with (a line end, a channel's name) is given: it would end the answer
        asked, lead = asked + lead.rstrip(" "), lead[len(lead.rstrip(" ")) :]
    query = later + QUERY.strip().removesuffix("\nAnswer:") + asked
    return Wording(first + "Question: ", later + "Question: ", asked, answered, lead, "", query, asked)


def _render(tokenizer, day: str, thinking: bool, turns: int = 3) -> str:
    """A template's conversation of so many turns, on a day, with its thinking on or off if it has a switch."""
    from transformers.utils import chat_template_utils  # not above: checks and plans need none of it

    clock = date.fromisoformat(day).strftime
    # The compiled template is cached and used below; a function cannot be passed as an argument.
    chat_template_utils._compile_jinja_template(tokenizer.get_chat_template()).globals["strftime_now"] = clock
    spoken = [{"role": role, "content": text} for role, text in (("user", USER), ("assistant", REPLY), ("user", AGAIN))]
    variables = {"date_string": clock("%d %b %Y"), "enable_thinking": thinking, "thinking": thinking}
    return tokenizer.apply_chat_template(spoken[:turns], tokenize=False, add_generation_prompt=True, **variables)


def as_choice(question: str, choices: list[str], gold: str) -> tuple[str, list[str]]:
    """A multiple-choice question with its lettered choices below it, and the gold letter."""
    lines = [f"({letter}): {text}" for letter, text in zip(LETTERS, choices)]
    return "\n".join([question, "Choices:", *lines]), [LETTERS[choices.index(gold)]]
