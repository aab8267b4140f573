"""The Hugging Face hub: whether what a grid names can be had from there, asked before anything is computed."""

import re
from pathlib import Path

from whoknows import WhoknowsError

TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}")


def config(source: str) -> Path | None:
    """The cached config.json of a model, in a folder named after its commit; None if it was not fetched."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(source, "config.json")
    except HFValidationError:  # no name on the hub
        return None
    return Path(path) if isinstance(path, str) else None


def commit(source: str) -> str | None:
    """The commit of what was fetched of a model; None if nothing was."""
    path = config(source)
    return path and path.parent.name


def check(source: str) -> None:
    """Asks the hub for a model that was not fetched before, and fetches its configuration, which pins the commit.

    Args:
        source: organisation/model.

    Raises:
        WhoknowsError: the model is gated, unknown, or the hub cannot be reached; the sentence says what to do.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if commit(source):
        return
    account = "a token of that account in the environment variable HF_TOKEN, or with `hf auth login`"
    try:
        HfApi().auth_check(source)
        hf_hub_download(source, "config.json")
    except GatedRepoError:
        raise WhoknowsError(
            f"models: {source} is gated: accept its terms at https://huggingface.co/{source} and give {account}."
        ) from None
    except RepositoryNotFoundError:
        raise WhoknowsError(
            f"models: the Hugging Face hub has no {source} for you: mend the name, "
            f"or, if it is private, give {account}."
        ) from None
    except Exception as error:  # whatever its HTTP client has, which changes from version to version
        raise WhoknowsError(
            f"models: the Hugging Face hub could not be asked for {source} ({type(error).__name__}): "
            "try again, or name a local folder."
        ) from None


def hide(text: str) -> str:
    """Text without the hub's tokens, whosever they are: logs, notebooks and pages are kept and passed on."""
    return TOKEN.sub("***", text)
