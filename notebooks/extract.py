# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Hidden states
#
# A frozen reader reads every model's answers once. This stage keeps its hidden states of all layers at some token
# positions, its zero-shot confidence, and the activations that LoRA + Prompt goes on from. Needs all models' answers.

# %% tags=["parameters"]
reader = "SmolLM2-135M"
source = "smollm2-135m-instruct"
answers = {
    "SmolLM2-135M": "results/embedded/answers/SmolLM2-135M.parquet",
    "Gemma3-270M": "results/embedded/answers/Gemma3-270M.parquet",
}
first_layer = 0
precision = "auto"
template = None
digest = None
batch_tokens = 2048
out = "results/by-hand/features/SmolLM2-135M"
rows_out = "results/by-hand/rows/zero_shot/SmolLM2-135M.parquet"

# %%
from IPython.display import HTML

from whoknows.data import files
from whoknows.evaluation import auroc
from whoknows.models import loading
from whoknows.stages import extract

frames = {scored: files.read_parquet(path) for scored, path in answers.items()}
model = loading.load(source, precision, template, digest)
rows, sizes = extract.run(reader, model, frames, first_layer, batch_tokens, out)
files.write_parquet(rows_out, rows)

# %% [markdown]
# The hidden states that were kept, [answers, layers + 1, width]. Before any answer, they are those at the question's
# last token. For each scored model, they are those at the first and the last token of its answers, and the means over
# their tokens. If the blocks below the adapters are cached, those at the last token of the query are kept, too. Layer 0
# is the embeddings.

# %%
sizes

# %% [markdown]
# How well the reader separates right from wrong answers when it is asked, without any training (zero-shot P(True)).

# %%
HTML(auroc.html(rows))
