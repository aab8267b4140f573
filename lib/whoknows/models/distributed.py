"""Processes: one training in several processes, each of which has one GPU and a share of every step's answers.

All start from the same weights and see the same order of steps; gradients are summed over them, so what is learned is
what one process would learn: data parallelism, as torch's DistributedDataParallel, without its buckets and overlap,
which the few megabytes of adapters do not need.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import reduce

from whoknows import WhoknowsError
from whoknows.data import processes
from whoknows.data.files import ROOT


def join(work: Callable[..., None]) -> None:
    """Does a module's work in one of the processes that `launch` started, which has its GPU and knows the others."""
    processes.end_with_parent()  # torch's launcher ends it, unless it is killed itself
    state = PartialState(cpu=not torch.cuda.is_available())
    work(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    state.destroy_process_group()  # ends its threads: at the interpreter's end a running one aborts the process


def share(items: list) -> list:
    """Every n-th of some items, which are sorted by length, so that all processes get equally long ones."""
    state = PartialState()
    return items[state.process_index :: state.num_processes]


def add_up(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The sum of each tensor over all processes."""
    return reduce(tensors, "sum") if PartialState().num_processes > 1 else tensors


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return PartialState().is_main_process


def quiet() -> dict:
    """Arguments of a progress bar: only the first process shows one."""
    return {} if is_first() else {"disable": True}


def run(module: str, work: Callable[..., None], parameters: dict) -> None:
    """Does a module's work with these parameters; if there are several GPUs, in as many processes, see `launch`."""
    if (count := torch.cuda.device_count()) > 1:
        launch(module, parameters, count)
    else:
        work(**parameters)


def launch(module: str, parameters: dict, count: int) -> None:
    """Runs a module, with the path of a JSON file of its parameters, in so many processes and waits for them.

    Raises:
        WhoknowsError: one of them failed; its error is on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "parameters.json"
        file.write_text(json.dumps(parameters), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        command += ["--module", module, str(file)]
        path = os.pathsep.join(filter(None, [str(ROOT / "lib"), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": path}
        # Whoever repeats a stage that was killed would else share the GPUs and the files with what is left of it.
        done = subprocess.run(command, env=environment, preexec_fn=processes.end_with_parent)
        if done.returncode:
            raise WhoknowsError(f"{module}: one of {count} processes failed; its last lines say why.")
