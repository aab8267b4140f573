"""Answers are those of `generate`, whatever else is in the batch, and are graded as the words say."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from tqdm import tqdm

from made_up import QUESTIONS, mixed, spied, untaught
from whoknows import WhoknowsError
from whoknows.data.grading import grade
from whoknows.data.prompts import PLAIN
from whoknows.models import generation as prefixes
from whoknows.models.generation import Prefix, Written
from whoknows.models.reader import Reader
from whoknows.stages import answer as answering
from whoknows.stages import judge
from whoknows.stages.answer import answer
from whoknows.stages.answered import likelihood_rows, summary

NEW = 7
EXAMPLES = pd.DataFrame(
    {"question": ["What falls?", "Who is king?"], "gold": [["rain", "RAIN"], ["NOBODY", "no king"]]}
)
NO_EXAMPLES = EXAMPLES[:0]


@torch.no_grad()
def generated(reader, ids, **more):
    """New tokens, and for each its log-probability, entropy and margin to the second likeliest, by plain `generate`.

    There is one question in the batch.
    """
    given = torch.tensor([ids])
    out = reader.model.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=False,
        max_new_tokens=NEW,
        return_dict_in_generate=True,
        output_logits=True,
        **more,
    )
    tokens = out.sequences[0, len(ids) :].tolist()
    steps = [torch.distributions.Categorical(logits=step[0].double()) for step in out.logits]
    logprobs = [float(step.logits[token]) for step, token in zip(steps, tokens)]
    top = [step.probs.topk(2).values for step in steps]
    return tokens, list(
        zip(logprobs, (float(step.entropy()) for step in steps), (float(two[0] - two[1]) for two in top))
    )


def check(model, prefix, written_answers, ids):
    for question, written in zip(ids, written_answers):
        tokens, measures = generated(model, prefix.ids + question)
        end = next((at for at, token in enumerate(tokens) if prefix._is_end(token)), NEW)
        logprobs, entropies, margins = zip(
            *measures[: max(end, 1)]
        )  # an ending does not count unless it is all there is
        written_out = [token for token in tokens[: end + 1] if token not in prefix.ends]
        text, count = (
            model.tokenizer.decode(written_out, skip_special_tokens=True).split("\n")[0].strip(),
            len(logprobs),
        )
        expected = Written(
            text,
            sum(logprobs),
            sum(logprobs) / count,
            count,
            min(logprobs),
            sum(entropies) / count,
            max(entropies),
            margins[0],
        )
        assert written[0] == expected[0] and written[1:] == pytest.approx(expected[1:], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("examples", [EXAMPLES, NO_EXAMPLES], ids=["examples", "no examples"])
def test_answers_are_those_of_generate(reader, examples):
    model = untaught(reader)
    prefix = Prefix(model, examples)
    ids = [model.question(question) for question in QUESTIONS]
    written_answers = prefix.generate(ids, NEW)
    check(model, prefix, written_answers, ids)
    assert len({written.answer for written in written_answers}) > 3
    assert {written.tokens for written in written_answers} == {NEW}
    for one in written_answers:  # an answer's tokens differ, so that its first, its last and the mean do
        assert one.max_entropy - one.mean_entropy > 0.01 and one.mean_logprob - one.min_logprob > 0.01
    assert model.model.config._attn_implementation == "sdpa"


def test_rows_that_end_early_do_not_disturb_the_others(reader):
    model = untaught(reader)
    prefix = Prefix(model, EXAMPLES)
    ids = [model.question(question) for question in QUESTIONS]
    plain = [generated(model, prefix.ids + question)[0] for question in ids]
    prefix.ends |= {plain[0][0], plain[1][2], plain[2][4]}
    written_answers = prefix.generate(ids, NEW)
    check(model, prefix, written_answers, ids)
    counts = [written.tokens for written in written_answers]
    assert min(counts) == 1 and len(set(counts)) > 2, "the rows should end at different steps"


def test_answers_do_not_depend_on_the_batch(reader):
    model = untaught(reader)
    prefix = Prefix(model, EXAMPLES)
    ids = [model.question(question) for question in QUESTIONS]
    together = prefix.generate(ids, NEW)
    for one, batched in zip(ids, together):
        (alone,) = prefix.generate([one], NEW)
        assert alone.answer == batched.answer and alone[1:] == pytest.approx(batched[1:], abs=1e-4)


@pytest.mark.parametrize("scores", [1, 10**9])
def test_measures_do_not_depend_on_how_many_rows_are_measured_at_a_time(reader, monkeypatch, scores):
    model = untaught(reader)
    hidden = torch.randn(70, model.head.shape[1], generator=torch.Generator().manual_seed(0))
    monkeypatch.setitem(prefixes.SCORES, "cpu", scores)
    token, measured = Prefix(model, NO_EXAMPLES)._chosen(hidden, None)
    plain = torch.distributions.Categorical(logits=(hidden @ model.head.T).double())
    two = plain.probs.topk(2)
    assert token.tolist() == two.indices[:, 0].tolist()
    torch.testing.assert_close(
        measured.double(),
        torch.stack([two.values[:, 0].log(), plain.entropy(), two.values[:, 0] - two.values[:, 1]], 1),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_distribution_that_is_certain_or_knows_nothing(dtype):
    logits = torch.zeros(3, 1000)
    logits[0, 7], logits[1, :2] = 300, 300
    token, measured = prefixes._measure(logits.to(dtype))
    assert token[0] == 7 and token[1] in (0, 1)
    expected = torch.tensor(
        [[0, 0, 1], [-np.log(2), np.log(2), 0], [-np.log(1000), np.log(1000), 0]], dtype=torch.float32
    )
    torch.testing.assert_close(measured, expected, rtol=1e-5, atol=1e-6)


def test_blocks_that_see_a_window_only(mistral):
    # the window ends within the examples, within the question, or within the answer
    for window in (100, 30, 5):
        model = untaught(mistral, sliding_window=window)
        prefix = Prefix(model, EXAMPLES)
        ids = [model.question(question) for question in QUESTIONS]
        check(model, prefix, prefix.generate(ids, NEW), ids)


def logprobs(*values):
    """Measures of tokens of which only the log-probabilities matter."""
    return [[value, 0.0, 0.0] for value in values]


@pytest.mark.parametrize(
    "written, text",
    [(" Paris\nQuestion: x", "Paris"), ("\n", ""), (" Paris", "Paris"), ("  a\tb \n", "a\tb"), ("a\rb", "a")],
)
def test_an_answer_ends_with_its_line(llama, written, text):
    prefix = Prefix(llama, NO_EXAMPLES)
    tokens = llama.encode(written)
    assert prefix._finish(tokens, logprobs(*[-1.0] * len(tokens))).answer == text


def test_the_line_end_counts_only_when_it_is_all(llama):
    prefix = Prefix(llama, NO_EXAMPLES)
    (end,) = llama.encode("\n")
    (leaf,) = llama.encode(" A")
    assert prefix._finish([end], [[-0.5, 1.0, 0.2]]) == ("", -0.5, -0.5, 1, -0.5, 1.0, 1.0, 0.2)
    assert prefix._finish([leaf, end], [[-2.0, 1.0, 0.2], [-2.5, 9.0, 0.1]]) == (
        "A",
        -2.0,
        -2.0,
        1,
        -2.0,
        1.0,
        1.0,
        0.2,
    )
    assert prefix._finish([leaf, leaf], [[-2.0, 1.0, 0.2], [-1.0, 2.0, 0.3]]) == (
        "A A",
        -3.0,
        -1.5,
        2,
        -2.0,
        1.5,
        2.0,
        0.2,
    )
    assert prefix._finish([leaf, llama.tokenizer.eos_token_id], logprobs(-2.0, -0.5))[:4] == ("A", -2.0, -2.0, 1)


def test_an_ending_that_holds_some_of_the_answer_counts(llama, monkeypatch):
    prefix = Prefix(llama, NO_EXAMPLES)
    words = {1: " red", 2: " fox\n", 3: "\n"}
    monkeypatch.setattr(prefix.reader.tokenizer, "decode", lambda tokens, **_: "".join(words[t] for t in tokens))
    assert prefix._finish([1, 2], logprobs(-2.0, -0.5))[:4] == ("red fox", -2.5, -1.25, 2)
    assert prefix._finish([1, 3], logprobs(-2.0, -0.5))[:4] == ("red", -2.0, -2.0, 1)


def test_examples_show_an_answer_in_plain_case(reader):
    ids = Prefix(reader, EXAMPLES).ids
    text = "Question: What falls?\nAnswer: rain\n\nQuestion: Who is king?\nAnswer: no king\n\n"
    assert ids == reader.tokenizer(text).input_ids


def questions(count=6):
    shots = [
        {
            "question_id": f"s{t}{i}",
            "task": t,
            "split": "shot",
            "question": f"What {t} {i}?",
            "gold": ["x"],
            "kind": "open",
        }
        for t in "ab"
        for i in (0, 1)
    ]
    asked = [
        {**shots[0], "question_id": f"q{i}", "task": "ab"[i % 2], "split": "test", "question": QUESTIONS[i]}
        for i in range(count)
    ]
    return pd.DataFrame(asked[:2] + shots + asked[2:])


def test_every_question_is_answered_after_the_examples_of_its_own_task(reader):
    model, table = untaught(reader), questions()
    answers = answer(model, table, NEW, 200)
    assert answers["question_id"].tolist() == [f"q{i}" for i in range(6)]
    for row in answers.itertuples():
        prefix = Prefix(model, table[(table["split"] == "shot") & (table["task"] == row.task)])
        (alone,) = prefix.generate(model.questions([row.question], after_examples=True), NEW)
        assert row.answer == alone[0] and row.sum_logprob == pytest.approx(alone[1], abs=1e-4)
        assert [row.min_logprob, row.mean_entropy, row.max_entropy, row.first_margin] == pytest.approx(
            alone[4:], abs=1e-4
        )
    measured = ["sum_logprob", "mean_logprob", "min_logprob", "mean_entropy", "max_entropy", "first_margin"]
    assert set(answers[measured].dtypes) == {np.dtype(np.float32)} and answers["correct"].dtype == bool


def test_interleaved_tasks_of_unequal_size_are_asked_after_their_own_examples_and_joined_in_the_order_of_the_questions(
    llama, monkeypatch
):
    reader, asked = (
        Reader(llama.model, llama.tokenizer, dataclasses.replace(PLAIN, later="Then: ")),
        mixed(14)["one"].drop(columns=["answer", "correct"]),
    )
    shots = (
        asked.groupby("task")
        .head(2)
        .assign(split="shot", question_id=list("wxyz"), question=lambda shot: shot["question"] + " " + shot["task"])
    )
    asked["gold"] = [gold if i % 4 else ["moon"] for i, gold in enumerate(asked["gold"])]

    def echo(reader, examples, ids, max_new_tokens, samples, budget, done, group):
        written = [f"it is {question.split()[-1].strip('?')}" for question in group["question"]]
        return pd.DataFrame({"answer": written, "tokens": [len(i) for i in ids]}, index=group.index)

    monkeypatch.setattr(answering, "PART", 4)
    calls = spied(monkeypatch, answering, "_answer_some", echo)
    budgets = spied(monkeypatch, answering, "TokenBudget")
    answers = answer(reader, pd.concat([asked[:3], shots, asked[3:]]), NEW, 200)
    pd.testing.assert_frame_equal(answers[list(asked)], asked)
    assert answers["answer"].tolist() == [f"it is {i}" for i in range(14)] and answers["correct"].tolist() == [
        i % 4 > 0 for i in range(14)
    ]
    assert answers["tokens"].tolist() == [
        len(ids) for ids in reader.questions(asked["question"].tolist(), after_examples=True)
    ]
    assert [(call["group"]["task"].iloc[0], len(call["group"])) for call in calls] == [
        ("trivia_qa", 4),
        ("trivia_qa", 4),
        ("trivia_qa", 1),
        ("sciq", 4),
        ("sciq", 1),
    ]
    for call in calls:
        assert call["group"]["task"].nunique() == 1 and call["max_new_tokens"] == NEW
        assert call["examples"].equals(shots[shots["task"] == call["group"]["task"].iloc[0]])
        assert call["ids"] == reader.questions(call["group"]["question"].tolist(), after_examples=True)
    assert [(budget["tokens"], budget["most"]) for budget in budgets] == [(800, answering.MOST)]


def test_a_run_hands_on_what_it_was_told_and_writes_what_it_finds(llama, tmp_path, monkeypatch):
    answers = mixed(8)["one"].drop(columns="gold")
    calls = spied(monkeypatch, answering, "answer", lambda *_: answers)
    for share in (None, [1, 3]):
        out = tmp_path / f"{share}.parquet"
        assert answering.run(llama, questions(), NEW, 200, str(out), 3, share) is answers
        assert calls[-1].pop("questions").equals(questions()) and str(calls[-1].pop("parts")).startswith(
            f"{out}.parts/"
        )
        assert calls[-1] == {
            "reader": llama,
            "max_new_tokens": NEW,
            "batch_tokens": 200,
            "samples": 3,
            "shard": share,
            "log": tmp_path / f"{share}.judge.jsonl",
        } and out.exists() == (share is None)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "None.parquet"), answers)


def test_a_run_that_ends_while_the_judge_is_asked_answers_nothing_again(llama, endpoint, tmp_path, monkeypatch):
    table, out = questions(), str(tmp_path / "out.parquet")
    table.loc[table["task"] == "b", "kind"] = f"judge {endpoint.url} wise"
    monkeypatch.setattr(judge, "WORKERS", 1)  # that so few fail is no accident
    endpoint.reply = lambda text, count: (401, "")
    with pytest.raises(WhoknowsError, match="answered 401 Unauthorized .* what was answered is kept"):
        answering.run(llama, table, NEW, 200, out)
    calls = spied(monkeypatch, answering, "_answer_some")
    endpoint.reply = lambda text, count: (200, "yes")
    answers = answering.run(llama, table, NEW, 200, out)
    assert not calls and answers.loc[answers["task"] == "b", "correct"].tolist() == [True] * 3
    assert (tmp_path / "out.judge.jsonl").exists() and not answers.loc[answers["task"] == "a", "correct"].any()
    assert answers["question_id"].tolist() == [f"q{i}" for i in range(6)]


@torch.no_grad()
def drawn(model, ids, draws):
    """A sampled answer by whole forward passes: each token the first up to which probabilities exceed a draw."""
    tokens = list(ids)
    for draw in draws:
        logits = model.model(torch.tensor([tokens])).logits[0, -1].double()
        below = logits.softmax(-1).cumsum(-1) <= draw
        tokens.append(int(below.sum()))
    return tokens[len(ids) :]


@pytest.mark.parametrize("is_alone", [False, True], ids=["shared examples", "alone"])
def test_sampled_answers_are_drawn_from_the_whole_distribution_whatever_the_batch(reader, is_alone):
    model = untaught(reader)
    prefix = Prefix(model, EXAMPLES, is_alone)
    ids = [model.question(question) for question in QUESTIONS]
    draws = torch.rand(len(ids), 3, NEW, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = [drawn(model, prefix.ids + ids[0], draws[0, 1])[3]]  # so that one row ends before the others
    prefix.ends |= {*ends}
    texts = prefix.sample(ids, draws)
    for question, some, written in zip(ids, draws, texts):
        for draw, text in zip(some, written):
            tokens = drawn(model, prefix.ids + question, draw)
            end = next((at for at, token in enumerate(tokens) if prefix._is_end(token)), NEW)
            kept = [token for token in tokens[: end + 1] if token not in prefix.ends]
            assert text == model.tokenizer.decode(kept, skip_special_tokens=True).split("\n")[0].strip()
    assert all(len({*some}) > 1 for some in texts) and texts[2:3] == prefix.sample(ids[2:3], draws[2:3])


def test_a_draw_takes_each_token_as_often_as_its_probability_says():
    shares = torch.tensor([0.5, 0.0, 0.25, 0.25])
    draws = torch.tensor([0.0, 0.49, 0.51, 0.74, 0.76, 0.999, 1.0 - 2**-53], dtype=torch.float64)
    tokens, measured = prefixes._choice(shares.log().expand(len(draws), 4).clone(), draws)
    assert tokens.tolist() == [0, 0, 2, 2, 3, 3, 3] and measured.isnan().all() and measured.shape == (7, 3)


def test_agreement_and_semantic_entropy_by_hand():
    texts = ["The moon.", "moon", "a Moon", "Mars", "", "  "]
    shares = np.array([3, 1, 2]) / 6
    assert answering._agreement(texts, "MOON!") == pytest.approx((4 / 8, -(shares * np.log(shares)).sum()))
    assert answering._agreement(texts, "sun") == pytest.approx((1 / 8, -(shares * np.log(shares)).sum()))
    assert answering._agreement(["$", "%", "$"], "$")[0] == 3 / 5  # without words, signs count
    assert answering._agreement(["x"] * 4, "x") == (5 / 6, 0)


def test_samples_are_drawn_for_what_nothing_is_trained_on_and_by_the_question_alone(llama, tmp_path):
    model, table = untaught(llama), questions()
    table["split"] = [split if split == "shot" else ("train", "test")[i % 2] for i, split in enumerate(table["split"])]
    plain, few, many = (answer(model, table, NEW, 200, samples) for samples in (0, 2, 4))
    assert "samples" not in plain and "agreement" not in plain
    trained = few["split"] == "train"
    assert 0 < trained.sum() < len(few) and few["samples"].isna().equals(trained)
    assert few["agreement"].isna().equals(trained) and few["semantic_entropy"].isna().equals(trained)
    pd.testing.assert_frame_equal(few[list(plain)], plain)
    for row, more in zip(few[~trained].itertuples(), many.loc[~trained, "samples"]):
        assert list(row.samples) == list(more)[:2] and len({*more}) > 1
        assert (row.agreement, row.semantic_entropy) == pytest.approx(answering._agreement(row.samples, row.answer))
    out = str(tmp_path / "out.parquet")
    answering.run(model, table, NEW, 200, out, 2)
    kept = pd.read_parquet(out)
    assert [x if x is None else [*x] for x in kept["samples"]] == few["samples"].tolist()
    rows = likelihood_rows("m", kept, "agreement")
    assert rows["question_id"].tolist() == few.loc[~trained, "question_id"].tolist()
    only = table[table["split"].isin(["shot", "train"])]
    assert answer(model, only, NEW, 200, 2)["samples"].isna().all()


@pytest.mark.parametrize("samples", [0, 3])
def test_the_progress_bar_counts_sampled_answers_too_and_those_that_are_there(llama, tmp_path, monkeypatch, samples):
    bars = []
    monkeypatch.setattr(answering, "tqdm", lambda **how: bars.append(tqdm(**how, disable=False)) or bars[-1])
    table, model = questions(), untaught(llama)
    table["split"] = [split if split == "shot" else ("train", "test")[i % 2] for i, split in enumerate(table["split"])]
    for _ in "once", "again":
        answered = answer(model, table, NEW, 200, samples, tmp_path)
    written = len(answered) + samples * (answered["split"] == "test").sum()
    assert [(bar.n, bar.total) for bar in bars] == [(written, written)] * 2


def test_other_samples_are_other_parts(llama, tmp_path, monkeypatch):
    seen = spied(monkeypatch, answering.resume, "folder")
    for samples in (0, 2):
        answering.run(untaught(llama), questions(), NEW, 200, str(tmp_path / "out.parquet"), samples)
    assert [call["depends"]["samples"] for call in seen] == [0, 2]


def test_nothing_to_answer(llama):
    with pytest.raises(WhoknowsError, match="no question beside its few-shot examples"):
        answer(llama, questions(0), NEW, 200)


def test_more_examples_than_the_model_has_positions_for(llama):
    with pytest.raises(WhoknowsError, match=r"answer\.shots: the examples of a .* lower answer\.shots"):
        answer(untaught(llama, max_position_embeddings=70), questions(), NEW, 200)


def test_a_question_that_is_too_long_is_refused_before_any_is_answered(llama, monkeypatch):
    monkeypatch.setattr(answering, "_answer_some", lambda *arguments: pytest.fail("answered"))
    table = questions()
    last = table.index[table["split"] != "shot"][-1]
    table.loc[last, "question"] = "why " * 3000
    with pytest.raises(
        WhoknowsError, match=f"the examples of {table.loc[last, 'task']} and its longest question make [0-9]+ tokens"
    ):
        answer(llama, table, NEW, 200)


@pytest.mark.parametrize(
    "text, gold, right",
    [
        ("The Eiffel Tower.", ["eiffel tower"], True),
        ("It is the Eiffel Tower, in Paris", ["Eiffel Tower"], True),
        ("eiffel-tower", ["eiffeltower"], True),
        ("category", ["cat"], False),
        ("a cat", ["cat"], True),
        ("cats", ["cat"], False),
        ("Cat", ["dog", "CAT!"], True),
        ("1808", ["808"], False),
        ("tower eiffel", ["eiffel tower"], False),
        ("", ["cat"], False),
        ("...", ["cat"], False),
        ("anything", ["The"], False),
        ("", [""], False),
        ("“Hamlet”", ["Hamlet"], True),
        ("It is ‘Hamlet’ …", ["«Hamlet»"], True),
        ("O’Brien", ["O'Brien"], True),
        ("Hawaiʻi", ["Hawai'i"], True),
        ("Ko\u0308ln", ["K\u00f6ln"], True),
        ("1939–1945", ["1939-1945"], True),
        ("Hamlets", ["Hamlet’"], False),
        ("A", ["A"], True),
        ("“A”.", ["A"], True),
        ("A dog", ["A"], False),
        ("the", ["A"], False),
        ("$5", ["$5"], True),
        ("$", ["$"], True),
        ("€", ["$"], False),
        ("", ["$"], False),
    ],
)
def test_open_answers(text, gold, right):
    assert grade(text, gold, "open") is right


GOLD = "Which is heavier, gold or silver?"
NILE = "Is the Nile longer than the Amazon, yes or no?"
DAM, POTASSIUM, GLACIERS = ["Boulder Dam", "Hoover Dam"], ["Potassium", "K", "Kalium"], ["shrinking"]


@pytest.mark.parametrize(
    "question, gold, text, right",
    [
        ("K is the chemical symbol for what?", POTASSIUM, "K", False),
        ("K is the chemical symbol for what?", POTASSIUM, "K is the symbol for potassium", True),
        ("K is the chemical symbol for what?", POTASSIUM, "kalium", True),
        ("What is the symbol of potassium called in Latin?", ["Kalium", "K"], "K", True),
        ("By what name was the Hoover Dam known before 1947?", DAM, "Hoover Dam", False),
        ("By what name was the Hoover Dam known before 1947?", DAM, "the Boulder Dam", True),
        ("Are most glaciers growing or shrinking?", GLACIERS, "Shrinking.", True),
        ("Are most glaciers growing or shrinking?", GLACIERS, "they shrink, so shrinking", True),
        ("Are most glaciers growing or shrinking?", GLACIERS, "growing or shrinking", False),
        ("Are most glaciers growing or shrinking?", GLACIERS, "growing", False),
        ("The result of multiplying a number by zero is", ["zero", "0"], "a number by zero", False),
        ("The result of multiplying a number by zero is", ["zero", "0"], "0", True),
        ("What do plants give off?\nPassage: Plants give off oxygen.", ["oxygen"], "plants give off oxygen", True),
        ("What do plants give off?", ["oxygen"], "plants give off oxygen", True),
        ("What is a cat?", ["The", "animal"], "animal", True),
        (GOLD, ["gold"], "The answer is gold.", True),
        (GOLD, ["gold"], "It is gold", True),
        (GOLD, ["gold"], "gold or silver", False),
        ("What is 5 + 0?", ["5"], "The answer is 5", True),
        (NILE, ["Yes"], "Yes, the Nile is longer", True),
        (NILE, ["Yes"], "yes or no", False),
        ("Is it C# or C++?", ["C#"], "C# or C++", False),
        ("Is it C or C#?", ["C", "C#"], "C#", True),
    ],
)
def test_what_the_question_holds_is_no_proof(question, gold, text, right):
    assert grade(text, gold, "open", question) is right


@pytest.mark.parametrize(
    "text, right",
    [
        ("B", True),
        (" (B)", True),
        ("(B): iron", True),
        ("B.", True),
        ("b", True),
        ("B iron", True),
        ("A", False),
        ("Because", False),
        ("Bb", False),
        ("B2", False),
        ("", False),
        ("(", False),
        ("iron B", False),
        ("b iron", False),
        ("b) iron", True),
        ("**B**", True),
        ("[B]", True),
        ("`b`", True),
        ("__B__: iron", True),
        ("The answer is B", True),
        ("the correct answer is (B).", True),
        ("Answer: **B**", True),
        ("**Option B**", True),
        ("The answer is because", False),
        ("The answer is not B", False),
        ("Answers B", False),
        ("I think B", True),
        ("I think that the answer is B", True),
        ("It's B", True),
        ("It’s (b).", True),
        ("So the answer is B", True),
        ("Therefore, the answer should be **B**", True),
        ("The answer is option B", True),
        (r"The answer is $\boxed{\text{B}}$", True),
        ("Ｂ", True),
        ("So B2", False),
        ("I think because", False),
        ("It is not B", False),
    ],
)
def test_choices(text, right):
    assert grade(text, ["B"], "choice") is right


@pytest.mark.parametrize(
    "text, right",
    [("I don't know", False), ("I’m not sure", False), ("I think the answer is B", False), ("I", True), ("I.", True),
     ("(I) iron", True), ("I is right", True), ("I Iron", True), ("The answer is I", True),
     ("Answer: I don't know", False), ("So I would say B", False), ("I think I know", False), ("I think I", True)],
)  # fmt: skip
def test_a_pronoun_is_not_a_choice(text, right):
    assert grade(text, ["I"], "choice") is right


def test_an_article_is_not_a_choice():
    assert not grade("a dog", ["A"], "choice") and grade("a", ["A"], "choice") and grade("A dog", ["A"], "choice")
    assert not grade("A car moves because", ["A"], "choice") and not grade("The answer is a car", ["A"], "choice")
    assert not grade("Answer: A car moves because", ["A"], "choice") and not grade("I think a car", ["A"], "choice")
    assert grade("Option A seems to be right", ["A"], "choice") and grade("It's A, as cars move", ["A"], "choice")
    assert grade("A because a car moves", ["A"], "choice") and grade("The answer is A because of that", ["A"], "choice")


def test_a_name_that_normalisation_empties_is_not_every_empty_answer():
    assert grade("A", ["A"], "name") and not grade("", ["A"], "name") and not grade("the", ["A"], "name")


def test_all_ends_that_the_generation_config_names_end_an_answer_and_are_no_part_of_it(llama):
    model = untaught(llama)
    ids = model.question(QUESTIONS[0])
    tokens, _ = generated(model, ids)
    model.model.generation_config.eos_token_id = [model.tokenizer.eos_token_id, tokens[2]]
    (written,) = Prefix(Reader(model.model, model.tokenizer), NO_EXAMPLES).generate([ids], NEW)
    assert tokens[2] not in tokens[:2] and written.tokens == 2
    assert written.answer == model.tokenizer.decode(tokens[:2]).split("\n")[0].strip()


@pytest.mark.parametrize("is_alone", [False, True], ids=["shared examples", "alone"])
def test_without_an_end_token_answers_end_with_their_line_or_the_limit(llama, is_alone):
    model = untaught(llama)
    model.tokenizer, model.model.generation_config.eos_token_id = copy.deepcopy(model.tokenizer), None
    model.tokenizer.eos_token = model.model.config.eos_token_id = None
    bare = Reader(model.model, model.tokenizer)
    (written,) = Prefix(bare, EXAMPLES, is_alone).generate([bare.question(QUESTIONS[0])], NEW)
    assert not bare.ends and 0 < written.tokens <= NEW


def test_likelihood_rows_hold_the_log_odds_of_the_answers_probability():
    values = {
        "task": "t",
        "split": ["test", "train", "test", "test"],
        "question_id": list("abcd"),
        "correct": [True, False, False, True],
    }
    table = pd.DataFrame(values | {"sum_logprob": np.float32([np.log(0.25), -1, -80, 0])})
    rows = likelihood_rows("m", table)
    assert rows["question_id"].tolist() == ["a", "c", "d"] and rows["correct"].tolist() == [True, False, True]
    assert rows["logit"][0] == pytest.approx(np.log(0.25 / 0.75), rel=1e-5)
    assert rows["logit"][1] == pytest.approx(-80, rel=1e-5)
    assert 10 < rows["logit"][2] < np.inf  # certain, but finite
    assert set(rows["method"]) == {"likelihood"} and set(rows["scored"]) == {"m"} and set(rows["reader"]) == {""}


@pytest.mark.parametrize(
    "method, column, value, probability",
    [
        ("token_min", "min_logprob", np.log(0.2), 0.2),
        ("entropy_mean", "mean_entropy", np.log(8), 1 / 8),
        ("entropy_max", "max_entropy", np.log(5), 1 / 5),
        ("margin_first", "first_margin", 0.3, 0.3),
        ("agreement", "agreement", 0.75, 0.75),
        ("semantic_entropy", "semantic_entropy", np.log(3), 1 / 3),
    ],
)
def test_what_the_tokens_say_becomes_log_odds_that_grow_with_certainty(method, column, value, probability):
    values = {
        "task": "t",
        "split": ["test", "train", "test", "test"],
        "question_id": list("abcd"),
        "correct": [True, False, False, True],
    }
    certain, open_ = {"min_logprob": (0, -80), "first_margin": (1, 0), "agreement": (1, 1e-9)}.get(column, (0, 80))
    rows = likelihood_rows("m", pd.DataFrame(values | {column: np.float32([value, value, certain, open_])}), method)
    assert (
        rows["question_id"].tolist() == ["a", "c", "d"]
        and set(rows["method"]) == {method}
        and set(rows["trained_on"]) == {""}
    )
    assert rows["logit"][0] == pytest.approx(np.log(probability / (1 - probability)), rel=1e-5)
    assert np.isfinite(rows["logit"]).all() and rows["logit"][1] > 10 and rows["logit"][2] < -10


def test_summary_counts_right_answers():
    values = {"task": list("zzbb"), "split": ["test", "train", "test", "test"], "correct": [True, False, False, True]}
    answers = pd.concat([pd.DataFrame(values | {"kind": "open", "sum_logprob": [-1.0, -2.0, -3.0, -1.0]})] * 25)
    table = summary(answers, answers)
    assert table.loc["b"].to_dict() == {
        "answers": 50,
        "right": 25,
        "accuracy": 0.5,
        "test answers": 50,
        "right in test": 25,
        "AUROC of likelihood": 1.0,
    }
    assert np.isnan(table.loc["z", "AUROC of likelihood"]) and [*table.index] == ["z", "b"], "in the order of the grid"
