"""Budgets of tokens: what does not fit is tried again in smaller pieces, and every text comes once."""

import pytest
import torch

from whoknows.models.batching import FEW, DoesNotFit, TokenBudget, batches

CPU = torch.device("cpu")
LENGTHS = [5, 40, 12, 40, 7, 7, 30, 1]


def small(fits, lengths=LENGTHS):
    """Work that runs out of memory above a number of tokens, and what it was asked to do."""
    asked = []

    def work(batch):
        asked.append(batch)
        if len(batch) * max(lengths[t] for t in batch) > fits:
            raise torch.OutOfMemoryError
        return [t * 10 for t in batch]

    return work, asked


def test_batches_stay_within_the_budget_and_leave_nothing_out():
    lengths = [3, 100, 7, 7, 50, 1, 2, 60]
    parts = batches(lengths, 60)
    assert sorted(i for batch in parts for i in batch) == list(range(len(lengths)))
    assert [1] in parts  # longer than the budget: alone
    for batch in parts:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 60
    assert len(parts) < len(lengths) - 2
    assert batches([], 60) == []


@pytest.mark.parametrize("fits", [40, 45, 80, 1000])
def test_every_text_comes_once_however_little_fits(fits):
    work, asked = small(fits)
    results = list(TokenBudget(200, CPU).run(work, LENGTHS))
    assert sorted(t for batch, _ in results for t in batch) == list(range(8))
    assert all(made == [t * 10 for t in batch] for batch, made in results)
    assert (len(asked) > len(results)) == (fits < 200), "only what did not fit is done twice"


def test_what_was_learned_holds_for_the_next_texts():
    budget = TokenBudget(200, CPU)
    list(budget.run(small(80)[0], LENGTHS))
    work, asked = small(80)
    assert len(list(budget.run(work, LENGTHS))) == len(asked)


def test_what_is_done_is_not_lost_when_memory_runs_out_late():
    work, asked = small(45)
    batches = [batch for batch, _ in TokenBudget(80, CPU).run(work, [40, 40, 12, 12, 12])]
    assert asked[0] == [0, 1] and batches[:2] == [[0], [1]]


def test_a_text_that_does_not_fit_alone_is_one_sentence():
    with pytest.raises(
        DoesNotFit, match="a text of 40 tokens does not fit into the free memory of cpu: set precision: 4bit"
    ):
        list(TokenBudget(200, CPU).run(small(39)[0], LENGTHS))


def test_too_few_tokens_are_an_error_of_their_own():
    with pytest.raises(DoesNotFit):
        list(TokenBudget(200, CPU, least=60).run(small(45)[0], LENGTHS))


def test_a_cpu_gets_a_number_of_its_own():
    assert TokenBudget(None, CPU).tokens == FEW and not TokenBudget(None, CPU).learns


def test_a_gpu_takes_what_the_first_pass_shows(monkeypatch):
    """A pretended GPU on which a pass takes 1,000 bytes a token."""
    taken = {"now": 10_000, "peak": 0}
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda on: taken["now"])
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda on: taken["now"] + 500_000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda on: (9_500_000, 0))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda on: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda on: taken["peak"])
    lengths, sizes = [100] * 400, []

    def work(batch):
        sizes.append(len(batch) * 100)
        taken["peak"] = taken["now"] + 1000 * sizes[-1]
        return batch

    budget = TokenBudget(None, torch.device("cuda"))
    assert sorted(t for batch, _ in budget.run(work, lengths) for t in batch) == list(range(400))
    assert sizes == [2000, 8000, 8000, 8000, 8000, 6000], "eight tenths of the ten million free bytes"
    each = iter([1000] * 4 + [4000] + [1000] * 99)
    late, sizes[:] = TokenBudget(None, torch.device("cuda")), []

    def dearer(batch):
        sizes.append(len(batch) * 100)
        taken["peak"] = taken["now"] + next(each) * sizes[-1]
        return batch

    list(late.run(dearer, lengths))
    assert sizes[:5] == [2000, 8000, 8000, 8000, 8000] and max(sizes[5:]) == 2000, (
        "a costlier pass makes the later ones smaller"
    )
    few, sizes[:] = TokenBudget(None, torch.device("cuda"), most=3000), []
    list(few.run(work, lengths[:100]))
    assert max(sizes) <= 3000
