"""`imgfs completion`, in the shells themselves."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Done, refusal

PROJECT = Path(__file__).parents[2]
BASH = """
set -eu
source completion.bash
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
COMP_TYPE=9 COMPREPLY=()
_shtab_imgfs || true
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


@pytest.fixture
def completed(
    tmp_path: Path, stock: Callable[..., None], store: Path, inside: Callable[..., Done]
) -> Callable[[str, str], list[str]]:
    """Return a function that completes a line in a shell, and returns what the shell proposes."""
    stock(archives.docker_archive((ImageParts(), ["app:1", "other:2"])))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/imgfs"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={PROJECT} exec {sys.executable} -m imgfs "$@"\n')
    program.chmod(0o755)
    environment = {
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "IMGFS_STORE": str(store),
    }

    def run(shell: str, line: str) -> list[str]:
        if not (found := shutil.which(shell)):
            pytest.skip(f"{shell} is not installed")
        script = inside("completion", shell).out
        if shell == "bash":
            (tmp_path / "completion.bash").write_bytes(script)
            words = " ".join(f"'{word}'" for word in line.split(" "))
            command = ["-c", BASH.format(words=words)]
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
            [found, *command], cwd=tmp_path, env=environment, capture_output=True, check=True
        )
        lines = done.stdout.decode().splitlines()
        return [word.partition("\t")[0] for text in lines for word in text.split("  ") if word]

    return run


SHELLS = ("bash", "zsh", "fish")


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
@pytest.mark.parametrize("command", ["save", "rm", "history", "export"])
def test_names_of_images(
    completed: Callable[[str, str], list[str]], shell: str, command: str
) -> None:
    found = " ".join(completed(shell, f"imgfs {command} ap")).replace("\\", "")
    assert "app:1" in found
    assert "other:2" not in found


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
