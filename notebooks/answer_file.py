# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Answers from a file
#
# A model's answers from a file or a data set, matched to the questions by their words or their `question_id`. An answer
# is graded unless the file has a grade for it. Needs the file and `questions.parquet`.

# %% tags=["parameters"]
model = "SmolLM2-135M"
answers = "results/embedded/answers/SmolLM2-135M.parquet"
columns = {"logprob": "sum_logprob"}
digest = None
questions = "results/embedded/questions.parquet"
out = "results/by-hand/answers/SmolLM2-135M.parquet"
rows_out = "results/by-hand/rows/likelihood/SmolLM2-135M.parquet"

# %%
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.stages import answer_file
from whoknows.stages.answered import examples, likelihood_rows, summary

graded, counted = answer_file.run(files.read_parquet(questions), answers, columns, digest, out)
files.write_parquet(rows_out, likelihood_rows(model, graded))
Markdown(counted)

# %% [markdown]
# How often the model is right. For the test split, also how well the answer likelihood, if the file has it, separates
# right from wrong answers (AUROC; 0.5 is chance). No training is needed for this.

# %%
summary(graded).round(3)

# %% [markdown]
# Some answers from the test split.

# %%
HTML(examples(graded))
