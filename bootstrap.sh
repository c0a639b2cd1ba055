#!/bin/sh
# Two things in one command: nbprovision's own virtual environment (made once, mended where it is broken), then
#
#     nbprovision run PLAYBOOK [options of run]
#
# Everything is in place on most starts, so the way there is short: no Python is started but the tool's own. Messages
# go to standard error. The exit status is the run's (docs/reference.md); before it, 2 where the tool could not be
# installed and 5 where this script was called wrongly.
# shellcheck disable=SC3013,SC3067  # -ef and -O are not POSIX, but every sh of Linux has them

version=0.1.0

usage() {
    cat >&2 <<END
usage: sh bootstrap.sh PLAYBOOK [options of nbprovision run]
       sh bootstrap.sh --find-python                     the Python that would be used
       sh bootstrap.sh --make-venv DIR PIP_ARGUMENT...   a virtual environment with these packages

  NBPROVISION_SOURCE   what to install: a clone, a wheel, a folder of wheels, a requirement;
                       default: the clone or wheel beside this script, else nbprovision==$version
  NBPROVISION_PYTHON   the Python to use: CPython 3.10 or newer
  NBPROVISION_HOME     where the tool lives (or --home DIR)
  pip's configuration (PIP_*, pip.conf) is honoured: index, certificates, proxy.
END
    exit 5
}

say() { printf 'nbprovision: %s\n' "$*" >&2; }

fail() { # STATUS WHAT-FAILED WHY WHAT-TO-DO
    say "$2"
    [ -z "$3" ] || printf '  %s\n' "$3" >&2
    [ -z "$4" ] || printf '  %s\n' "$4" >&2
    exit "$1"
}

# Where things are.

# A lifecycle script has no HOME.
set_user_home() {
    [ -n "${HOME-}" ] && return
    me=$(id -u)
    while IFS=: read -r _ _ uid _ _ folder _; do
        [ "$uid" = "$me" ] && HOME=$folder
    done </etc/passwd
    export HOME="${HOME:-/}"
}

# The tool's home folder, by the rule of nbprovision/system/places.py; an option --home wins.
set_home() {
    volume=/home/ec2-user/SageMaker
    home=${NBPROVISION_HOME-}
    while [ $# -gt 0 ]; do
        case $1 in
        --home) home=${2-} ;;
        --home=*) home=${1#*=} ;;
        esac
        shift
    done
    if [ -z "$home" ]; then
        if [ -e /etc/opt/ml/sagemaker-notebook-instance-config.json ] ||
            { [ -d $volume ] && [ -e /opt/ml/metadata/resource-metadata.json ]; }; then
            home=$volume/.nbprovision
        else
            case ${XDG_STATE_HOME-} in
            /*) home=$XDG_STATE_HOME/nbprovision ;;
            *) home=$HOME/.local/state/nbprovision ;;
            esac
        fi
    fi
    case $home in
    "~"/*) home=$HOME/${home#??} ;;
    /*) ;;
    *) home=$PWD/$home ;;
    esac
    marker=$home/venv/.complete
}

# What to install ($source, given to pip), and what tells it from any other state of it ($wanted).
set_source() {
    case $0 in
    */*) here=$(cd "${0%/*}" && pwd) ;;
    *) here=$PWD ;;
    esac
    source=${NBPROVISION_SOURCE-}
    links=
    if [ -z "$source" ] && [ -f "$here/nbprovision/__main__.py" ] && [ -f "$here/pyproject.toml" ]; then
        source=$here
    elif [ -z "$source" ]; then
        source=nbprovision==$version
        for wheel in "$here"/nbprovision-*.whl; do [ ! -f "$wheel" ] || source=$wheel; done
    elif [ -d "$source" ] && [ ! -f "$source/pyproject.toml" ]; then
        for wheel in "$source"/nbprovision-*.whl; do :; done
        source=$wheel
    fi
    if [ -d "$source" ]; then # names and contents of all that goes into the package
        source=$(cd "$source" && pwd)
        wanted="source $(cd "$source" && cksum pyproject.toml scripts/* nbprovision/*.* \
            nbprovision/[!_]*/*.* nbprovision/[!_]*/[!_]*/*.* 2>/dev/null | cksum)"
        return
    fi
    case $source in
    *.whl)
        [ -f "$source" ] || fail 5 "there is no $source" "" \
            "NBPROVISION_SOURCE takes a clone, a wheel, a folder of wheels or a requirement."
        case $source in */*) links=${source%/*} ;; *) links=. ;; esac
        wanted="wheel $(cksum <"$source")"
        ;;
    *) wanted=$source ;;
    esac
}

# Is the environment there? nbprovision/lifecycle/own_environment.py tells how it is laid out, and writes the marker.

# Whether it is complete, and the one wanted. Sets $venv to its real path.
is_there() {
    [ -f "$marker" ] && [ -x "$home/venv/bin/python" ] || return 1
    { read -r installed && read -r installed_version && read -r stamp && read -r venv; } <"$marker" || return 1
    [ "$venv" -ef "$home/venv" ] || return 1
    # Standing alone, this script is content with its own version, wherever that was installed from.
    [ "$installed" = "$wanted" ] ||
        { [ -z "${NBPROVISION_SOURCE-}" ] && [ "$wanted" = "nbprovision==$installed_version" ]; }
}

# Whether neither the interpreter nor a file has changed since the marker was written; if so, whether it is sound still.
is_whole() {
    { [ "$(stat -L -c '%s %Y' "$venv/bin/python")" = "$stamp" ] && [ -z "$(find "$venv" -newer "$marker")" ]; } ||
        "$venv/bin/python" -I -m nbprovision.lifecycle.own_environment check "$venv" 2>/dev/null
}

# Root runs nothing that another user can write, and leaves nothing of root's in another user's folder.
refuse_foreign_home() {
    nearest=$home
    while [ ! -e "$nearest" ]; do
        nearest=${nearest%/*}
        nearest=${nearest:-/}
    done
    [ -O "$nearest" ] && { [ ! -e "$home/venv" ] || [ -O "$home/venv" ]; } && return
    [ -O / ] || [ -e "$home/venv" ] || return 0
    fail 5 "$home belongs to another user" "What is there runs with the rights of whoever starts it." \
        "Run this as that user (runuser -u USER -- sh $0 ...), or choose a folder of your own by --home DIR."
}

# Find a Python.

candidates() {
    if [ -n "${NBPROVISION_PYTHON-}" ]; then
        printf '%s\n' "$NBPROVISION_PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11 python3.10 python3.14; do
        IFS=:
        for folder in ${PATH-} /usr/local/bin /usr/bin; do
            case $folder in
            */envs/* | "$home"/*) ;; # somebody's work, or ours, and may be gone tomorrow
            *) printf '%s\n' "$folder/$name" ;;
            esac
        done
        unset IFS
    done
    printf '%s\n' "$HOME"/anaconda3/bin/python /home/ec2-user/anaconda3/bin/python /opt/conda/bin/python \
        "$HOME"/miniconda3/bin/python "$HOME"/miniforge3/bin/python "$HOME"/.pyenv/versions/3.1*/bin/python
    command -v python3
}

# Set $python to the first that will do.
find_python() {
    tried=
    while read -r candidate; do
        candidate=$(command -v "$candidate") || continue
        python=$("$candidate" -I -c '
import sys
print("is", sys.implementation.name, sys.version.split()[0])
assert sys.implementation.name == "cpython" and sys.version_info >= (3, 10)
import ctypes, fcntl, hashlib, ssl, venv, zlib
print(getattr(sys, "_base_executable", sys.executable))' 2>/dev/null) && python=${python#*
} && return
        tried="$tried $candidate ${python:-does not start};"
    done <<END
$(candidates)
END
    if [ -x /usr/bin/apt-get ]; then cure="apt-get install python3 python3-venv"; else cure="dnf install python3.12"; fi
    fail 2 "found no CPython 3.10 or newer with the modules venv and ssl" "${tried:+Tried:$tried}" \
        "Install one ($cure), or name one as NBPROVISION_PYTHON."
}

# Make the environment.

# Run pip on environment $1: the found Python's own, the one bundled with it, or one from the index (Debian's python3
# may have neither).
pip_into() {
    target=$1
    shift
    if "$python" -I -c 'import sys, pip; sys.exit([*map(int, pip.__version__.split(".")[:2])] < [22, 3])' 2>/dev/null; then
        "$python" -I -m pip --python "$target/bin/python" "$@"
    elif "$target/bin/python" -I -m ensurepip >/dev/null 2>&1; then
        "$target/bin/python" -I -m pip "$@"
    else
        "$python" -I - "$target/pip.whl" <<END && "$target/bin/python" "$target/pip.whl/pip" "$@"
$fetch_pip
END
    fi
}

# A virtual environment at $1, with what the other arguments tell pip.
make_venv() {
    folder=$1
    shift
    rm -rf "$folder"
    "$python" -I -m venv --without-pip "$folder" || return
    (   # Settings meant for other installs must not lead this one astray. Byte code makes every later start fast.
        unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_REQUIRE_VIRTUALENV PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH
        export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
        pip_into "$folder" install --quiet "$@"
    )
}

# Fill the slot that is not in use, then turn the link to it.
install() {
    slot=$home/venv.1
    [ ! "$slot" -ef "$home/venv" ] || slot=$home/venv.2
    say "making its own environment in $home with $python (once)"
    trap 'rm -rf "$slot"; exit 130' INT
    trap 'rm -rf "$slot"; exit 143' HUP TERM
    if [ -n "$links" ] && make_venv "$slot" --no-index --find-links "$links" "$source" >/dev/null 2>&1; then
        : # a folder with all the wheels needs no index
    elif ! errors=$(make_venv "$slot" ${links:+--find-links "$links"} "$source" 2>&1); then
        rm -rf "$slot"
        fail 2 "could not install $source" "$(printf '%s\n' "$errors" | tail -n 8)" \
            "Look at pip's index (pip config list), or give a folder with all the wheels as NBPROVISION_SOURCE."
    fi
    "$slot/bin/python" -I -m nbprovision.lifecycle.own_environment finish "$slot" "$home" "$wanted" ||
        fail 2 "what was installed in $slot does not work" "" "Try another Python, named as NBPROVISION_PYTHON."
}

# Under a lock, so that two at once do it once; flock on a descriptor of this shell holds until the shell lets it go.
prepare() (
    umask 022
    find_python
    { mkdir -p "$home" && exec 9>>"$home/bootstrap.lock"; } ||
        fail 2 "cannot write in $home" "" "Choose another folder by --home DIR."
    "$python" -I -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 9>&9 2>/dev/null || {
        say "waiting for another bootstrap, at work in $home"
        "$python" -I -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' 9>&9 || exit 2
    }
    { is_there && is_whole; } || install
)

# The newest pip of the configured index (PEP 503), to the file argv[1].
fetch_pip='
import base64, configparser, hashlib, html, os, re, ssl, sys, urllib.parse, urllib.request as web
files = ["/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf", os.environ.get("PIP_CONFIG_FILE", "")]
conf = configparser.RawConfigParser()
conf.read(map(os.path.expanduser, files))
def setting(name):
    return os.environ.get("PIP_" + name.upper().replace("-", "_")) or conf.get("global", name, fallback=None)
context = ssl.create_default_context(cafile=setting("cert"))
def get(url):
    parts = urllib.parse.urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
    head = {"Authorization": "Basic " + token} if user else {}
    return web.urlopen(web.Request(parts._replace(netloc=host).geturl(), headers=head), context=context).read()
url = (setting("index-url") or "https://pypi.org/simple").rstrip("/") + "/pip/"
links = re.findall(r"href=\"([^\"]+/pip-([0-9.]+)-py3-none-any\.whl[^\"]*)", get(url).decode())
link = html.unescape(max(links, key=lambda found: [*map(int, found[1].split("."))])[0])
wheel, _, sha256 = urllib.parse.urljoin(url, link).partition("#sha256=")
data = get(wheel)
assert sha256 in ("", hashlib.sha256(data).hexdigest()), "the index gave another pip than it promised"
open(sys.argv[1], "wb").write(data)
'

# Do it.

set_user_home
set_home "$@"
case ${1-} in
'' | -h | --help) usage ;;
--find-python)
    find_python
    printf '%s\n' "$python"
    exit
    ;;
--make-venv)
    [ $# -gt 2 ] || usage
    shift
    [ ! -e "$1" ] || [ -f "$1/pyvenv.cfg" ] || fail 5 "$1 is there, and is no virtual environment" "" "Give another path."
    find_python
    make_venv "$@"
    exit
    ;;
esac
refuse_foreign_home
set_source
{ is_there && is_whole; } || { prepare && is_there; } || exit
# Not through the script's first line: a very long path, or one with a space, cannot stand there.
exec "$venv/bin/python" "$venv/bin/nbprovision" run "$@"
