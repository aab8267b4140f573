"""Estimators on the Hugging Face hub: sent there when a user asks for it, and fetched from there by name."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import adapters, assets
from whoknows.use import cards

TOKEN = "a token in the environment variable HF_TOKEN, or with `hf auth login`"


def push(files: list[Path], repository: str, private: bool) -> str:
    """Sends files, as of `cards.whole`, to the hub as one commit, so that all are there or none.

    Returns the address of the repository, owner/name, which is made if it is not there.

    Raises:
        WhoknowsError: there is no token, the hub refuses it or cannot be reached, or a private repository is asked for
            and this one is public.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if not re.fullmatch(assets.NAME, repository):
        raise WhoknowsError(f"{repository}: this is no name on the Hugging Face hub; give one as owner/name")
    if not get_token():
        raise WhoknowsError(
            f"{repository}: the Hugging Face hub takes files from its users alone: give {TOKEN}, which may write"
        )
    hub = HfApi()
    with _sentences(repository):
        address = hub.create_repo(repository, private=private or None, exist_ok=True)
        if private and not hub.model_info(repository).private:
            raise WhoknowsError(
                f"{repository}: it is there already, and public; name another one, or leave out --private"
            )
        additions = [CommitOperationAdd(path.name, path) for path in files]
        hub.create_commit(repository, additions, commit_message="An estimator of whoknows")
    return str(address)


def locate(name: Path | str) -> Path:
    """The folder of an estimator: a local one if there is one, else that of a repository of this name, fetched."""
    return _fetch(str(name)) if assets.on_hub(str(name)) else Path(name)


def _fetch(name: str) -> Path:
    """Of a repository only the cards, and then the weights that they name: it may be anything, of any size."""
    from huggingface_hub import snapshot_download

    with _sentences(name, "there is no such folder here, and "):
        folder = Path(snapshot_download(name, allow_patterns=["*.json"]))
        try:
            estimators = cards.read(folder, or_released=True).values()
        except WhoknowsError as error:
            if (folder / adapters.CONFIG).is_file():
                raise WhoknowsError(str(error).replace(str(folder), name)) from None
            raise WhoknowsError(
                f"{name}: the Hugging Face hub has it, but it holds no estimator with a card; "
                "name what `whoknows push` has sent"
            ) from None
        weights = [weight for card in estimators for weight in cards.weights(card)]
        weights += adapters.ADAPTERS + adapters.TEMPERATURES if any("released" in card for card in estimators) else ()
        return Path(snapshot_download(name, revision=folder.name, allow_patterns=weights))


@contextmanager
def _sentences(name: str, before: str = "") -> Iterator[None]:
    """Says in one sentence why the hub does not serve a repository; an error's own text may hold a token."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        yield
    except WhoknowsError:
        raise
    except Exception as error:  # whatever its HTTP client has, which changes from version to version
        if isinstance(error, GatedRepoError):
            terms = f"at https://huggingface.co/{name}; then give {TOKEN}"
            why = f"{before}the Hugging Face hub gives it only to those who accept its terms, {terms}"
        elif isinstance(error, RepositoryNotFoundError):
            way = f"mend it, or, if it is private, give {TOKEN}"
            why = f"{before}the Hugging Face hub has none of that name for you: {way}"
        elif isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            way = f"give one of its owner that may write, {TOKEN.removeprefix('a token ')}"
            why = f"the Hugging Face hub refuses the token for it: {way}"
        else:
            kind = type(error.__cause__ or error).__name__
            why = f"{before}the Hugging Face hub could not be asked for it ({kind}): try again"
        raise WhoknowsError(f"{name}: {why}") from None
