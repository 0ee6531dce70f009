"""Orthanc (Debian: orthanc, orthanc-dicomweb) on this machine alone, for the tests that need a real archive."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGINS = [
    folder
    for folder in map(Path, ("/usr/share/orthanc/plugins", "/usr/lib/orthanc"))
    if list(folder.glob("libOrthancDicomWeb.so*"))
]
THERE = Path(PROGRAM).is_file() and bool(PLUGINS)
ANONYMOUS: dict[str, str] = {}


def free_port():
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        return here.getsockname()[1]


@dataclass
class Orthanc:
    """One that runs, and what lies in it.

    Attributes:
        http, dicom: its ports.
        mover: where it sends what a C-MOVE of RADIFFUSE asks for.
    """

    http: int
    dicom: int
    mover: int
    user: tuple[str, str] | None

    @property
    def web(self):
        return f"dicomweb://127.0.0.1:{self.http}/dicom-web"

    @property
    def dimse(self):
        return f"dimse://ORTHANC@127.0.0.1:{self.dicom}"

    def asked(self, path, method="get", **more):
        answer = requests.request(
            method, f"http://127.0.0.1:{self.http}{path}", auth=self.user, timeout=20, **more
        )
        answer.raise_for_status()
        return answer

    def store(self, *files):
        for file in files:
            self.asked("/instances", "post", data=Path(file).read_bytes())

    def uids(self):
        """SOP instance UIDs of all there is."""
        every = self.asked("/instances?expand").json()
        return sorted(each["MainDicomTags"]["SOPInstanceUID"] for each in every)

    def empty(self):
        for patient in self.asked("/patients").json():
            self.asked(f"/patients/{patient}", "delete")


@contextlib.contextmanager
def orthanc(folder, user=None):
    """Start one, wait until it answers, and end it."""
    if not THERE:
        pytest.skip("needs Orthanc with its DICOMweb plugin (Debian: orthanc orthanc-dicomweb)")
    ports = [free_port() for _ in range(3)]
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(PLUGINS[0])],
        "RemoteAccessAllowed": False,
        "HttpPort": ports[0],
        "DicomAet": "ORTHANC",
        "DicomPort": ports[1],
        "DicomCheckCalledAet": True,
        "DicomModalities": {"test": ["RADIFFUSE", "127.0.0.1", ports[2]]},
        "DicomAlwaysAllowGet": True,
        "AuthenticationEnabled": user is not None,
        "RegisteredUsers": dict([user]) if user else ANONYMOUS,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "HttpsVerifyPeers": True,
        "LuaScripts": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [PROGRAM, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT
    )
    found = Orthanc(*ports, user)
    try:
        for _ in range(200):
            with contextlib.suppress(requests.RequestException):
                found.asked("/system")
                break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield found
    finally:
        process.terminate()
        process.wait(20)
        log.close()
