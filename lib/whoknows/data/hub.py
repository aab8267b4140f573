"""The Hugging Face hub: models and data sets by name, asked for before anything is computed."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import cache, files

PARQUET = "refs/convert/parquet"  # the branch of a data set with the Parquet files that the hub makes of it
TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}")  # of the hub


def config(source: str, name: str = "config.json") -> Path | None:
    """The cached config.json of a model, in a folder named after its commit; None if it was not fetched.

    Args:
        name: of another file, in place of config.json.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(source, name)
    except HFValidationError:  # no name on the hub
        return None
    return Path(path) if isinstance(path, str) else None


def commit(source: str, name: str = "config.json") -> str | None:
    """The commit of what was fetched of a model; None if nothing was. Arguments are those of `config`."""
    path = config(source, name)
    return path.parent.name if path else None


def check(source: str) -> None:
    """Asks the hub for a model that was not fetched before, and fetches its configuration, which pins the commit.

    Args:
        source: organisation/model.

    Raises:
        WhoknowsError: the model is gated, unknown, or the hub cannot be reached; the sentence says what to do.
    """
    from huggingface_hub import HfApi, hf_hub_download

    if commit(source):
        return
    with _sentences("models", source, "a local folder"):
        HfApi().auth_check(source)
        hf_hub_download(source, "config.json")


def fetch_files(name: str, commit: str | None, patterns: list[str]) -> Path:
    """The folder with some files of a repository.

    Args:
        name: organisation/name.
        commit: None for the newest, which is then what `commit` gives.
        patterns: names of files, each of which may be missing.

    Raises:
        WhoknowsError: as `check` does.
    """
    from huggingface_hub import snapshot_download

    with _sentences("models", name, "a local folder"):
        return Path(snapshot_download(name, revision=commit, allow_patterns=patterns))


def dataset(name: str, config: str | None, split: str, revision: str | None) -> Path:
    """Where the rows of a data set on the hub are kept, as one Parquet file; `fetch_dataset` makes it."""
    key = hashlib.sha256(repr((config, split, revision)).encode()).hexdigest()[:8]
    return cache.root() / "datasets" / f"{name.replace('/', '--')}-{key}.parquet"


def fetch_dataset(name: str, config: str | None, split: str, revision: str | None) -> None:
    """Fetches a split of a data set on the hub, if it is not here; it stays what it was when it was first fetched.

    Args:
        name: organisation/name.
        config: one of its configurations; None where it has one, or one called default.
        revision: a commit, tag or branch of the data set with Parquet, JSON lines, CSV or TSV files; None for the
            Parquet files that the hub makes of every data set.

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
    with _sentences("tasks", name, "a file", "datasets/"):
        paths = _of_split(name, HfApi().list_repo_files(name, repo_type="dataset", revision=version), config, split)
        parts = [hf_hub_download(name, part, repo_type="dataset", revision=version) for part in paths]
    files.write_parquet(path, pandas.concat(map(tables.read, parts), ignore_index=True))


def _of_split(name: str, listed: list[str], config: str | None, split: str) -> list[str]:
    """The files of a split, config/split/0000.parquet or data/split-00000.parquet, of one configuration."""
    from whoknows.data.tables import ENDINGS

    by_config: dict[str, list[str]] = {}
    for path in sorted(path for path in listed if path.endswith(ENDINGS)):
        *folders, file = path.split("/")
        if split in folders or re.match(rf"{re.escape(split)}[-.]", file):
            by_config.setdefault("/".join(folder for folder in folders if folder != split), []).append(path)
    wanted = config or ("default" if "default" in by_config or len(by_config) != 1 else next(iter(by_config)))
    if wanted not in by_config:
        known = ", ".join(map(repr, by_config)) or "none"
        raise WhoknowsError(
            f"tasks: {name} has no files of the split {split!r} in the configuration {wanted!r}; "
            f"those with this split are: {known}. Correct config or split."
        )
    return by_config[wanted]


def _sentences(key: str, source: str, instead: str, kind: str = ""):
    """Why the hub does not give what a key of a grid names."""
    account = "a token of that account in the environment variable HF_TOKEN, or with `hf auth login`"
    at, the_hub = f"https://huggingface.co/{kind}{source}", "the Hugging Face hub"
    return saying(
        gated=f"{key}: {source} is gated: accept its terms at {at} and give {account}.",
        unknown=f"{key}: {the_hub} has no {source} for you: mend the name, or, if it is private, give {account}.",
        revision=f"{key}: {source} has no such revision on {the_hub}; name another.",
        failed=f"{key}: {the_hub} could not be asked for {source} ({{error}}): try again, or name {instead}.",
    )


@contextmanager
def saying(gated: str, unknown: str, failed: str, revision: str = "", refused: str = "") -> Iterator[None]:
    """Says in one sentence why the hub does not do what it is asked; an error's own text may hold a token.

    Args:
        gated, unknown, revision: of a repository with terms, of none that is there for this user, and of a revision.
        failed: of all else; in it {error} is the name of the error, and {cause} of what has caused it.
        refused: where a token may not do it.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    kinds = {gated: GatedRepoError, unknown: RepositoryNotFoundError, revision: RevisionNotFoundError}
    try:
        yield
    except WhoknowsError:
        raise
    except Exception as error:  # whatever its HTTP client has, which changes from version to version
        why = next((sentence for sentence, kind in kinds.items() if sentence and isinstance(error, kind)), "")
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            why = why or refused
        names = {"error": type(error).__name__, "cause": type(error.__cause__ or error).__name__}
        raise WhoknowsError(why or failed.format(**names)) from None


def hide(text: str) -> str:
    """Text without the hub's tokens, whosever they are: logs, notebooks and pages are kept and passed on."""
    return TOKEN.sub("***", text)
