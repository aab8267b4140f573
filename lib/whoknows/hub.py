"""The Hugging Face hub: whether what a grid names can be had from there, asked before anything is computed."""

import re

from whoknows import WhoknowsError

TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}")


def check(source: str) -> None:
    """Asks the hub for a model; what was fetched before is not asked for again.

    Args:
        source: organisation/model.

    Raises:
        WhoknowsError: the model is gated, unknown, or the hub cannot be reached; the sentence says what to do.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(try_to_load_from_cache(source, "config.json"), str):
        return
    account = "a token of that account in the environment variable HF_TOKEN, or with `hf auth login`"
    try:
        HfApi().auth_check(source)
    except GatedRepoError:
        raise WhoknowsError(f"models: {source} is gated: accept its terms at https://huggingface.co/{source} and give {account}.") from None
    except RepositoryNotFoundError:
        raise WhoknowsError(f"models: the Hugging Face hub has no {source} for you: mend the name, or, if it is private, give {account}.") from None
    except Exception as error:  # whatever its HTTP client has, which changes from version to version
        said = type(error).__name__
        raise WhoknowsError(f"models: the Hugging Face hub could not be asked for {source} ({said}): try again, or name a local folder.") from None


def hide(text: str) -> str:
    """Text without the hub's tokens, whosever they are: logs, notebooks and pages are kept and passed on."""
    return TOKEN.sub("***", text)
