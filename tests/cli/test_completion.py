"""`imgfs completion`, in the shells themselves."""

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Done, refusal, succeeded

PROJECT = Path(__file__).parents[2]
BASH = """
set -eu
source completion.bash
COMP_LINE='{line}'
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
COMP_TYPE=9 COMPREPLY=()
_imgfs || true
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH_USER = """
fpath=($PWD $fpath)
autoload -Uz compinit; compinit -u -d zcompdump
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-[OAD]* ]]; then
        local -a found
        builtin compadd -O found "$@"
        print -rl -- $found >>found
    fi
    builtin compadd "$@"
}
look() { zle complete-word; print -n RE''ADY }
zle -N look
bindkey '^I' look
"""
"""Settings of a user: a Tab also writes all that is proposed to the file `found`."""
ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'source user.zsh; echo RE""ADY'
zpty -r shell output '*READY*'
zpty -n -w shell $'{line}\\t'
zpty -r shell output '*READY*'
cat found
"""


LAZILY = "source /usr/share/bash-completion/bash_completion"
SOURCED = "source completion.bash"
PROMPT = """bind -x '"\\C-x": printf "<<%s>>" "$READLINE_LINE"'; echo RE''ADY"""
"""Settings of a user of bash: control-X prints the line as it is; then the shell says READY."""


@pytest.fixture
def user(tmp_path: Path, stock: Callable[..., None], store: Path) -> dict[str, str]:
    """Return the environment of a user with two images and the program on the path."""
    stock(archives.docker_archive((ImageParts(), ["app:1", "other:2"])))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/imgfs"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={PROJECT} exec {sys.executable} -m imgfs "$@"\n')
    program.chmod(0o755)
    return {
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "IMGFS_STORE": str(store),
        "XDG_DATA_HOME": str(tmp_path / "share"),
    }


@pytest.fixture
def completed(
    tmp_path: Path, user: dict[str, str], inside: Callable[..., Done]
) -> Callable[[str, str], list[str]]:
    """Return a function that completes a line in a shell, and returns what the shell proposes."""

    def run(shell: str, line: str) -> list[str]:
        if not (found := shutil.which(shell)):
            pytest.skip(f"{shell} is not installed")
        script = succeeded(inside("completion", shell)).out
        if shell == "bash":
            (tmp_path / "completion.bash").write_bytes(script)
            words = " ".join(f"'{word}'" for word in line.split(" "))
            command = ["-c", BASH.format(line=line, words=words)]
        elif shell == "zsh":
            (tmp_path / "_imgfs").write_bytes(script)
            (tmp_path / "user.zsh").write_text(ZSH_USER)
            (tmp_path / "found").write_text("")
            command = ["-f", "-c", ZSH.format(line=line)]
        else:
            folder = tmp_path / ".config/fish/completions"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "imgfs.fish").write_bytes(script)
            command = ["-c", f"complete -C '{line}'"]
        done = subprocess.run(
            [found, *command], cwd=tmp_path, env=user, capture_output=True, check=True
        )
        lines = done.stdout.decode().splitlines()
        return [word.partition("\t")[0] for text in lines for word in text.split("  ") if word]

    return run


def typed(directory: Path, user: dict[str, str], settings: str, line: str) -> str:
    """Type a line and a Tab into an interactive bash, and return the line that is there then."""
    child, terminal = pty.fork()
    if not child:
        try:
            os.chdir(directory)
            os.execve(shutil.which("bash") or "", ["bash", "--norc", "--noprofile", "-i"], user)
        finally:
            os._exit(127)
    try:
        with open(terminal, "r+b", buffering=0) as shell:
            shell.write(f"{settings}; {PROMPT}\n".encode())
            wait_for(shell, rb"READY\r?\n")
            shell.write(f"{line}\t\x18".encode())
            return wait_for(shell, rb"<<(.*?)>>").decode()
    finally:
        os.waitpid(child, 0)  # it ends with its terminal


def wait_for(shell: BinaryIO, pattern: bytes) -> bytes:
    """Read until the pattern has come, and return what it matches."""
    output = b""
    while not (match := re.search(pattern, output)):
        output += shell.read(4096)
    return match[match.re.groups]


SHELLS = ("bash", "zsh", "fish")


@pytest.mark.parametrize("settings", [LAZILY, SOURCED])
@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("imgfs rm app:", "imgfs rm app:1 "),
        ("imgfs --store=%s rmi oth", "imgfs --store=%s rmi other:2 "),
    ],
)
def test_bash_completes_the_first_word_that_is_typed(
    tmp_path: Path,
    user: dict[str, str],
    inside: Callable[..., Done],
    settings: str,
    line: str,
    whole: str,
) -> None:
    if not Path(LAZILY.split()[1]).exists():
        pytest.skip("bash-completion is not installed")
    folder = tmp_path / "share/bash-completion/completions"
    folder.mkdir(parents=True)
    (folder / "imgfs").write_bytes(succeeded(inside("completion", "bash")).out)
    (tmp_path / "completion.bash").symlink_to(folder / "imgfs")
    store = user["IMGFS_STORE"]
    if "%s" in line:
        del user["IMGFS_STORE"]
        line, whole = line % store, whole % store
    assert typed(tmp_path, user, settings, line) == whole


@pytest.mark.parametrize("shell", SHELLS)
def test_commands(completed: Callable[[str, str], list[str]], shell: str) -> None:
    found = " ".join(completed(shell, "imgfs im"))
    assert "images" in found
    assert "import" in found
    assert "umount" not in found


@pytest.mark.parametrize("shell", SHELLS)
def test_options(completed: Callable[[str, str], list[str]], shell: str) -> None:
    assert "--trim-index" in " ".join(completed(shell, "imgfs save --tr"))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("command", ["rm other:2", "history"])
def test_names_of_images(
    completed: Callable[[str, str], list[str]], shell: str, command: str
) -> None:
    found = " ".join(completed(shell, f"imgfs {command} ap")).replace("\\", "")
    assert "app:1" in found
    assert "other:2" not in found


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("line", ["--store={} rm a", "rm --store {} a"])
def test_names_are_those_of_the_store_on_the_line(
    completed: Callable[[str, str], list[str]], user: dict[str, str], shell: str, line: str
) -> None:
    store = user.pop("IMGFS_STORE")
    assert any(
        "app:1" in word.replace("\\", "")
        for word in completed(shell, f"imgfs {line.format(store)}")
    )


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "whole"), [("imgfs unm", "unmount"), ("imgfs help his", "history")]
)
def test_aliases_and_the_commands_that_help_explains(
    completed: Callable[[str, str], list[str]], shell: str, line: str, whole: str
) -> None:
    assert whole in " ".join(completed(shell, line))


@pytest.mark.parametrize("shell", SHELLS)
def test_arguments_are_named_as_in_the_usage_line(inside: Callable[..., Done], shell: str) -> None:
    assert b"word0" not in inside("completion", shell).out


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_files_and_directories(
    completed: Callable[[str, str], list[str]], tmp_path: Path, shell: str
) -> None:
    (tmp_path / "archive.tar").touch()
    (tmp_path / "archives").mkdir()
    assert "archive.tar" in completed(shell, "imgfs load arch")
    assert "archive.tar" not in completed(shell, "imgfs mount arch")
    assert any("archives" in word for word in completed(shell, "imgfs mount arch"))


def test_an_unknown_shell_is_refused(inside: Callable[..., Done]) -> None:
    assert "expected one of bash, zsh, fish" in refusal(inside("completion", "tcsh"), status=2)
