# One grid's graph of stages. Each rule runs a notebook, and depends on it and on the library modules that it imports.
# Its params are all that the grid says to the notebook, so a changed key re-runs what it concerns and nothing else.
from pathlib import Path
from shutil import which

from whoknows import grid, parameters
from whoknows.chapters import STAGES
from whoknows.hidden import BEFORE
from whoknows.sources import closure

GRID = grid.load(config.get("grid", "grids/embedded.yml"))
OUT = parameters.out(GRID)
ANSWERS = parameters.answers(GRID)
MODELS = list(ANSWERS)
CELL = "{reader}/{trained_on}/seed{seed}"
PAGE = "{reader}_{trained_on}_seed{seed}"  # no model's name has an underscore
CELLS = dict(method=GRID.methods, reader=MODELS, trained_on=MODELS, seed=GRID.seeds)
HIDDEN = [f"{OUT}/features/{{reader}}/{name}.safetensors" for name in [*MODELS, BEFORE]]
TRUNK = [f"{OUT}/features/{{reader}}/trunk.safetensors"] if parameters.first_layer(GRID) else []
ROWS = expand(f"{OUT}/rows/{{method}}/{{model}}.parquet", method=["likelihood", "zero_shot"], model=MODELS)
ROWS += expand(f"{OUT}/rows/{{method}}/{CELL}.parquet", **CELLS)
CONTROLS = [f"{OUT}/controls/surface.parquet", *(f"{OUT}/controls/readers/{model}.parquet" for model in MODELS)]
VARIANTS = list(parameters.lora_variants(GRID))
CONTROLS += expand(f"{OUT}/controls/lora/{{variant}}/{{model}}.parquet", variant=VARIANTS, model=MODELS)
PAGES = expand(f"{OUT}/notebooks/{{stage}}-{{model}}.ipynb", stage=["answer", "extract", "ablate", "sweep"], model=MODELS)
PAGES += expand(f"{OUT}/notebooks/ablate_lora-{{model}}_{{variant}}.ipynb", variant=VARIANTS, model=MODELS)
PAGES += expand(f"{OUT}/notebooks/{{method}}-{PAGE}.ipynb", **CELLS)
JUDGED = [f"{OUT}/judged/{model}.parquet" for model in MODELS] if GRID.judge else []
PACKED = sorted(str(path) for path in Path(GRID.beside).rglob("*.*")) if GRID.beside else []
PAGES += expand(f"{OUT}/notebooks/beside-{{page}}.ipynb", page=list(parameters.PAGES) if GRID.beside else [])
PAGES += expand(f"{OUT}/notebooks/cell-{{method}}_{{reader}}_{{trained_on}}.ipynb", method=GRID.methods, reader=MODELS, trained_on=MODELS)
PUBLISHED = sorted(Path("book/data").glob("*.csv"))
RUN = "OMP_NUM_THREADS={threads} python -m whoknows.run {input[0]} {output.page} --log {log} --params {params.json:q} --title "
TITLE = "'{wildcards.reader} trained on {wildcards.trained_on}, seed {wildcards.seed}'"

wildcard_constraints:
    model="[^/_]+", reader="[^/_]+", trained_on="[^/_]+", seed="[0-9]+", variant="lora[a-z_]*", page="[a-z]+", method="|".join(GRID.methods)

rule all:
    input: ROWS, PAGES, expand(f"{OUT}/notebooks/{{page}}.ipynb", page=["questions", "heatmaps", "figure", "differences", "claims", "controls", "layers", "shift", "grading"])

rule questions:
    input: closure("notebooks/questions.py")
    output: f"{OUT}/questions.parquet", page=f"{OUT}/notebooks/questions.ipynb"
    log: f"{OUT}/logs/questions.txt"
    params: json=parameters.questions(GRID)
    shell: RUN + "''"

# Stages that load a language model take turns on a GPU. On a CPU two run side by side: two processes of
# half the cores do more than one of all, since what is not a matrix product leaves cores idle.
SHARE = workflow.cores if which("nvidia-smi") else max(1, workflow.cores // 2)

rule answer:
    input: closure("notebooks/answer.py"), f"{OUT}/questions.parquet"
    output: f"{OUT}/answers/{{model}}.parquet", f"{OUT}/rows/likelihood/{{model}}.parquet", page=f"{OUT}/notebooks/answer-{{model}}.ipynb"
    log: f"{OUT}/logs/answer-{{model}}.txt"
    params: json=lambda w: parameters.answer(GRID, **w)
    threads: SHARE
    shell: RUN + "{wildcards.model}"

rule extract:
    input: closure("notebooks/extract.py"), ANSWERS.values()
    output: HIDDEN, TRUNK, f"{OUT}/rows/zero_shot/{{reader}}.parquet", page=f"{OUT}/notebooks/extract-{{reader}}.ipynb"
    log: f"{OUT}/logs/extract-{{reader}}.txt"
    params: json=lambda w: parameters.extract(GRID, **w)
    priority: 1  # all that takes long waits for it
    threads: SHARE
    shell: RUN + "{wildcards.reader}"

rule probe:
    input: closure("notebooks/probe.py"), ANSWERS.values(), HIDDEN
    output: directory(f"{OUT}/estimators/probe/{CELL}"), f"{OUT}/rows/probe/{CELL}.parquet", page=f"{OUT}/notebooks/probe-{PAGE}.ipynb"
    log: f"{OUT}/logs/probe-{PAGE}.txt"
    params: json=lambda w: parameters.probe(GRID, **w)
    shell: RUN + TITLE

rule lora_prompt:
    input: closure("notebooks/lora_prompt.py"), ANSWERS.values(), TRUNK
    output: directory(f"{OUT}/estimators/lora_prompt/{CELL}"), f"{OUT}/rows/lora_prompt/{CELL}.parquet", page=f"{OUT}/notebooks/lora_prompt-{PAGE}.ipynb"
    log: f"{OUT}/logs/lora_prompt-{PAGE}.txt"
    params: json=lambda w: parameters.lora_prompt(GRID, **w)
    priority: 1  # the heatmaps' cells before the controls of the same cost
    threads: SHARE
    shell: RUN + TITLE

rule heatmaps:
    input: closure("notebooks/heatmaps.py"), ROWS, PUBLISHED
    output: f"{OUT}/scores.parquet", page=f"{OUT}/notebooks/heatmaps.ipynb"
    log: f"{OUT}/logs/heatmaps.txt"
    params: json=parameters.heatmaps(GRID)
    shell: RUN + "''"

rule cell:
    input:
        closure("notebooks/cell.py"), ANSWERS.values(),
        lambda w: expand(f"{OUT}/rows/{w.method}/{w.reader}/{w.trained_on}/seed{{seed}}.parquet", seed=GRID.seeds),
        lambda w: f"{OUT}/estimators/{w.method}/{w.reader}/{w.trained_on}/seed{GRID.seeds[0]}",
    output: f"{OUT}/cells/{{method}}_{{reader}}_{{trained_on}}.parquet", page=f"{OUT}/notebooks/cell-{{method}}_{{reader}}_{{trained_on}}.ipynb"
    log: f"{OUT}/logs/cell-{{method}}_{{reader}}_{{trained_on}}.txt"
    params: json=lambda w: parameters.cell(GRID, **w), method=lambda w: STAGES[w.method]
    shell: RUN + "'{params.method}, {wildcards.reader} trained on {wildcards.trained_on}'"

rule figure:
    input: closure("notebooks/figure.py"), PUBLISHED
    output: f"{OUT}/published.parquet", page=f"{OUT}/notebooks/figure.ipynb"
    log: f"{OUT}/logs/figure.txt"
    params: json=parameters.figure(GRID)
    shell: RUN + "''"

rule claims:
    input: closure("notebooks/claims.py"), ROWS, PUBLISHED, "book/claims.yml"
    output: f"{OUT}/contrasts.parquet", page=f"{OUT}/notebooks/claims.ipynb"
    log: f"{OUT}/logs/claims.txt"
    params: json=parameters.claims(GRID)
    shell: RUN + "''"

rule surface:
    input: closure("notebooks/surface.py"), ANSWERS.values()
    output: f"{OUT}/controls/surface.parquet", page=f"{OUT}/notebooks/surface.ipynb"
    log: f"{OUT}/logs/surface.txt"
    params: json=parameters.surface(GRID)
    threads: SHARE
    shell: RUN + "''"

rule ablate:
    input: closure("notebooks/ablate.py"), ANSWERS.values(), HIDDEN
    output: f"{OUT}/controls/readers/{{reader}}.parquet", page=f"{OUT}/notebooks/ablate-{{reader}}.ipynb"
    log: f"{OUT}/logs/ablate-{{reader}}.txt"
    params: json=lambda w: parameters.ablate(GRID, **w)
    threads: SHARE
    shell: RUN + "{wildcards.reader}"

rule sweep:
    input: closure("notebooks/sweep.py"), ANSWERS.values(), HIDDEN
    output: f"{OUT}/sweeps/{{reader}}.parquet", page=f"{OUT}/notebooks/sweep-{{reader}}.ipynb"
    log: f"{OUT}/logs/sweep-{{reader}}.txt"
    params: json=lambda w: parameters.sweep(GRID, **w)
    threads: SHARE
    shell: RUN + "{wildcards.reader}"

rule layers:
    input: closure("notebooks/layers.py"), expand(f"{OUT}/sweeps/{{model}}.parquet", model=MODELS)
    output: f"{OUT}/sweep.parquet", page=f"{OUT}/notebooks/layers.ipynb"
    log: f"{OUT}/logs/layers.txt"
    params: json=parameters.layers(GRID)
    shell: RUN + "''"

rule ablate_lora:
    input: closure("notebooks/lora_prompt.py"), ANSWERS.values(), TRUNK
    output: directory(f"{OUT}/estimators/{{variant}}/{{reader}}"), f"{OUT}/controls/lora/{{variant}}/{{reader}}.parquet", page=f"{OUT}/notebooks/ablate_lora-{{reader}}_{{variant}}.ipynb"
    log: f"{OUT}/logs/ablate_lora-{{reader}}_{{variant}}.txt"
    params: json=lambda w: parameters.lora_variant(GRID, **w)
    threads: SHARE
    shell: RUN + "'{wildcards.reader}, {wildcards.variant}'"

rule judge:
    input: closure("notebooks/judge.py"), f"{OUT}/answers/{{model}}.parquet"
    output: f"{OUT}/judged/{{model}}.parquet", page=f"{OUT}/notebooks/judge-{{model}}.ipynb"
    log: f"{OUT}/logs/judge-{{model}}.txt"
    params: json=lambda w: parameters.judge(GRID, **w)
    shell: RUN + "{wildcards.model}"

rule differences:
    input: closure("notebooks/differences.py"), ROWS
    output: f"{OUT}/differences.parquet", page=f"{OUT}/notebooks/differences.ipynb"
    log: f"{OUT}/logs/differences.txt"
    params: json=parameters.differences(GRID)
    shell: RUN + "''"

rule grading:
    input: closure("notebooks/grading.py"), ROWS, ANSWERS.values(), JUDGED
    output: f"{OUT}/grades.parquet", page=f"{OUT}/notebooks/grading.ipynb"
    log: f"{OUT}/logs/grading.txt"
    params: json=parameters.grading(GRID)
    shell: RUN + "''"

rule beside:
    input: lambda w: closure(f"notebooks/{w.page}.py"), PACKED, PUBLISHED, "book/claims.yml"
    output: f"{OUT}/beside/{{page}}.parquet", page=f"{OUT}/notebooks/beside-{{page}}.ipynb"
    log: f"{OUT}/logs/beside-{{page}}.txt"
    params: json=lambda w: parameters.beside(GRID, w.page)
    shell: RUN + f"'{parameters.packed(GRID).name if GRID.beside else ''}, packed'"

rule controls:
    input: closure("notebooks/controls.py"), ROWS, CONTROLS
    output: f"{OUT}/controls.parquet", page=f"{OUT}/notebooks/controls.ipynb"
    log: f"{OUT}/logs/controls.txt"
    params: json=parameters.controls(GRID)
    shell: RUN + "''"

rule shift:
    input: closure("notebooks/shift.py"), ROWS, CONTROLS
    output: f"{OUT}/shift.parquet", page=f"{OUT}/notebooks/shift.ipynb"
    log: f"{OUT}/logs/shift.txt"
    params: json=parameters.shift(GRID)
    shell: RUN + "''"
