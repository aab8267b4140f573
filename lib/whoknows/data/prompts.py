"""Wording: what stands between questions and answers, in plain text or in the template of a model that was tuned to chat."""

from dataclasses import dataclass
from datetime import date

from whoknows import WhoknowsError

DATE = "2025-01-01"  # what a template that tells the date is told where the grid names none: the same text on every day
CHAT = "chat:"  # before the source of a model that is to be asked in its own template
QUERY = "\n\nIs the proposed answer correct?\nChoices:\n(i): no\n(ii): yes\nAnswer:"
ANCHOR = "a"  # no tokenizer merges a letter with the space, line end or special token behind it
USER, REPLY, AGAIN = "Q1qQ", "A1aA", "Q2qQ"  # no template has these words


@dataclass(frozen=True)
class Wording:
    """All texts of one kind.

    Attributes:
        first: before the first question.
        later: before a question that follows another one's answer.
        asked: between a question and what is answered.
        given: between an example's question and its answer.
        lead: before the answer's own words.
        end: after the answer of an example.
        query: after an answer that is to be judged.
        before: what an answer follows, as far as a tokenizer has to know.
    """

    first: str
    later: str
    asked: str
    given: str
    lead: str
    end: str
    query: str
    before: str


PLAIN = Wording("Question: ", "Question: ", "\nAnswer:", "\nAnswer: ", " ", "\n\n", QUERY, ANCHOR)


def chat(tokenizer, day: str = DATE, thinking: bool = False) -> Wording:
    """The words of a tokenizer's chat template, taken from a conversation in which it puts three words that it does not know.

    Args:
        day: what it is told if it asks for the date, as year-month-day.
        thinking: what it is told if it asks whether to think before answering.

    Raises:
        WhoknowsError: the tokenizer has no template, or one that fails, that says the same words otherwise at the end of a
            conversation, or that has no switch for the thinking that is asked for.
    """
    name, remedy = tokenizer.name_or_path, f"leave {CHAT} out of its source in the grid"
    if not tokenizer.chat_template:
        raise WhoknowsError(f"models: {name} has no chat template; {remedy}")
    try:
        quick, thoughtful = (_said(tokenizer, day, thinks) for thinks in (False, True))
        first, rest = (thoughtful if thinking else quick).split(USER)
        answered, rest = rest.split(REPLY)
        later, asked = rest.split(AGAIN)
    except ValueError:
        raise WhoknowsError(
            f"models: the chat template of {name} leaves out or repeats what is said; {remedy}"
        ) from None
    except Exception as error:  # whatever a template raises
        raise WhoknowsError(
            f"models: the chat template of {name} cannot be used ({' '.join(str(error).split())}); {remedy}"
        ) from None
    if thinking and quick == thoughtful:
        raise WhoknowsError(
            f"models: the chat template of {name} has no switch for thinking; leave thinking out of the grid"
        )
    if not answered.startswith(asked) and (quick == thoughtful or not asked.startswith(answered)):
        raise WhoknowsError(
            f"models: the chat template of {name} puts other words before an answer that is given than before one that is asked for; {remedy}"
        )
    lead = (
        answered.removeprefix(asked) if answered.startswith(asked) else ""
    )  # an empty thought stands before the last answer alone
    if (
        not thinking
    ):  # a line end or a name of a channel that every answer begins with is given, for it would end the answer
        asked, lead = asked + lead.rstrip(" "), lead[len(lead.rstrip(" ")) :]
    query = later + QUERY.strip().removesuffix("\nAnswer:") + asked
    return Wording(first + "Question: ", later + "Question: ", asked, answered, lead, "", query, asked)


def _said(tokenizer, day: str, thinking: bool) -> str:
    """A template's conversation, on a day, with its thinking on or off if it has a switch."""
    from transformers.utils.chat_template_utils import (
        _compile_jinja_template,  # not above: checks and plans need none of it
    )

    clock = date.fromisoformat(day).strftime
    _compile_jinja_template(tokenizer.get_chat_template()).globals["strftime_now"] = (
        clock  # kept from one call to the next; no argument may be a function
    )
    turns = [{"role": role, "content": text} for role, text in (("user", USER), ("assistant", REPLY), ("user", AGAIN))]
    told = {"date_string": clock("%d %b %Y"), "enable_thinking": thinking, "thinking": thinking}
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **told)
