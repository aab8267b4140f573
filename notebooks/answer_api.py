# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Answers from an endpoint
#
# What the model behind an endpoint answers, at temperature zero, after a few examples, and whether it is right. The
# endpoint speaks OpenAI's chat API. A question that the endpoint refuses, or fails to answer again and again, is
# missing from all results of the model. So is one whose reply was cut before its answer began. Needs
# `questions.parquet`, and the environment variable `WHOKNOWS_API_KEY` if the endpoint wants a key.

# %% tags=["parameters"]
model = "hosted"
api = {"url": "http://localhost:8000/v1", "model": "hosted"}
questions = "results/embedded/questions.parquet"
max_new_tokens = 30
out = "results/by-hand/answers/hosted.parquet"
rows_out = "results/by-hand/rows/likelihood/hosted.parquet"

# %%
from IPython.display import HTML

from whoknows.data import files
from whoknows.stages.answer_api import counts, missed_html, run
from whoknows.stages.answered import examples, likelihood_rows

asked = files.read_parquet(questions)
answers, missed = run(api, asked, max_new_tokens, out)
files.write_parquet(rows_out, likelihood_rows(model, answers))
HTML(missed_html(missed))

# %% [markdown]
# How often the model is right. For the test split, also how well the answer likelihood, without any training, separates
# right from wrong answers (AUROC; 0.5 is chance). This needs an endpoint that returns the likelihood. Empty answers are
# wrong; cut ones had no line end within `max_new_tokens`.

# %%
counts(answers, missed, asked).round(3)

# %% [markdown]
# Some answers from the test split. An answer is right if, after normalisation, it is an accepted answer or contains
# one. What the question itself contains is no proof. A task of yours may have another grading, such as a judge.

# %%
HTML(examples(answers))
