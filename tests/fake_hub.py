"""A server that answers as the Hugging Face hub does, of what this library asks it."""

import base64
import hashlib
import http.server
import json
import re
from urllib.parse import urlsplit

TOKEN = "hf_" + "aBcD1234" * 4
ANSWERS = {"org/gated": (403, "GatedRepo"), "org/none": (401, "RepoNotFound"), "org/broken": (500, None)}


class Hub(http.server.ThreadingHTTPServer):
    """Repositories of `org`, which whoever has the token may write, and what was asked with which authorization."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked, self.repositories, self.private, self.stored = [], {}, set(), {}
        self.address = f"http://127.0.0.1:{self.server_port}"

    def commit(self, name):
        """Stands for the files that a repository has now."""
        return hashlib.sha1(repr(sorted(self.repositories[name].items())).encode()).hexdigest()


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, hub = urlsplit(self.path).path, self.server
        hub.asked.append((path, self.headers.get("Authorization")))
        if path.endswith("/auth-check"):
            asked = path.removeprefix("/api/models/").removesuffix("/auth-check")
            code, error = ANSWERS.get(asked, (200 if asked in hub.repositories else 404, None))
            return self.say(code, error=error)
        name = (re.match(r"(?:/api/models|/api/datasets|/datasets)?/(\w+/[\w.-]+)", path) or ["", ""])[1]
        may = self.headers.get("Authorization") == f"Bearer {TOKEN}" or name not in hub.private
        if name in ANSWERS or name not in hub.repositories or not may:
            return self.say(
                *ANSWERS.get(name, ANSWERS["org/none"])[:1], error=ANSWERS.get(name, ANSWERS["org/none"])[1]
            )
        files, commit = hub.repositories[name], hub.commit(name)
        if path.startswith("/api") and "/tree/" in path:
            return self.say(
                200,
                [
                    {"type": "file", "path": file, "size": len(data), "oid": _digest(data)}
                    for file, data in files.items()
                ],
            )
        if path.startswith("/api"):
            siblings = [{"rfilename": file} for file in files]
            return self.say(
                200, {"id": name, "sha": commit, "private": name in hub.private, "siblings": siblings, "tags": []}
            )
        data = files.get(path.split("/resolve/")[1].split("/", 1)[1])
        if data is None:
            return self.say(404, error="EntryNotFound", **{"X-Repo-Commit": commit})
        self.say(200, data, **{"X-Repo-Commit": commit, "ETag": f'"{_digest(data)}"'})

    do_HEAD = do_GET

    def do_POST(self):
        path, hub = urlsplit(self.path).path, self.server
        hub.asked.append((path, self.headers.get("Authorization")))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.say(401, {"error": "Invalid username or password."})
        if path == "/api/validate-yaml":
            return self.say(200, {"errors": [], "warnings": []})
        name = (
            re.match(r"(?:/api/models)?/(\w+/[\w.-]+?)(?:\.git)?/", path)[1]
            if path != "/api/repos/create"
            else _created(json.loads(body))
        )
        if not name.startswith("org/"):
            return self.say(403, {"error": "You don't have the rights to create a model under this namespace"})
        if path == "/api/repos/create":
            code = 409 if name in hub.repositories else 200
            if code == 200:
                hub.repositories[name] = {}
                hub.private |= (
                    {name}
                    if json.loads(body).get("private") or json.loads(body).get("visibility") == "private"
                    else set()
                )
            return self.say(code, {"url": f"{hub.address}/{name}"})
        if "/preupload/" in path:
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith("safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            return self.say(200, {"files": modes})
        if path.endswith("/info/lfs/objects/batch"):
            actions = [
                one | {"actions": {"upload": {"href": f"{hub.address}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self.say(200, {"objects": actions, "transfer": "basic"})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                hub.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                hub.repositories[name][line["value"]["path"]] = hub.stored[line["value"]["oid"]]
        self.say(
            200,
            {
                "commitOid": hub.commit(name),
                "commitUrl": f"{hub.address}/{name}/commit/{hub.commit(name)}",
                "success": True,
            },
        )

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.stored[hashlib.sha256(data).hexdigest()] = data
        self.say(200)

    def say(self, code, body=b"", error=None, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for key, value in (
            headers | {"Content-Length": str(len(body))} | ({"X-Error-Code": error} if error else {})
        ).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def _created(asked):
    return f"{asked.get('organization') or 'user'}/{asked['name']}"


def _digest(data):
    return hashlib.sha1(data).hexdigest()
