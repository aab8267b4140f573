# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Judge
#
# Another model's verdict on one model's test answers to open questions, from an endpoint that speaks OpenAI's chat API.
# Other questions, such as those that the judge grades anyway, have one way to be graded. Needs the answers, and the
# environment variable `WHOKNOWS_JUDGE_KEY` if the endpoint wants a key.

# %% tags=["parameters"]
answers = "results/embedded/answers/SmolLM2-135M.parquet"
model = "SmolLM2-135M"
url = "http://localhost:8000/v1"
judge_model = "judge"
log = "results/by-hand/judged/SmolLM2-135M.jsonl"
out = "results/by-hand/judged/SmolLM2-135M.parquet"

# %%
from pathlib import Path

from whoknows.data import files
from whoknows.stages import judge

graded = files.read_parquet(answers)
verdicts = judge.grade(graded, url, judge_model, Path(log))
files.write_parquet(out, verdicts)

# %% [markdown]
# The number of answers that the judge was asked about, of right ones, and of those without a verdict. There is no
# verdict if the judge's reply was neither yes nor no, or if the request kept failing. Answers without a verdict are
# missing wherever the judge grades.

# %%
judge.verdict_counts(graded, verdicts)
