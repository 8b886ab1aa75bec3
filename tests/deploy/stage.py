"""Does what the first stage of the Dockerfile does, in a folder that has only what it copies.

    stage.py DOCKERFILE FOLDER PROGRAM

The program is left at PROGRAM instead of in the stage's root.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def instructions(text):
    """Name and rest of each, its lines joined and comments left out."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, rest = line.split(maxsplit=1)
        yield name, rest


def main(dockerfile, folder, program):
    source, folder = Path(dockerfile).resolve().parent, Path(folder)
    env = dict(os.environ)
    env.pop("CARGO_TARGET_DIR", None)
    stages = 0
    for name, rest in instructions(Path(dockerfile).read_text()):
        if name == "FROM":
            stages += 1
            if stages > 1:
                break
        elif name == "ENV":
            key, value = rest.split("=", 1)
            env[key] = value.strip('"')
        elif name == "COPY":
            *what, where = rest.split()
            for item in what:
                copy(source / item, folder / where, into=where.endswith("/"))
        elif name == "RUN":
            subprocess.run(["bash", "-ec", rest.replace(" /seqgate", f" {program}")], cwd=folder, env=env, check=True)
        elif name != "WORKDIR":
            sys.exit(f"{dockerfile}: {name} is not known here")


def copy(item, where, into):
    place = where / item.name if into else where
    place.parent.mkdir(parents=True, exist_ok=True)
    if item.is_dir():
        shutil.copytree(item, place, dirs_exist_ok=True)
    else:
        shutil.copy(item, place)


main(*sys.argv[1:])
