# shellcheck shell=bash disable=SC2154,SC2030,SC2031 # root is the caller's, log the subshell's
# Sets up this machine and .venv so that the project runs. Sourced by the commands in scripts/, which
# first set `root`, the project's directory.
#
#   set_up PURPOSE [GROUP…]   makes .venv with the project and these dependency groups
#   lacking_commands COMMAND:PACKAGE…   prints the packages of the commands that are missing
#   add_packages PACKAGE…     installs Debian packages, as root or with sudo; fails if it cannot
#
# stdout belongs to the command, so messages go to stderr, and only failures are reported. A purpose is
# set up if .venv/.ready-PURPOSE holds `root`, since an environment cannot be moved, and the current text
# of the files that make a new set-up necessary when they change. The comparison starts no process,
# because every command pays for it.

export PATH # bash has set one if the caller, as mount may, gave none
venv=$root/.venv

ready() {
    local made project
    [[ -x $venv/bin/python && -r $venv/.ready-$1 ]] || return 1
    IFS= read -r -d '' made <"$venv/.ready-$1" || true
    read_project
    [[ $made == "$root"$'\n'"$project" ]]
}

read_project() {
    local part
    IFS= read -r -d '' project <"$root/pyproject.toml" || true
    for part in "$root"/{imgfs/fuse/native,engine/hashing}/*.[ch]; do
        IFS= read -r -d '' part <"$part" || true
        project+=$part
    done
}

set_up() {
    ready "$1" || (
        log=$(mktemp)
        trap 'rm -f "$log"' EXIT
        [[ ! -t 2 ]] || echo "imgfs: setting up, which may take a minute the first time…" >&2
        [[ -w $root ]] || fail "$root is not set up, and you may not write there: run this once as its owner"
        flock 9
        ready imgfs || make_environment
        ready "$1" || add_groups "$@"
    ) 9<"$root"
}

fail() {
    echo "imgfs: $1" >&2
    exit 1
}

logged() {
    "$@" >>"$log" 2>&1 </dev/null 9<&-
}

must() {
    logged "$@" && return
    tail -n 20 "$log" >&2
    fail "setting up failed at: $*"
}

make_environment() {
    local python made=""
    add_system_packages
    python=$(find_python) ||
        fail "there is no Python 3.11 or newer here with its venv module and headers; install one and try again"
    # Clearing it would empty the environment of another tree.
    [[ ! -L $venv ]] || fail "$venv is a symlink: it is not made anew from here"
    [[ ! -r $venv/.ready-imgfs ]] || IFS= read -r made <"$venv/.ready-imgfs"
    rm -f "$venv"/.ready-*
    [[ -x $venv/bin/python && $made == "$root" ]] || must "$python" -m venv --clear "$venv"
    # Editable by a plain path: the import hook of the default mode slows down every start.
    pip_install imgfs --config-settings editable_mode=compat --editable "$root"
    # imgfs works without gRPC, which would be compiled for an hour where it has no wheel.
    logged "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet \
        --only-binary grpcio,protobuf --config-settings editable_mode=compat \
        --editable "$root[containerd]" || true
    # Otherwise users who may not write here compile all of it at every start.
    logged "$venv/bin/python" -m compileall -q "$root/engine" "$root/imgfs" || true
}

add_groups() {
    local purpose=$1 requirements
    shift
    mapfile -t requirements < <("$venv/bin/python" -c '
import sys, tomllib
with open(sys.argv[1], "rb") as project:
    groups = tomllib.load(project)["dependency-groups"]
print(*(requirement for name in sys.argv[2:] for requirement in groups[name]), sep="\n")
' "$root/pyproject.toml" "$@")
    pip_install "$purpose" "${requirements[@]}"
}

# pip_install PURPOSE ARGUMENT…: installs with pip and marks the purpose as set up.
pip_install() {
    local purpose=$1 project
    shift
    read_project
    must "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet "$@"
    printf '%s\n%s' "$root" "$project" >"$venv/.new"
    mv "$venv/.new" "$venv/.ready-$purpose"
}

# Debian's own Python comes first: every user may run it, unlike one in a user's home.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.{14,13,12,11}; do
        "$candidate" -I -c '
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
if sys.version_info < (3, 11) or not os.path.exists(header):
    sys.exit(1)
print(os.path.realpath(sys.executable))
' 2>>"$log" </dev/null && return
    done
    return 1
}

# The packages that imgfs needs to build and to mount. Other installations of the same tools will do.
add_system_packages() {
    local lacking
    mapfile -t lacking < <(lacking_packages \
        python3 python3-venv python3-dev fuse3 libfuse3-dev pkg-config gcc libc6-dev)
    ((${#lacking[@]})) || return 0
    add_packages "${lacking[@]}" && return
    if find_python >/dev/null && type -P cc fusermount3 >/dev/null && pkg-config --exists fuse3; then
        return
    fi
    tail -n 20 "$log" >&2
    fail "packages are needed that could not be installed here; as root: apt-get install ${lacking[*]}"
}

lacking_packages() {
    local package
    for package; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
            echo "$package"
    done
}

lacking_commands() {
    local pair
    for pair; do
        PATH=$PATH:/usr/sbin:/sbin type -P "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done | sort -u
}

# Removes no package, and leaves out packages that this Debian release does not have.
add_packages() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600) known
    type -P apt-get >/dev/null || return 1
    if ((EUID != 0)); then
        type -P sudo >/dev/null || return 1
        apt=(sudo "${apt[@]}")
    fi
    logged "${apt[@]}" update || true
    mapfile -t known < <(apt-cache pkgnames | grep -Fx -f <(printf '%s\n' "$@"))
    ((${#known[@]})) || return 1
    logged "${apt[@]}" install --no-install-recommends --no-remove "${known[@]}"
}
