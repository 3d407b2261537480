"""``assay completion``: the lines that make a shell complete verbs and options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, output_of
from assay.core.errors import BadInput

HOW: dict[str, str] = {
    "bash": 'eval "$(assay completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(assay completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "assay completion fish | source   # in ~/.config/fish/config.fish",
}
FILES: dict[str, tuple[str, str]] = {
    "bash": ("complete -o nosort -F", "complete -o nosort -o bashdefault -o default -F"),
    "zsh": (
        '    if [ -n "$completions" ]; then',
        '    if [ -z "$completions$completions_with_descriptions" ]; then\n        _path_files -f\n    fi\n\n'
        '    if [ -n "$completions" ]; then',
    ),
    "fish": ("complete --no-files --command", "complete --command"),
}
"""What click writes, and what is put in its place: a MODEL may be a file, so without an answer files are offered."""


@click.command()
@click.argument("shell", required=False, metavar="[bash|zsh|fish]")
@common
def command(**values: Any) -> int:
    """The completion script of SHELL; without SHELL, of the one that runs you.

    \b
    eval "$(assay completion bash)"     in ~/.bashrc
    eval "$(assay completion zsh)"      in ~/.zshrc, after compinit
    assay completion fish | source      in ~/.config/fish/config.fish
    """
    output = output_of("completion", values)
    shell = values["shell"] or Path(os.environ.get("SHELL", "")).name
    if shell not in HOW:
        asked = f"{shell!r} is not a shell that completions are there for" if shell else "which shell is not known"
        raise BadInput(f"{asked}: bash, zsh and fish are", remedy="assay completion bash")
    text = script(shell)
    output.say_lines(text.splitlines())
    output.result(extra={"shell": shell, "script": text, "how": HOW[shell]})
    return 0


def script(shell: str) -> str:
    """The shell's own code, as click writes it for a program called ``assay``, with files where it knows nothing.

    click asks bash for its version (4.4 or newer is needed) and warns by itself where it is older.
    """
    from click.shell_completion import get_completion_class

    from assay.cli.main import root

    found = get_completion_class(shell)
    if found is None:
        raise BadInput(f"click knows no completion for {shell!r}", remedy="pip install --upgrade click")
    theirs, ours = FILES[shell]
    return found(root, {}, "assay", "_ASSAY_COMPLETE").source().strip().replace(theirs, ours)
