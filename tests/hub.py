"""A stand-in of the Hugging Face Hub: repositories in memory, and the HTTP that uploads and downloads use."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """GET and HEAD of files and lists, POST of new repositories and commits."""

    repositories: dict[str, dict[str, bytes]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, code, value=b"", **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        if found := re.match(r"/api/models/([^/]+/[^/]+)/revision/(\w+)", self.path):
            name, revision = found.groups()
            if name not in self.repositories:
                return self.answer(404, {}, X_Error_Code="RepoNotFound")
            if revision not in ("main", SHA):
                return self.answer(404, {}, X_Error_Code="RevisionNotFound")
            files = [{"rfilename": file} for file in self.repositories[name]]
            return self.answer(200, {"id": name, "sha": SHA, "siblings": files})
        if found := re.match(r"/api/models/([^/]+/[^/]+)/tree/\w+", self.path):
            held = self.repositories.get(found[1], {})
            listed = [
                {
                    "type": "file",
                    "path": file,
                    "size": len(data),
                    "oid": hashlib.sha1(data).hexdigest(),
                }
                for file, data in held.items()
            ]
            return self.answer(200, listed)
        if found := re.match(r"/([^/]+/[^/]+)/resolve/\w+/([^?]+)", self.path):
            data = self.repositories.get(found[1], {}).get(found[2])
            if data is None:
                return self.answer(404, {}, X_Error_Code="EntryNotFound")
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            return self.answer(200, data, ETag=etag, X_Repo_Commit=SHA)
        return self.answer(404, {})

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "authorization" not in self.headers:
            return self.answer(401, {"error": "log in first"})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.repositories.setdefault(name, {})
            return self.answer(200, {"url": f"http://{self.headers['Host']}/{name}"})
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            return self.answer(200, {"files": modes})
        if found := re.match(r"/api/models/([^/]+/[^/]+)/commit/", self.path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    data = base64.b64decode(line["value"]["content"])
                    self.repositories[found[1]][line["value"]["path"]] = data
            there = f"http://{self.headers['Host']}/{found[1]}/commit/{SHA}"
            return self.answer(200, {"commitUrl": there, "commitOid": SHA})
        return self.answer(404, {})


@contextmanager
def hub():
    """The address of a running stand-in, and its repositories."""
    held: dict[str, dict[str, bytes]] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Hub,), {"repositories": held}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", held
    finally:
        server.shutdown()
        server.server_close()
