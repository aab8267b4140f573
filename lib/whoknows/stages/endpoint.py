"""A client of endpoints that speak OpenAI's chat API: some requests at a time, each reply kept as soon as it is there.

The key comes from the environment and goes into one header to one address: redirects are not followed, and no sentence
repeats what an endpoint says before the key is taken out of it.
"""

import http.client
import json
import os
import random
import re
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from whoknows import WhoknowsError

WORKERS = 8  # requests at a time
TRIES, LIMITED = 5, 9  # of a request that fails, and of one that comes too soon after others (429)
LONGEST = 120  # seconds between two tries, whatever the endpoint asks for
TIMEOUT = 300  # seconds without a byte: a small machine answers one after the other
MOST = 2**24  # bytes of a reply
SECRET = 8  # letters: a shorter key (EMPTY, ollama) is none, and may be a word of an answer
SHOWN = 200  # letters of what others say, in a sentence
WANTED = (
    "an address is wanted like http://localhost:8000/v1, without user, password, ? or #; "
    "a key belongs in the environment variable"
)
HIDDEN = "***"  # stands where a key stood
THOUGHTS = re.compile(r"^.*?</think>", re.DOTALL)  # some templates begin them, so that no reply has <think>
# What is no matter of one request: the key, the account, the address, the model's name, the pace.
OF_ALL = (401, 402, 403, 404, 405, 407, 429)
# What an endpoint may refuse to hear of, and what it means that it is asked without.
REFUSABLE = {
    "logprobs": "its answers have no log-probabilities",
    "temperature": "it draws answers at its own",
    "max_tokens": "it is told max_completion_tokens instead",
}


class Request(NamedTuple):
    """One request."""

    name: str  # a digest of all that the reply depends on
    about: str  # what it asks about, for a sentence on a failure
    body: dict  # as the API has it


class Completion(NamedTuple):
    """What is taken from a reply."""

    content: str  # the text; "" where there is none
    is_cut: bool  # at max_tokens
    tokens: list  # of each its bytes, or its text where there are none, and its log-probability, if they were sent

    @property
    def answer(self) -> str | None:
        """The text behind the thoughts that stand before it; None if it was cut before there was any."""
        text = THOUGHTS.sub("", self.content).strip()
        return None if text.startswith("<think>") or (self.is_cut and not text) else text


class Missed(WhoknowsError):
    """One request was refused, or failed again and again; others may be answered. `why` does not name the request."""

    def __init__(self, sentence: str, why: str = ""):
        super().__init__(sentence)
        self.why = why


class Unclear(Missed):
    """A reply from which nothing can be taken, and which would be the same if it was asked for again."""


class Endpoint:
    """An address such as http://localhost:8000/v1, and what has been learned of it.

    Args:
        where: the key of a grid that names it.
        variable: the environment variable with the key, if it wants one.

    Raises:
        WhoknowsError: the address is none, or holds what should be secret; or the key cannot be one.
    """

    def __init__(self, url: str, where: str, variable: str):
        self.url, self.where, self.variable = url, where, variable
        self.key = os.environ.get(variable, "").strip()
        self.opener = urllib.request.build_opener(_Straight)
        self.refused: set[str] = set()
        self.until = 0.0  # nothing is asked before this time
        self.stop, self.writing = threading.Event(), threading.Lock()
        self.going = threading.Event()  # while it is not set, no thread begins a request
        self.going.set()
        if not is_address(url):
            raise WhoknowsError(f"{where}: {WANTED} {variable}")
        if not (self.key.isascii() and self.key.isprintable()):
            raise WhoknowsError(f"{variable}: this environment variable holds letters that no key has; set it anew")

    def ask(self, requests: list[Request], log: Path, take: Callable[[Completion], Any], doing: str) -> list:
        """What is taken from the reply to each request, in the order of the requests.

        Of a missed request it is the error, which the log leaves out; of an unclear reply None, which the log keeps.

        Args:
            log: file that each is added to as it comes, as a line [name, taken]; what is in it is not asked for again.
            take: from a reply to what is kept, as far as JSON can say it.

        Raises:
            WhoknowsError: what failed concerns every request, such as the key; or as many as go side by side were
                missed one after the other, and one that was answered before is not answered again.
        """
        known = _read(log)
        names = {request.name: request for request in requests}
        todo = [request for name, request in names.items() if name not in known]
        with tqdm(total=len(names), initial=len(names) - len(todo), desc=doing, unit="answer") as bar:
            good = next((request for request in requests if known.get(request.name) is not None), None)
            for name, taken in self._side_by_side(todo, log, take, good):
                known[name] = taken
                bar.update()
        return [known[request.name] for request in requests]

    def _side_by_side(
        self, todo: list[Request], log: Path, take: Callable[[Completion], Any], good: Request | None
    ) -> Iterator[tuple[str, Any]]:
        """(name, taken) as they come; `good` is a request that was answered before.

        The first request goes alone, so that a wrong key or a refused option is found out once. After a failure nothing
        new is asked, and what others have asked is waited for. Threads that only wait do not outlive Ctrl-C.
        """

        def work(request: Request) -> tuple[Request, Any, BaseException | None]:
            self.going.wait()
            try:
                try:
                    taken, error = take(self._reply(request)), None
                except Unclear as unclear:
                    taken, error = None, unclear
                with self.writing, open(log, "a", encoding="utf-8") as out:
                    out.write(json.dumps([request.name, taken]) + "\n")
                return request, taken, error
            except BaseException as failed:
                return request, failed, failed

        def outcomes() -> Iterator[tuple[Request, Any, BaseException | None]]:
            yield from map(work, todo[:1])
            yield from pool.imap_unordered(work, todo[1:])

        failure: BaseException | None = None
        in_a_row = 0
        with ThreadPool(WORKERS) as pool:
            try:
                for request, taken, error in outcomes():
                    if error and not isinstance(error, Missed):
                        failure = failure or error
                    else:
                        good, in_a_row = (good, in_a_row + 1) if error else (request, 0)
                        if in_a_row == WORKERS and not failure:
                            failure, in_a_row = self._down(good, take) if good else error, 0
                        yield request.name, taken
                    if failure:
                        self.stop.set()
            finally:
                self.stop.set()
        if failure:
            raise failure

    def _down(self, good: Request, take: Callable[[Completion], Any]) -> WhoknowsError | None:
        """Why no request is answered any more; None if one is that was answered before, so that it is up to others."""
        self.going.clear()
        try:
            take(self._reply(good))
        except WhoknowsError as error:
            self.stop.set()
            return error
        finally:
            self.going.set()
        return None

    def _reply(self, request: Request) -> Completion:
        """The reply to a request, which is sent until there is one.

        Raises:
            Missed: the request was refused, or failed again and again.
            WhoknowsError: the same, for a reason that concerns every request.
        """
        without, tries = set(self.refused), 0
        while True:
            self._sleep(self.until - time.monotonic())
            if self.stop.is_set():
                raise InterruptedError
            status, message, after, of_all = 0, "", None, False
            try:
                completion = _completion(self._post(_without(request.body, without)))
            except urllib.error.HTTPError as error:
                status, message = error.code, self._message(error)
                after = _seconds(error.headers.get("Retry-After", ""))
                why = f"answered {status} {http.client.responses.get(status, '')}".strip()
                of_all = status in OF_ALL
                if 300 <= status < 400:
                    why, of_all = f"{why}, a redirect, which is not followed", True
            except (OSError, http.client.HTTPException) as error:
                cause = getattr(error, "reason", error)
                of_all = isinstance(error, urllib.error.URLError)  # there is no connection
                why = f"gave no answer ({type(cause if isinstance(cause, Exception) else error).__name__})"
            except _Withheld as withheld:
                status, why = 451, f"left out the answer ({withheld})"
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                why = "answered what is no chat completion"
            else:
                for name in without - self.refused:
                    warnings.warn(f"{self.url} refuses {name}: {REFUSABLE[name]}", stacklevel=2)
                self.refused |= without
                return completion
            option = _refused(request.body.keys() - without, status, message.lower())
            if option:
                without.add(option)
                continue
            tries += 1
            is_passing = not status or status >= 500 or status in (408, 425, 429)
            if not is_passing or tries == (LIMITED if status == 429 else TRIES):
                # Of a key that it refuses an endpoint may say a part.
                why += f" ({message[:SHOWN]})" if message and status not in (401, 403) else ""
                sentence = f"{self.where}: {self.url} {why} when it was asked about {_inert(request.about)[:SHOWN]}; "
                sentence += f"check the address, the model's name and the key in {self.variable}; "
                sentence += "what was answered is kept"
                raise WhoknowsError(sentence) if of_all else Missed(sentence, why)
            wait = min(after or 2 ** (tries - 1) * random.uniform(0.5, 1.5), LONGEST)
            self.until = max(self.until, time.monotonic() + wait)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.stop.wait(seconds)

    def _post(self, body: dict):
        # Some hosts turn away the name that Python gives itself.
        headers = {"Content-Type": "application/json", "User-Agent": "whoknows"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        with self.opener.open(request, timeout=TIMEOUT) as reply:
            # Read and written once more, so that a key has no escapes in which it is not found.
            return json.loads(self._hidden(json.dumps(json.loads(reply.read(MOST).decode()))))

    def _message(self, error: urllib.error.HTTPError) -> str:
        """What an endpoint says of an error, if it says it as usual."""
        try:
            with error:
                text = error.read(2**12).decode(errors="replace")
            matched = re.search(r'"(?:message|detail|error)"\s*:\s*("(?:[^"\\]|\\.)*")', text)
            return _inert(self._hidden(json.loads(matched[1]))) if matched else ""
        except (OSError, http.client.HTTPException, ValueError):
            return ""

    def _hidden(self, text: str) -> str:
        return text.replace(self.key, HIDDEN) if len(self.key) >= SECRET else text


class _Withheld(Exception):
    """A host's filter took the answer away, or the model refused to give one: there is none to grade."""


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would take the key along to another host."""

    def redirect_request(self, *_) -> None:
        return None


def is_address(url: str) -> bool:
    """Whether a url is the address of an endpoint and has no place for what should be secret."""
    try:
        has_host = bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:
        return False
    return has_host and re.fullmatch(r"https?://[!-~]+", url) is not None and not set("@?#") & set(url)


def _read(log: Path) -> dict:
    """What a log holds; the last line of a run that was killed may be half a line, and is left aside."""
    log.parent.mkdir(parents=True, exist_ok=True)
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    if not text.endswith("\n") and text:
        with open(log, "a", encoding="utf-8") as out:
            out.write("\n")
    known = {}
    for line in text.split("\n"):
        with suppress(ValueError, TypeError):
            name, known[name] = json.loads(line)
    return known


def _without(body: dict, options: set[str]) -> dict:
    """A request that does not name some options; there is a newer name for the most tokens."""
    kept = {name: value for name, value in body.items() if name not in options}
    return kept | ({"max_completion_tokens": body["max_tokens"]} if "max_tokens" in options else {})


def _refused(options: set[str], status: int, message: str) -> str | None:
    """Which of a request's options an endpoint may mean that answered with an error."""
    if status == 429:
        return None
    named = next((option for option in REFUSABLE if option in options and option in message), None)
    return named or ("logprobs" if status in (400, 422) and "logprobs" in options else None)


def _completion(reply: dict) -> Completion:
    choice = reply["choices"][0]
    message, finish = choice["message"], choice.get("finish_reason")
    content = message.get("content") or ""
    if not isinstance(content, str) or choice.get("error"):
        raise TypeError("no answer")
    if not content.strip() and (finish == "content_filter" or message.get("refusal")):
        raise _Withheld("content_filter" if finish == "content_filter" else "refusal")
    tokens: list = []
    # Those of thoughts are not told from those of the answer, and those of a key would spell it.
    is_whole = not (message.get("reasoning_content") or message.get("reasoning") or HIDDEN in content)
    with suppress(LookupError, TypeError, AttributeError):  # other shapes, and none
        listed = choice["logprobs"]["content"] if is_whole else ()
        tokens = [[token.get("bytes") or token["token"], token["logprob"]] for token in listed]
    # No file takes half of a surrogate pair.
    return Completion(content.encode(errors="replace").decode(), finish == "length", tokens)


def _seconds(after: str) -> float | None:
    """The seconds that a Retry-After asks for, as seconds or as a date (RFC 9110, 10.2.3)."""
    if re.fullmatch(r"\d+(\.\d+)?", after.strip()):
        return float(after)
    with suppress(ValueError, TypeError, OverflowError):
        return max(parsedate_to_datetime(after).timestamp() - time.time(), 0)
    return None


def _inert(text: str) -> str:
    """One line, without what moves a cursor or turns the direction of writing."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
