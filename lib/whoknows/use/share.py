"""Estimators on the Hugging Face hub: sent there when a user asks for it, and fetched from there by name."""

import re
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import adapters, assets, hub
from whoknows.use import cards

TOKEN = "a token in the environment variable HF_TOKEN, or with `hf auth login`"


def push(files: list[Path], repository: str, private: bool) -> str:
    """Sends files to the hub as one commit, so that all are there or none, and returns the repository's address.

    Args:
        files: of one folder; see `cards.whole`.
        repository: owner/name, which is made if it is not there.
        private: whether nobody else may see it.

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
    api = HfApi()
    with _sentences(repository):
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise WhoknowsError(
                f"{repository}: it is there already, and public; name another one, or leave out --private"
            )
        additions = [CommitOperationAdd(path.name, path) for path in files]
        api.create_commit(repository, additions, commit_message="An estimator of whoknows")
    return str(address)


def locate(name: Path | str) -> Path:
    """The folder of an estimator: a local one if there is one, else that of a repository of this name, fetched.

    Raises:
        WhoknowsError: it is neither a folder nor an estimator on the hub, or it was not fetched before and the hub
            cannot be reached.
    """
    return _fetch(str(name)) if assets.on_hub(str(name)) else Path(name)


def _fetch(name: str) -> Path:
    """Of a repository only the cards, and then the weights that they name: it may be anything, of any size."""
    from huggingface_hub import snapshot_download

    with _sentences(name, "there is no such folder here, and "):
        folder = Path(snapshot_download(name, allow_patterns=["*.json"]))
        try:
            found = cards.read(folder, or_released=True).values()
        except WhoknowsError as error:
            if (folder / adapters.CONFIG).is_file():
                raise WhoknowsError(str(error).replace(str(folder), name)) from None
            raise WhoknowsError(
                f"{name}: the Hugging Face hub has it, but it holds no estimator with a card; "
                "name what `whoknows push` has sent"
            ) from None
        weights = [weight for card in found for weight in cards.weights(card)]
        weights += adapters.ADAPTERS + adapters.TEMPERATURES if any("released" in card for card in found) else ()
        return Path(snapshot_download(name, revision=folder.name, allow_patterns=weights))


def _sentences(name: str, before: str = ""):
    """Why the hub does not serve a repository."""
    terms, owner = f"https://huggingface.co/{name}; then give {TOKEN}", TOKEN.removeprefix("a token ")
    the_hub = f"{name}: {before}the Hugging Face hub"
    return hub.saying(
        gated=f"{the_hub} gives it only to those who accept its terms, at {terms}",
        unknown=f"{the_hub} has none of that name for you: mend it, or, if it is private, give {TOKEN}",
        failed=f"{the_hub} could not be asked for it ({{cause}}): try again",
        refused=f"{name}: the Hugging Face hub refuses the token for it: give one of its owner that may write, {owner}",
    )
