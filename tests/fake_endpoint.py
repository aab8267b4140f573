"""A server on this machine that stands in for an endpoint of OpenAI's chat API, and for what may go wrong with one."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Endpoint(ThreadingHTTPServer):
    """Answers what `reply` says.

    Attributes:
        reply: from the last message's text and the number of requests so far to a status, what is sent, and headers, if
            there are some. What is sent is an answer's text, or else a dict as JSON, or bytes as they are.
        asked: the path, the headers and the body of each request.
    """

    daemon_threads, block_on_close = True, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url, self.asked, self.reply = f"http://127.0.0.1:{self.server_port}/v1", [], lambda text, count: (200, "")

    @property
    def bodies(self) -> list[dict]:
        return [body for _, _, body in self.asked]

    @property
    def texts(self) -> list[str]:
        """What was asked last in each conversation."""
        return [body["messages"][-1]["content"] for body in self.bodies]

    def handle_error(self, *_):  # a client that gave up
        pass


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        body = json.loads(
            self.rfile.read(int(self.headers.get("Content-Length", 0))) or '{"messages": [{"content": ""}]}'
        )
        self.server.asked.append((self.path, self.headers, body))
        status, sent, *headers = self.server.reply(body["messages"][-1]["content"], len(self.server.asked))
        if isinstance(sent, str):
            sent = chosen(sent)
        data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | dict(*headers)).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def chosen(content, tokens=None, finish="stop") -> dict:
    """A reply with an answer, and the log-probabilities of its tokens by their texts or bytes."""
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish}
    if tokens is not None:
        listed = [
            {"token": str(token), "bytes": list(token) if isinstance(token, bytes) else None, "logprob": logprob}
            for token, logprob in tokens
        ]
        choice["logprobs"] = {"content": listed}
    return {"choices": [choice]}


def failed(message) -> dict:
    return {"error": {"message": message, "type": "some_error"}}
