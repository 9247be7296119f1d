"""What makes a shell complete `tl`: verbs, groups and their options."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tl_lightning.errors import nearest
from tl_lightning.options import groups, options

_BASH = """_tl() {
  local IFS=$'\\n'; COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
  COMPREPLY=($(tl completion words "${COMP_WORDS[@]:1:COMP_CWORD}"))
}
complete -o nospace -o default -F _tl tl"""
_ZSH = """_tl() { compadd -S '' -- ${(f)"$(tl completion words "${(@)words[2,CURRENT]}")"} }
compdef _tl tl"""
_FISH = "complete -c tl -f -a '(tl completion words (commandline -opc)[2..] (commandline -ct))'"
_SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(argv: Sequence[str]) -> None:
    """`tl completion bash` prints what to evaluate; `tl completion words ...` is what that asks for."""
    if argv and argv[0] == "words":
        print("\n".join(words(argv[1:])))
    elif argv and argv[0] in _SHELLS:
        print(_SHELLS[argv[0]])
    else:
        said = argv[0] if argv else ""
        sys.exit(f"error: there is no shell '{said}' here: {nearest(said, _SHELLS)}")


def words(typed: Sequence[str]) -> list[str]:
    """What the last of the words may become."""
    from tl_lightning.cli.verbs import VERBS

    *before, last = typed or [""]
    if not before:
        return [verb for verb in VERBS if verb.startswith(last)]
    group, equals, begun = last.partition("=")
    if not equals:
        return [f"{name}=" for name in groups() if name != "hydra" and name.startswith(last)]
    return [f"{group}={option}" for option in options(group) if option.startswith(begun)]
