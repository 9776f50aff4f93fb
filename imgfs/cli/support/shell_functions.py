"""Functions in the languages of the shells, which complete what shtab cannot: the names of the
images in the store that the command line names.
"""

from typing import Final

_IMAGES = "images --filter dangling=false --format '{{.Repository}}:{{.Tag}}' 2>/dev/null"

_LIST = f'_imgfs_list() {{ imgfs "$@" {_IMAGES}; }}\n'

BASH: Final = (
    _LIST
    + r"""
_imgfs_names() { compgen -W "$(_imgfs_list "${_imgfs_store[@]}")" -- "$1"; }

# Completes the words that the user sees: bash splits them at each colon, equals sign and at sign
# that COMP_WORDBREAKS holds, and replaces only what follows the last one.
_imgfs() {
    local breaks=${COMP_WORDBREAKS//[!:=@]} rest=$COMP_LINE before='' piece gap word i
    local -a pieces=() words=() _imgfs_store=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        gap=${rest%%[![:space:]]*}
        if [[ -n $piece ]]; then
            gap=${rest%%"$piece"*}
            rest=${rest#*"$piece"}
        fi
        if [[ $i -gt 0 && -z $gap && ($piece == [:=@]* || $before == *[:=@]) ]]; then
            pieces[-1]+=$piece
        else
            pieces+=("$piece")
        fi
        before=$piece
    done
    for word in "${pieces[@]}"; do
        if [[ $word == --*=* ]]; then
            words+=("${word%%=*}" "${word#*=}")
        else
            words+=("$word")
        fi
    done
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        [[ ${words[i - 1]} == --store ]] || continue
        word=${words[i]//[\"\'\\]}
        _imgfs_store=(--store "${word/#\~\//$HOME/}")
    done
    word=${words[-1]}
    local -a COMP_WORDS=("${words[@]}")
    local COMP_CWORD=$((${#words[@]} - 1))
    _shtab_imgfs "$@"
    [[ -z $breaks ]] || COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*[$breaks]}"}"}")
}
"""
)

ZSH: Final = (
    _LIST
    + r"""
_imgfs_names() {
    local -a typed=("${(@Q)${(z)LBUFFER}}") store names
    local word before
    for word in "${(@)typed[typed[(I)(*/|)imgfs],-1]}"; do
        [[ $before == --store ]] && store=(--store "${word/#\~\//$HOME/}")
        [[ $word == --store=* ]] && store=(--store "${${word#*=}/#\~\//$HOME/}")
        before=$word
    done
    names=("${(f)"$(_imgfs_list $store)"}")
    compadd -a names
}
"""
)

FISH: Final = (
    f"function __imgfs_list; imgfs $argv {_IMAGES}; end"
    r"""
function __imgfs_names
    set -l typed (commandline -opc)
    set -l typed (string replace -r -- '^--store=' '--store\n' $typed | string split '\n')
    set -l store
    if set -l at (contains -i -- --store $typed)
        set store --store (string replace -r '^~/' "$HOME/" -- $typed[(math $at + 1)])
    end
    __imgfs_list $store
end
"""
)
