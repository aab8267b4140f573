# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Answers
#
# What a model answers, greedily, after a few examples, and whether it is right. Needs `questions.parquet`.

# %% tags=["parameters"]
model = "SmolLM2-135M"
source = "smollm2-135m-instruct"
questions = "results/embedded/questions.parquet"
max_new_tokens = 30
samples = 0
precision = "auto"
template = None
digest = None
batch_tokens = 2048
out = "results/by-hand/answers/SmolLM2-135M.parquet"
rows_out = "results/by-hand/rows/likelihood/SmolLM2-135M.parquet"

# %%
from IPython.display import HTML

from whoknows.data import files
from whoknows.models import loading
from whoknows.stages.answer import run
from whoknows.stages.answered import examples, likelihood_rows, summary

asked = files.read_parquet(questions)
answers = run(loading.load(source, precision, template, digest), asked, max_new_tokens, batch_tokens, out, samples)
files.write_parquet(rows_out, likelihood_rows(model, answers))

# %% [markdown]
# How often the model is right. For the test split, also how well the answer likelihood, without any training, separates
# right from wrong answers (AUROC; 0.5 is chance).

# %%
summary(answers, asked).round(3)

# %% [markdown]
# Some answers from the test split. An answer is right if, after normalisation, it is an accepted answer or contains
# one. What the question itself contains is no proof. A task of yours may have another grading, such as a judge.

# %%
HTML(examples(answers))
