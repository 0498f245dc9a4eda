"""The shell's side of completion: it asks `warren completion candidates` for the words that may follow."""

from __future__ import annotations

BASH = """\
_{name}_completion() {{
    local IFS=$'\\n'
    COMPREPLY=($(COMP_SHELL=bash {program} completion candidates -- "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null))
    [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == */ ]] && compopt -o nospace
}}
complete -o default -F _{name}_completion {program}
"""

ZSH = """\
#compdef {program}
_{name}_completion() {{
    local -a candidates
    candidates=("${{(@f)$({program} completion candidates -- "${{(@)words[2,$CURRENT]}}" 2>/dev/null)}}")
    compadd -a candidates
}}
compdef _{name}_completion {program}
"""

FISH = """\
function _{name}_completion
    set -l words (commandline -opc) (commandline -ct)
    {program} completion candidates -- $words[2..-1] 2>/dev/null
end
complete -c {program} -f -a '(_{name}_completion)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def script(shell: str, program: str) -> str:
    """Write the script for a shell."""
    return SCRIPTS[shell].format(program=program, name=program.replace("-", "_"))
