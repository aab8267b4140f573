# One grid's graph of stages. Each rule runs a notebook. Its params are all that the grid says to the notebook, so a changed key
# re-runs what it concerns and nothing else, and a digest of the notebook, the library modules that it imports and other
# files of this repository that it reads. As inputs, those would have to lie where results do, which may be a store in a cloud.
from functools import partial
from pathlib import Path
from typing import NamedTuple
from whoknows.run import gpus, grid, parameters, stages
from whoknows.estimators.hidden import BEFORE, mean_of
from whoknows.data.sources import digest

GRID = grid.load(config.get("grid", "grids/embedded.yml"))
OUT = parameters.out(GRID)
ANSWERS = parameters.answers(GRID)
MODELS = list(ANSWERS)
VARIANTS = list(parameters.lora_variants(GRID))
NAMES = dict(method=GRID.methods, model=MODELS, reader=MODELS, trained_on=MODELS, seed=GRID.seeds, variant=VARIANTS)
CELL = "{reader}/{trained_on}/seed{seed}"
PAGE = "{reader}_{trained_on}_seed{seed}"  # no model's name has an underscore
HIDDEN = [f"{OUT}/features/{{reader}}/{name}.safetensors" for name in [*MODELS, BEFORE]]
MEANS = [f"{OUT}/features/{{reader}}/{mean_of(name)}.safetensors" for name in MODELS]
TRUNK = [f"{OUT}/features/{{reader}}/trunk.safetensors"] if parameters.first_layer(GRID) else []
ROWS = expand([f"{OUT}/rows/{path}.parquet" for path in ("likelihood/{model}", "zero_shot/{model}", f"{{method}}/{CELL}")], **NAMES)
MEASURED = ROWS + expand(f"{OUT}/estimators/{{method}}/{CELL}", **NAMES)
CONTROLS = [f"{OUT}/controls/surface.parquet", *expand(f"{OUT}/controls/readers/{{model}}.parquet", **NAMES)]
CONTROLS += expand([f"{OUT}/controls/lora/{{variant}}/{{model}}.parquet", f"{OUT}/estimators/{{variant}}/{{model}}"], **NAMES)
PACKED = sorted(str(path) for path in Path(GRID.beside).rglob("*") if path.is_file()) if GRID.beside else []
PUBLISHED, CLAIMS = sorted(map(str, Path("book/data").glob("*.csv"))), "book/claims.yml"

# Here stages that load a language model take turns on the GPUs. On a CPU two run side by side: two processes of half
# the cores do more than one of all, since what is not a matrix product leaves cores idle. On a cluster the grid and the
# profile say what a job gets.
CARDS = len(gpus.shared())
SHARE = 1 if config.get("cluster") else max(1, workflow.cores // (CARDS or 2))
cores, needs = partial(stages.cores, GRID, share=SHARE), partial(stages.needs, GRID, cards=CARDS)

# A stage that is too long for one job: others do its questions first, and it finds what they have found.
def shards(stage, model):
    count = stages.asked(GRID, stage).shards or 0
    return [f"{OUT}/shards/{stage}-{{{model}}}/{which}-of-{count}.txt" for which in range(count)]
def all_seeds(path):
    return lambda wildcards: expand(f"{OUT}/{path}", seed=GRID.seeds, **wildcards)

class Step(NamedTuple):
    reads: list
    writes: list  # beside its page
    page: str  # whose wildcards are those that `parameters.<stage>` takes
    title: str = ""  # of the page, after the notebook's own
    also: list = []  # files of this repository that the notebook reads
    notebook: str = ""  # if it is not called as the stage
    priority: int = 0

STEPS = {
    "questions": Step([], [f"{OUT}/questions.parquet"], "questions"),
    "answer": Step(
        [f"{OUT}/questions.parquet", *shards("answer", "model")], [f"{OUT}/answers/{{model}}.parquet", f"{OUT}/rows/likelihood/{{model}}.parquet"],
        "answer-{model}", "{model}"),
    "extract": Step(
        [*ANSWERS.values(), *shards("extract", "reader")], [*HIDDEN, *MEANS, *TRUNK, f"{OUT}/rows/zero_shot/{{reader}}.parquet"],
        "extract-{reader}", "{reader}", priority=3),  # the probe, its controls and the search wait for it
    "probe": Step(
        [*ANSWERS.values(), *HIDDEN], [directory(f"{OUT}/estimators/probe/{CELL}"), f"{OUT}/rows/probe/{CELL}.parquet"],
        f"probe-{PAGE}", "{reader} trained on {trained_on}, seed {seed}"),
    "lora_prompt": Step(
        [*ANSWERS.values(), *TRUNK], [directory(f"{OUT}/estimators/lora_prompt/{CELL}"), f"{OUT}/rows/lora_prompt/{CELL}.parquet"],
        f"lora_prompt-{PAGE}", "{reader} trained on {trained_on}, seed {seed}", priority=1),  # the heatmaps' cells before the controls of the same cost
    "search": Step(
        [*ANSWERS.values(), *HIDDEN, *TRUNK], [f"{OUT}/search/{{reader}}.parquet"],
        "search-{reader}", "{reader}", priority=2),  # who sees it prefer another rate can change the grid before the cells are trained
    "surface": Step([*ANSWERS.values()], [f"{OUT}/controls/surface.parquet"], "surface"),
    "ablate": Step([*ANSWERS.values(), *HIDDEN, *MEANS], [f"{OUT}/controls/readers/{{reader}}.parquet"], "ablate-{reader}", "{reader}"),
    "ablate_lora": Step(
        [*ANSWERS.values(), *TRUNK], [directory(f"{OUT}/estimators/{{variant}}/{{reader}}"), f"{OUT}/controls/lora/{{variant}}/{{reader}}.parquet"],
        "ablate_lora-{reader}_{variant}", "{reader}, {variant}", notebook="lora_prompt"),
    "sweep": Step([*ANSWERS.values(), *HIDDEN], [f"{OUT}/sweeps/{{reader}}.parquet"], "sweep-{reader}", "{reader}"),
    "judge": Step([f"{OUT}/answers/{{model}}.parquet"], [f"{OUT}/judged/{{model}}.parquet"], "judge-{model}", "{model}"),
    "cell": Step(
        [*ANSWERS.values(), all_seeds(f"rows/{{method}}/{CELL}.parquet"), all_seeds(f"estimators/{{method}}/{CELL}")],
        [f"{OUT}/cells/{{method}}_{{reader}}_{{trained_on}}.parquet"],
        "cell-{method}_{reader}_{trained_on}", "{method}, {reader} trained on {trained_on}"),
    "figure": Step([], [f"{OUT}/published.parquet"], "figure", also=PUBLISHED),
    "heatmaps": Step(MEASURED, [f"{OUT}/scores.parquet"], "heatmaps", also=[*PUBLISHED, CLAIMS]),
    "claims": Step(MEASURED, [f"{OUT}/contrasts.parquet"], "claims", also=[*PUBLISHED, CLAIMS]),
    "differences": Step(MEASURED, [f"{OUT}/differences.parquet"], "differences", also=[*PUBLISHED, CLAIMS]),
    "controls": Step([*MEASURED, *CONTROLS], [f"{OUT}/controls.parquet"], "controls", also=[*PUBLISHED, CLAIMS]),
    "shift": Step([*MEASURED, *CONTROLS], [f"{OUT}/shift.parquet"], "shift"),
    "grading": Step([*MEASURED, *ANSWERS.values(), *(expand(f"{OUT}/judged/{{model}}.parquet", **NAMES) if GRID.judge else [])], [f"{OUT}/grades.parquet"], "grading"),
    "layers": Step(expand(f"{OUT}/sweeps/{{model}}.parquet", **NAMES), [f"{OUT}/sweep.parquet"], "layers"),
    "settings": Step(expand(f"{OUT}/search/{{model}}.parquet", **NAMES), [f"{OUT}/settings.parquet"], "settings"),
}
ASKED = {method: method in GRID.methods for method in STEPS if "{seed}" in STEPS[method].page}
ASKED |= {"judge": GRID.judge, "search": parameters.searched(GRID), "settings": parameters.searched(GRID)}
PAGES = expand([f"{OUT}/notebooks/{step.page}.ipynb" for stage, step in STEPS.items() if ASKED.get(stage, True)], **NAMES)
RUN = "OMP_NUM_THREADS={threads} python -m whoknows run {params.notebook} {output.page} --log {log} --gpus {resources.gpu} --params {params.json:q} --title '{params.title}'"
SHARD = "OMP_NUM_THREADS={threads} python -m whoknows shard {params.stage} {params.json:q} {wildcards.which} {wildcards.jobs} {output} --gpus {resources.gpu} 2> {log}"

def told(stage, wildcards):
    names = {name: value for name, value in wildcards.items() if name not in ("which", "jobs")}
    return getattr(parameters, stage)(GRID, **names)
def title(text, wildcards):
    return text.format(**{**wildcards, "method": stages.STAGES.get(wildcards.get("method"))})

wildcard_constraints:
    model="[^/_]+", reader="[^/_]+", trained_on="[^/_]+", seed="[0-9]+", which="[0-9]+", jobs="[0-9]+", variant="lora[a-z_]*", page="[a-z]+", method="|".join(GRID.methods)

rule all:
    input: ROWS, PAGES, expand(f"{OUT}/notebooks/beside-{{page}}.ipynb", page=parameters.beside_pages(GRID))

for stage, step in STEPS.items():
    notebook = f"notebooks/{step.notebook or stage}.py"
    rule:
        name: stage
        input: *step.reads
        output: *step.writes, page=f"{OUT}/notebooks/{step.page}.ipynb"
        log: f"{OUT}/logs/{step.page}.txt"
        params: notebook=notebook, code=digest(notebook, *step.also), json=partial(told, stage), title=partial(title, step.title)
        priority: step.priority
        threads: cores(stage)
        resources: **needs(stage)
        shell: RUN

for stage, model in {"answer": "model", "extract": "reader"}.items():
    rule:
        name: f"{stage}_shard"
        input: *[path for path in STEPS[stage].reads if "/shards/" not in path]
        output: f"{OUT}/shards/{stage}-{{{model}}}/{{which}}-of-{{jobs}}.txt"
        log: f"{OUT}/logs/{stage}-{{{model}}}-{{which}}-of-{{jobs}}.txt"
        params: stage=stage, code=digest(f"notebooks/{stage}.py"), json=partial(told, stage)
        priority: 1
        threads: cores(stage)
        resources: **needs(stage)
        shell: SHARD

rule beside:
    output: f"{OUT}/beside/{{page}}.parquet", page=f"{OUT}/notebooks/beside-{{page}}.ipynb"
    log: f"{OUT}/logs/beside-{{page}}.txt"
    params: notebook="notebooks/{page}.py", code=lambda w: digest(f"notebooks/{w.page}.py", *PACKED, *PUBLISHED, CLAIMS),
        json=lambda w: parameters.beside(GRID, **w), title=f"{parameters.packed(GRID).name}, packed" if GRID.beside else ""
    threads: cores("beside")
    resources: **needs("beside")
    shell: RUN
