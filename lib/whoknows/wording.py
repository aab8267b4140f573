"""Wording: what stands between questions and answers, in plain text or in the template of a model that was tuned to chat."""

from dataclasses import dataclass

from whoknows import WhoknowsError

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
        lead: before the answer's own words.
        end: after the answer of an example.
        query: after an answer that is to be judged.
        before: what an answer follows, as far as a tokenizer has to know.
    """

    first: str
    later: str
    asked: str
    lead: str
    end: str
    query: str
    before: str


PLAIN = Wording("Question: ", "Question: ", "\nAnswer:", " ", "\n\n", QUERY, ANCHOR)


def chat(tokenizer) -> Wording:
    """The words of a tokenizer's chat template, taken from a conversation in which it puts three words that it does not know.

    Raises:
        WhoknowsError: the tokenizer has no template, or one that says the same words otherwise at the end of a conversation.
    """
    turns = [("user", USER), ("assistant", REPLY), ("user", AGAIN)]
    name = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise WhoknowsError(f"models: {name} has no chat template; leave {CHAT} out of its source in the grid")
    said = tokenizer.apply_chat_template([{"role": role, "content": text} for role, text in turns], tokenize=False, add_generation_prompt=True)
    try:
        first, rest = said.split(USER)
        answered, rest = rest.split(REPLY)
        later, asked = rest.split(AGAIN)
    except ValueError:
        raise WhoknowsError(f"models: the chat template of {name} leaves out or repeats what is said; leave {CHAT} out of its source in the grid") from None
    if not answered.startswith(asked):
        raise WhoknowsError(f"models: the chat template of {name} puts other words before an answer that is given than before one that is asked for; leave {CHAT} out of its source in the grid")
    lead = answered.removeprefix(asked)
    query = later + QUERY.strip().removesuffix("\nAnswer:") + asked
    return Wording(first + "Question: ", later + "Question: ", asked, lead, "", query, asked)
