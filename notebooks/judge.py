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
# Another model's verdict on one model's test answers, from an endpoint that speaks OpenAI's chat API; those to tasks
# that it grades anyway are left out. Needs the answers, and the environment variable `WHOKNOWS_JUDGE_KEY` if the
# endpoint wants a key.

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

verdicts = judge.grade(files.read_parquet(answers), url, judge_model, Path(log))
files.write_parquet(out, verdicts)

# %% [markdown]
# The share of test answers that the judge calls right:

# %%
round(verdicts["right"].mean(), 3)
