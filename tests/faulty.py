"""Nodes that misbehave: a DICOMweb server and a DIMSE one that do what a list of faults says, one a request."""

import contextlib
import json
import threading
import time
from email.message import EmailMessage
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pydicom
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")


class Faulty:
    """What lies on the node, what it did, and what is to go wrong.

    Attributes:
        objects: the bytes of DICOM files, by SOP instance UID.
        asked: (what, authorization) of each request: "find", "get", "one" or "store".
        faults: by what is asked, what goes wrong the next times; "" is nothing.
        secret: the header Authorization that is asked for; "" lets everybody in.
    """

    def __init__(self, files=(), secret=""):
        self.objects = {pydicom.dcmread(file).SOPInstanceUID: file.read_bytes() for file in files}
        self.asked, self.faults, self.secret = [], {}, secret

    def next_fault(self, what):
        left = self.faults.get(what, [])
        return left.pop(0) if left else ""

    def header(self, uid):
        return pydicom.dcmread(BytesIO(self.objects[uid]))

    def number(self, what):
        return sum(asked == what for asked, _ in self.asked)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def let_in(self, what):
        node, said = self.server.node, self.headers.get("Authorization", "")
        node.asked.append((what, said))
        if node.secret and said != node.secret:
            self.plain(401)
            return None
        fault = node.next_fault(what)
        if fault == "slow":
            time.sleep(0.6)
            self.close_connection = True
            return None
        if fault == "elsewhere":
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:1/away")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        if fault.isdigit():
            self.plain(int(fault))
            return None
        return fault

    def plain(self, code, body=b"Planted^Name is not to be shown", kind="text/plain"):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        node = self.server.node
        path, _, query = self.path.partition("?")
        words = path.strip("/").split("/")
        levels = dict(zip(words[::2], words[1::2], strict=False))
        rest = words[-1] if len(words) % 2 else ""
        if rest:
            if (fault := self.let_in("find")) is not None:
                self.find(node, levels, rest, query, fault)
            return
        what = "one" if "instances" in levels else "get"
        if (fault := self.let_in(what)) is None:
            return
        uids = [levels["instances"]] if what == "one" else self.inside(node, levels)
        if fault == "half":
            uids = uids[: len(uids) // 2]
        parts = b"".join(
            b"\r\n--sep\r\nContent-Type: application/dicom\r\n\r\n" + node.objects[uid]
            for uid in uids
        )
        body = parts + b"\r\n--sep--\r\n"
        self.send_response(200)
        self.send_header(
            "Content-Type", 'multipart/related; type="application/dicom"; boundary=sep'
        )
        if fault == "unsaid":  # how long it is: the connection ends it
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault in ("broken", "unsaid"):
            body = body[: len(body) * 2 // 3]
            self.close_connection = True
        self.wfile.write(body)

    def inside(self, node, levels):
        return [
            uid
            for uid in node.objects
            if node.header(uid).SeriesInstanceUID == levels.get("series")
        ]

    def find(self, node, levels, rest, query, fault):
        if fault == "page":
            self.plain(200, b"<html>", "text/html")
            return
        key = {"studies": 0, "series": 1, "instances": 2}[rest]
        skipped = "offset=0" not in query and "offset=" in query
        rows = {}
        for uid in node.objects:
            header = node.header(uid)
            if all(
                header[KEYS[n]].value == levels[name]
                for n, name in enumerate(("studies", "series"))
                if name in levels
            ):
                row = pydicom.Dataset()
                for word in KEYS:
                    setattr(row, word, header[word].value)
                rows[header[KEYS[key]].value] = row.to_json_dict()
        found = [] if skipped else list(rows.values())
        self.plain(200, json.dumps(found).encode(), "application/dicom+json")

    def do_POST(self):
        node = self.server.node
        body = self.body()
        if (fault := self.let_in("store")) is None:
            return
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = BytesParser(_class=EmailMessage).parsebytes(head + body)
        taken, failed = [], []
        for number, part in enumerate(message.get_payload()):
            data = part.get_payload(decode=True)
            header = pydicom.dcmread(BytesIO(data))
            if fault in ("half", "refuses half") and number % 2:
                failed.append(header)
                continue
            node.objects[header.SOPInstanceUID] = data
            taken.append(header)
        if fault == "half":
            self.close_connection = True
            return
        answer = pydicom.Dataset()
        answer.ReferencedSOPSequence = [_reference(header) for header in taken]
        if failed:
            answer.FailedSOPSequence = [_reference(header, 0x0110) for header in failed]
        said = answer.to_json().encode()
        self.plain(202 if failed else 200, said, "application/dicom+json")

    def body(self):
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


def _reference(header, reason=None):
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if reason:
        item.FailureReason = reason
    return item


@contextlib.contextmanager
def faulty_web(node, tls=None):
    """Serve it by DICOMweb; the port. `tls` is (certificate, key)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.node = True, node
    server.handle_error = lambda *_: None  # a client that would not wait
    if tls:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def faulty_dimse(node, tls=None):
    """Serve it by DIMSE as title NODE; the port."""
    import ssl

    server = AE("NODE")
    server.require_called_aet = True
    server.supported_contexts = StoragePresentationContexts
    for context in server.supported_contexts:
        context.scu_role = context.scp_role = True
    server.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    handlers = [
        (evt.EVT_C_FIND, _find, [node]),
        (evt.EVT_C_GET, _get, [node]),
        (evt.EVT_C_STORE, _store, [node]),
        (evt.EVT_USER_ID, _who, [node]),
    ]
    running = server.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=context
    )
    try:
        yield running.server_address[1]
    finally:
        running.shutdown()


def _who(event, node):
    name = (event.primary_field or b"").decode()
    node.asked.append(("who", name))
    return not node.secret or name == node.secret, None


def _find(event, node):
    node.asked.append(("find", ""))
    fault = node.next_fault("find")
    if fault == "abort":
        event.assoc.abort()
        return
    if fault:
        yield int(fault, 16), None
        return
    query = event.identifier
    key = {"STUDY": 0, "SERIES": 1, "IMAGE": 2}[query.QueryRetrieveLevel]
    rows = {}
    for uid in node.objects:
        header = node.header(uid)
        wanted = [(word, query.get(word, "")) for word in KEYS[:3]]
        if all(not value or header[word].value == value for word, value in wanted):
            row = pydicom.Dataset()
            row.QueryRetrieveLevel = query.QueryRetrieveLevel
            for word in KEYS:
                if word in query:
                    setattr(row, word, header[word].value)
            rows[header[KEYS[key]].value] = row
    for row in rows.values():
        yield 0xFF00, row


def _get(event, node):
    fault = node.next_fault("get")
    node.asked.append(("get", ""))
    asked = event.identifier
    named = asked.get("SOPInstanceUID", "")
    named = [named] if isinstance(named, str) and named else list(named)
    uids = [
        uid
        for uid in node.objects
        if node.header(uid).SeriesInstanceUID == asked.SeriesInstanceUID
        and (not named or uid in named)
    ]
    if fault == "half":
        uids = uids[: len(uids) // 2]
    yield len(uids)
    for number, uid in enumerate(uids):
        if fault == "abort" and number:
            event.assoc.abort()
            return
        yield 0xFF00, node.header(uid)


def _store(event, node):
    node.asked.append(("store", ""))
    if fault := node.next_fault("store"):
        return int(fault, 16)
    header = event.dataset
    header.file_meta = event.file_meta
    node.objects[header.SOPInstanceUID] = event.encoded_dataset()
    return 0x0000
