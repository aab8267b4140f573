# One grid's graph of stages. Each rule runs a notebook. Its params are all that the grid says to the notebook, so a
# changed key re-runs what it concerns and nothing else, and a digest of the notebook, the modules that it imports and
# other files of this repository that it reads: as inputs, they would have to lie in the store of the results.
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple
from whoknows.run import gpus, grid, parameters, stages
from whoknows.data.positions import LAST, QUESTION, kept, stems
from whoknows.data.sources import digest

GRID = grid.load(config.get("grid", "grids/embedded.yml"))
OUT = parameters.out(GRID)
MODELS, READ = map(list, zip(*parameters.answers(GRID).items()))  # and the files of all models' answers
READERS, VARIANTS = GRID.readers, list(parameters.lora_variants(GRID))
NAMES = dict(method=GRID.methods, model=MODELS, reader=READERS, trained_on=MODELS, seed=GRID.seeds, variant=VARIANTS)
CELL, PAGE = "{reader}/{trained_on}/seed{seed}", "{reader}_{trained_on}_seed{seed}"  # no model's name has an underscore
TITLE = "{reader} trained on {trained_on}, seed {seed}"
def at(*paths): return [f"{OUT}/{path}" for path in paths]
def every(*paths): return expand(at(*paths), **NAMES)
def all_seeds(path): return lambda wildcards: expand(at(path), seed=GRID.seeds, **wildcards)
def trained(method): return [directory(*at(f"estimators/{method}/{CELL}")), *at(f"rows/{method}/{CELL}.parquet")]
def states(positions): return at(*(f"features/{{reader}}/{name}.safetensors" for name in stems(MODELS, positions)))
HIDDEN, STATES = states([LAST, QUESTION]), states(kept(parameters.first_layer(GRID)))  # what probes read, and all
TRUNK = at("features/{reader}/trunk.safetensors") if parameters.first_layer(GRID) else []
ROWS = every("rows/likelihood/{model}.parquet", "rows/zero_shot/{reader}.parquet", f"rows/{{method}}/{CELL}.parquet")
MEASURED = ROWS + every(f"estimators/{{method}}/{CELL}")
CONTROLS = every("controls/surface.parquet", "controls/readers/{reader}.parquet")
SURFACE, *CONTROLS = CONTROLS + every("controls/lora/{variant}/{reader}.parquet", "estimators/{variant}/{reader}")
JUDGED = every("judged/{model}.parquet") if parameters.compared(GRID) else []
PACKED = sorted(str(path) for path in Path(GRID.beside).rglob("*") if path.is_file()) if GRID.beside else []
PUBLISHED = [*sorted(map(str, Path("book/data").glob("*.csv"))), "book/claims.yml"]
# Here stages that load a language model take turns on the GPUs. On a CPU two run side by side, each on half the cores,
# since what is not a matrix product leaves cores idle. On a cluster the grid and the profile say what a job gets.
CARDS = len(gpus.shared())
SHARE = 1 if config.get("cluster") else max(1, workflow.cores // (CARDS or 2))
cores, needs = partial(GRID.cores, share=SHARE), partial(GRID.needs, cards=CARDS)
# A stage that is too long for one job: others do its questions first, and it finds what they have found.
def shards(stage, model):
    count = GRID.job(stage).shards or 0
    return [f"{OUT}/shards/{stage}-{{{model}}}/{which}-of-{count}.txt" for which in range(count)]
class Step(NamedTuple):
    reads: list
    writes: list  # beside its page
    page: str  # whose wildcards are those that `parameters.<stage>` takes
    title: str = ""  # of the page, after the notebook's own
    also: list = []  # files of this repository that the notebook reads
    notebook: str = ""  # if it is not called as the stage
    priority: int = 0  # first what most stages wait for, then what may change the grid, then the heatmaps' cells
    models: list = MODELS  # those that `{model}` may be; a stage of none is left out
def answered(stage, *reads):
    names = [model.name for model in GRID.models if model.answered_by == stage]
    writes = at("answers/{model}.parquet", "rows/likelihood/{model}.parquet")
    return Step([*at("questions.parquet"), *reads], writes, f"{stage}-{{model}}", "{model}", models=names)

STEPS = {
    "questions": Step([], at("questions.parquet"), "questions"),
    "answer": answered("answer", *shards("answer", "model")),
    "answer_file": answered("answer_file"), "answer_api": answered("answer_api"),
    "extract": Step([*READ, *shards("extract", "reader")],
        [*STATES, *TRUNK, *at("rows/zero_shot/{reader}.parquet")], "extract-{reader}", "{reader}", priority=3),
    **{stage: Step([*READ, *HIDDEN], trained(stage), f"{stage}-{PAGE}", TITLE) for stage in stages.TRAINED.values()},
    "lora_prompt": Step([*READ, *TRUNK], trained("lora_prompt"), f"lora_prompt-{PAGE}", TITLE, priority=1),
    "search": Step([*READ, *HIDDEN, *TRUNK], at("search/{reader}.parquet"), "search-{reader}", "{reader}", priority=2),
    "surface": Step(READ, at("controls/surface.parquet"), "surface"),
    "ablate": Step([*READ, *STATES], at("controls/readers/{reader}.parquet"), "ablate-{reader}", "{reader}"),
    "ablate_lora": Step([*READ, *TRUNK],
        [directory(*at("estimators/{variant}/{reader}")), *at("controls/lora/{variant}/{reader}.parquet")],
        "ablate_lora-{reader}_{variant}", "{reader}, {variant}", notebook="lora_prompt"),
    "sweep": Step([*READ, *STATES], at("sweeps/{reader}.parquet"), "sweep-{reader}", "{reader}"),
    "judge": Step(at("answers/{model}.parquet"), at("judged/{model}.parquet"), "judge-{model}", "{model}"),
    "cell": Step([*READ, all_seeds(f"rows/{{method}}/{CELL}.parquet"), all_seeds(f"estimators/{{method}}/{CELL}")],
        at("cells/{method}_{reader}_{trained_on}.parquet"),
        "cell-{method}_{reader}_{trained_on}", "{method}, {reader} trained on {trained_on}"),
    "heatmaps": Step([*MEASURED, *READ, SURFACE], at("scores.parquet"), "heatmaps", also=PUBLISHED),
    "claims": Step(MEASURED, at("contrasts.parquet"), "claims", also=PUBLISHED),
    "differences": Step(MEASURED, at("differences.parquet"), "differences", also=PUBLISHED),
    "worth": Step(MEASURED, at("worth.parquet"), "worth"),
    "controls": Step([*MEASURED, SURFACE, *CONTROLS, *READ, *every("sweeps/{reader}.parquet")], at("controls.parquet"),
        "controls", also=PUBLISHED),
    "shift": Step([*MEASURED, SURFACE, *CONTROLS, *READ], at("shift.parquet"), "shift"),
    "grading": Step([*MEASURED, *READ, *JUDGED], at("grades.parquet"), "grading"),
    "recompute": Step([*MEASURED, *READ], at("recompute.parquet"), "recompute"),
    "settings": Step(every("search/{reader}.parquet"), at("settings.parquet"), "settings"),
}
STEPS = {stage: step for stage, step in STEPS.items() if step.models}
ASKED = {method: method in GRID.methods for method in STEPS if "{seed}" in STEPS[method].page}
ASKED |= dict.fromkeys(("search", "settings"), parameters.searched(GRID)) | {"judge": parameters.compared(GRID)}
PAGES = [path for stage, step in STEPS.items() if ASKED.get(stage, True)
    for path in expand(at(f"notebooks/{step.page}.ipynb"), **NAMES | {"model": step.models})]
RUN = ("OMP_NUM_THREADS={threads} python -m whoknows run {params.notebook} {output.page} --log {log} "
       "--gpus {resources.gpu} --params {params.json:q} --title '{params.title}'")
SHARD = ("OMP_NUM_THREADS={threads} python -m whoknows shard {params.stage} {params.json:q} "
         "{wildcards.which} {wildcards.jobs} {output} --gpus {resources.gpu} 2> {log}")
def as_json(stage, wildcards):
    return parameters.of(stage)(GRID, **{name: value for name, value in wildcards.items() if name in NAMES})
def title(text, wildcards): return text.format(**{**wildcards, "method": stages.STAGES.get(wildcards.get("method"))})
wildcard_constraints:
    model="[^/_]+", reader="[^/_]+", trained_on="[^/_]+", seed="[0-9]+", method="|".join(GRID.methods),
    which="[0-9]+", jobs="[0-9]+", variant="|".join(map(re.escape, VARIANTS)) or "(?!)", page="[a-z]+"

rule all:
    input: ROWS, PAGES, expand(f"{OUT}/notebooks/beside-{{page}}.ipynb", page=parameters.beside_pages(GRID))

for stage, step in STEPS.items():
    notebook = f"notebooks/{step.notebook or stage}.py"
    rule:
        name: stage
        input: *step.reads
        output: *step.writes, page=f"{OUT}/notebooks/{step.page}.ipynb"
        wildcard_constraints: model="|".join(map(re.escape, step.models))
        log: f"{OUT}/logs/{step.page}.txt"
        params: notebook=notebook, code=digest(notebook, *step.also),
            json=partial(as_json, stage), title=partial(title, step.title)
        priority: step.priority
        threads: cores(stage)
        resources: **needs(stage)
        shell: RUN

for stage, model in [(stage, name) for stage, name in (("answer", "model"), ("extract", "reader")) if stage in STEPS]:
    rule:
        name: f"{stage}_shard"
        input: *[path for path in STEPS[stage].reads if "/shards/" not in path]
        output: f"{OUT}/shards/{stage}-{{{model}}}/{{which}}-of-{{jobs}}.txt"
        log: f"{OUT}/logs/{stage}-{{{model}}}-{{which}}-of-{{jobs}}.txt"
        params: stage=stage, code=digest(f"notebooks/{stage}.py"), json=partial(as_json, stage)
        priority: 1
        threads: cores(stage)
        resources: **needs(stage)
        shell: SHARD

rule beside:
    output: f"{OUT}/beside/{{page}}.parquet", page=f"{OUT}/notebooks/beside-{{page}}.ipynb"
    log: f"{OUT}/logs/beside-{{page}}.txt"
    params: notebook="notebooks/{page}.py", json=lambda w: parameters.beside(GRID, **w),
        code=lambda w: digest(f"notebooks/{w.page}.py", *PACKED, *PUBLISHED),
        title=f"run {parameters.packed(GRID).name}" if GRID.beside else ""
    threads: cores("beside")
    resources: **needs("beside")
    shell: RUN
