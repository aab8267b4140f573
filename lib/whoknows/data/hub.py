"""The Hugging Face hub: models and data sets by name, asked for before anything is computed."""

import hashlib
import re
from contextlib import contextmanager
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import cache, files

PARQUET = "refs/convert/parquet"  # the branch of a data set with the Parquet files that the hub makes of it
TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}")  # of the hub


def config(source: str, name: str = "config.json") -> Path | None:
    """A model's cached file of that name, in a folder named after its commit; None if it was not fetched."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(source, name)
    except HFValidationError:  # no name on the hub
        return None
    return Path(path) if isinstance(path, str) else None


def commit(source: str, name: str = "config.json") -> str | None:
    """The commit that a model's file of that name was fetched of; None if it was not."""
    path = config(source, name)
    return path.parent.name if path else None


def check(source: str) -> None:
    """Asks the hub for a model that was not fetched before, and fetches its configuration, which pins the commit.

    Raises:
        WhoknowsError: the model is gated, unknown, or the hub cannot be reached; the sentence says what to do.
    """
    from huggingface_hub import HfApi, hf_hub_download

    if commit(source):
        return
    with _sentences("models", source, f"https://huggingface.co/{source}", "a local folder"):
        HfApi().auth_check(source)
        hf_hub_download(source, "config.json")


def fetch_files(name: str, commit: str | None, patterns: list[str]) -> Path:
    """The folder with those files of a repository, at a commit or the newest, that are there; raises as `check`."""
    from huggingface_hub import snapshot_download

    with _sentences("models", name, f"https://huggingface.co/{name}", "a local folder"):
        return Path(snapshot_download(name, revision=commit, allow_patterns=patterns))


def dataset(name: str, config: str | None, split: str, revision: str | None) -> Path:
    """Where the rows of a data set on the hub are kept, as one Parquet file; `fetch_dataset` makes it."""
    key = hashlib.sha256(repr((config, split, revision)).encode()).hexdigest()[:8]
    return cache.root() / "datasets" / f"{name.replace('/', '--')}-{key}.parquet"


def fetch_dataset(key: str, name: str, config: str | None, split: str, revision: str | None) -> None:
    """Fetches a split of a data set on the hub, if it is not here; it stays what it was when it was first fetched.

    Args:
        key: of the grid, which names it.
        config: one of its configurations; None where it has one, or one called default.
        revision: a commit, tag or branch with Parquet, JSON lines, CSV or TSV files; None for the Parquet files that
            the hub makes of every data set.

    Raises:
        WhoknowsError: it is gated, unknown, has no such split or configuration, or the hub cannot be reached.
    """
    import pandas
    from huggingface_hub import HfApi, hf_hub_download

    from whoknows.data import tables

    path = dataset(name, config, split, revision)
    if path.exists():
        return
    version = revision or PARQUET
    with _sentences(key, name, f"https://huggingface.co/datasets/{name}", "a file"):
        listed = HfApi().list_repo_files(name, repo_type="dataset", revision=version)
        paths = _of_split(key, name, listed, config, split)
        parts = [hf_hub_download(name, part, repo_type="dataset", revision=version) for part in paths]
    files.write_parquet(path, pandas.concat(map(tables.read, parts), ignore_index=True))


def _of_split(key: str, name: str, listed: list[str], config: str | None, split: str) -> list[str]:
    """The files of a split, config/split/0000.parquet or data/split-00000.parquet, of one configuration."""
    from whoknows.data.tables import ENDINGS

    by_config: dict[str, dict[str, list[str]]] = {}  # all that there are: splits of two are not to be mixed
    for path in sorted(path for path in listed if path.endswith(ENDINGS)):
        *folders, file = path.split("/")
        is_wanted = split in folders or re.match(rf"{re.escape(split)}[-.]", file)
        named = folders[-1] if folders and file[0].isdecimal() else re.split("[-.]", file)[0]
        theirs = split if is_wanted else named
        its_config = "/".join(folder for folder in folders if folder != theirs)
        by_config.setdefault(its_config, {}).setdefault(theirs, []).append(path)
    only = by_config if len(by_config) == 1 else ()
    wanted = config or next((name for name in ("default", "", *only) if name in by_config), "default")
    if split not in by_config.get(wanted, {}):
        known = ", ".join(f"{name!r} ({', '.join(splits)})" for name, splits in by_config.items()) or "none"
        raise WhoknowsError(
            f"{key}: {name} has no files of the split {split!r} in the configuration {wanted!r}; "
            f"the configurations and their splits are: {known}. Correct config or split."
        )
    return by_config[wanted][split]


@contextmanager
def _sentences(key: str, source: str, address: str, instead: str):
    """Says in one sentence why the hub does not give something."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    account = "a token of that account in the environment variable HF_TOKEN, or with `hf auth login`"
    try:
        yield
    except WhoknowsError:
        raise
    except GatedRepoError:
        raise WhoknowsError(f"{key}: {source} is gated: accept its terms at {address} and give {account}.") from None
    except RepositoryNotFoundError:
        raise WhoknowsError(
            f"{key}: the Hugging Face hub has no {source} for you: mend the name, or, if it is private, give {account}."
        ) from None
    except RevisionNotFoundError:
        raise WhoknowsError(f"{key}: {source} has no such revision on the Hugging Face hub; name another.") from None
    except Exception as error:  # whatever its HTTP client has, which changes from version to version
        raise WhoknowsError(
            f"{key}: the Hugging Face hub could not be asked for {source} ({type(error).__name__}): "
            f"try again, or name {instead}."
        ) from None


def hide(text: str) -> str:
    """Text without the hub's tokens, whosever they are: logs, notebooks and pages are kept and passed on."""
    return TOKEN.sub("***", text)
