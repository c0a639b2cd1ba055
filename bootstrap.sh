#!/bin/sh
# nbprovision's own virtual environment (made once, mended where it is broken), then nbprovision run "$@".
# Where all is in place, which is at most starts, no Python is started but the tool's own.
# The exit status is the run's (docs/reference.md); or 2: could not be installed, 5: called wrongly.
# shellcheck disable=SC3013,SC3067  # -ef and -O are not POSIX, but every sh of Linux has them

version=0.1.0

usage() {
    cat >&2 <<END
usage: sh bootstrap.sh PLAYBOOK [options of nbprovision run]
       sh bootstrap.sh --make-venv DIR PACKAGE...   (a virtual environment with these packages)
  NBPROVISION_SOURCE  what to install: a clone, a wheel, a folder of wheels, a requirement;
                      default: the clone or wheel beside this script, else nbprovision==$version
  NBPROVISION_PYTHON  the Python to use: CPython 3.10 or newer
  NBPROVISION_HOME    where the tool lives (or --home DIR)
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

# The tool's home folder, by the rule of nbprovision/system/places.py; --home wins.
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
        for wheel in "$source"/nbprovision-*.whl; do source=$wheel; done
    fi
    if [ -d "$source" ]; then # names and contents of all that goes into the package
        source=$(cd "$source" && pwd)
        wanted="source $(cd "$source" && cksum pyproject.toml scripts/* nbprovision/*.* \
            nbprovision/[!_]*/*.* nbprovision/[!_]*/[!_]*/*.* 2>/dev/null | cksum)"
        return
    fi
    case $source in
    *.whl)
        [ -f "$source" ] || fail 5 "there is no $source" "" "See sh $0 --help for what NBPROVISION_SOURCE takes."
        links=$(cd "$(dirname "$source")" && pwd)
        source=$links/${source##*/}
        wanted="wheel $(cksum <"$source")"
        ;;
    *) wanted=$source ;;
    esac
}

# Whether the environment is complete, and the one wanted. Sets $venv to its real path. How it is laid out, and what
# the marker says, tells nbprovision/lifecycle/own_environment.py.
is_there() {
    [ -f "$marker" ] && [ -x "$home/venv/bin/python" ] || return 1
    { read -r installed && read -r installed_version && read -r stamp && read -r venv; } <"$marker" || return 1
    [ "$venv" -ef "$home/venv" ] || return 1
    # Alone, this script is content with its own version.
    [ "$installed" = "$wanted" ] ||
        { [ -z "${NBPROVISION_SOURCE-}" ] && [ "$wanted" = "nbprovision==$installed_version" ]; }
}

# Whether nothing in it has changed since it was marked; else whether it is sound still.
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
        "Run this as that user (runuser -u USER -- sh $0 ...), or give another --home DIR."
}

candidates() {
    [ -z "${NBPROVISION_PYTHON-}" ] || { echo "$NBPROVISION_PYTHON" && return; }
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
        "$HOME"/.pyenv/versions/3.1*/bin/python
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
import ctypes, fcntl, ssl, venv, zlib
print(sys._base_executable)' 2>/dev/null) && python=${python#*
} && return
        tried="$tried $candidate ${python:-does not start};"
    done <<END
$(candidates)
END
    fail 2 "found no CPython 3.10 or newer with the modules venv and ssl" "${tried:+Tried:$tried}" \
        "Install one (apt-get install python3-venv, dnf install python3.12), or name one as NBPROVISION_PYTHON."
}

# A virtual environment at $1, with what the other arguments tell uv or pip.
make_venv() {
    folder=$1
    shift
    "$python" -I -m venv --without-pip --clear "$folder" || return
    (   # settings for other installs; byte code makes later starts fast
        unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_REQUIRE_VIRTUALENV PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH
        export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
        said=$("$python" -I -c "$with_uv" "$folder" "$@" 2>&1) && exit
        is_full "$said" || ! with_pip "$@" >/dev/null 2>&1 || exit 0
        echo "$said" | tail -n 8 >&2
        exit 1
    )
}

# No other way finds the disk larger.
is_full() { case $1 in *"os error 28"* | *"No space left"*) ;; *) return 1 ;; esac; }

# Where an index asks for what the lines below do not know (a keyring, a client's certificate).
with_pip() {
    if "$folder/bin/python" -I -m ensurepip; then
        "$folder/bin/python" -I -m pip install "$@"
    else # Debian's python3 has a pip of its own, or none
        "$python" -I -m pip --python "$folder/bin/python" install "$@"
    fi
}

# uv, from the folder of wheels or pip's index (PEP 503), run with pip's settings: a third of pip's time, and no pip.
with_uv='
import base64, configparser, glob, hashlib, html, os, re, subprocess, sys, tempfile, zipfile
from urllib import parse, request
sys.tracebacklimit = 0
venv, *args = sys.argv[1:]
env = os.environ
conf = configparser.RawConfigParser()
files = ["/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf", env.get("PIP_CONFIG_FILE", "")]
conf.read(map(os.path.expanduser, files))
for pip, uv in zip(
    ("index-url", "extra-index-url", "find-links", "trusted-host", "cert"),
    ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_INSECURE_HOST", "SSL_CERT_FILE"),
):
    value = env.get("PIP_" + pip.upper().replace("-", "_"))
    value = value or conf.get("install", pip, fallback=conf.get("global", pip, fallback=None))
    if value:
        env[uv] = ("," if pip == "find-links" else " ").join(value.split())
def get(url):
    parts = parse.urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    token = base64.b64encode(parse.unquote(user).encode()).decode()
    head = {"Authorization": "Basic " + token} if user else {}
    return request.urlopen(request.Request(parts._replace(netloc=host).geturl(), headers=head), timeout=60).read()
libc = "musl" if glob.glob("/lib/ld-musl*") else "many"
name = r"uv-([0-9.]+)-py3-none-[^\"/#]*%slinux[^\"/#]*_%s\.whl" % (libc, os.uname().machine)
folder = args[args.index("--find-links") + 1] if "--find-links" in args else "/dev/null"
wheels = [path for path in glob.glob(folder + "/uv-*") if re.search(name, path)]
with tempfile.TemporaryDirectory(dir=venv) as scratch:
    if not wheels and "--no-index" not in args:
        url = env.get("UV_DEFAULT_INDEX", "https://pypi.org/simple").rstrip("/") + "/uv/"
        links = re.findall("href=\"([^\"]*" + name + "[^\"]*)", get(url).decode())
        link = max(links, key=lambda link: [*map(int, link[1].split("."))])[0]
        link, _, sha256 = parse.urljoin(url, html.unescape(link)).partition("#sha256=")
        wheels = [scratch + "/" + re.search(name, link)[0]]
        data = get(link)
        assert sha256 in ("", hashlib.sha256(data).hexdigest())
        open(wheels[0], "wb").write(data)
    with zipfile.ZipFile(wheels[0]) as wheel:
        (uv,) = [path for path in wheel.namelist() if path.endswith("/scripts/uv")]
        uv = wheel.extract(uv, scratch)
    os.chmod(uv, 0o755)
    what = "pip install --quiet --compile-bytecode --link-mode copy --index-strategy unsafe-best-match --python"
    sys.exit(subprocess.call([uv, *what.split(), venv + "/bin/python", wheels[0], *args], cwd="/"))
'

# Fill the slot that is not in use, then turn the link to it.
install() {
    slot=$home/venv.1
    [ ! "$slot" -ef "$home/venv" ] || slot=$home/venv.2
    say "making its environment in $home with $python (once)"
    errors=
    trap 'rm -rf "$slot"; exit 130' INT
    trap 'rm -rf "$slot"; exit 143' HUP TERM
    if [ -n "$links" ] && errors=$(make_venv "$slot" --no-index --find-links "$links" "$source" 2>&1); then
        : # a folder of all wheels needs no index
    elif is_full "$errors" || ! errors=$(make_venv "$slot" ${links:+--find-links "$links"} "$source" 2>&1); then
        rm -rf "$slot"
        fail 2 "could not install $source" "$errors" \
            "Is there room? Is pip's index right? NBPROVISION_SOURCE may name a folder with all the wheels."
    fi
    "$slot/bin/python" -I -m nbprovision.lifecycle.own_environment finish "$slot" "$home" "$wanted" ||
        fail 2 "what was installed does not work" "" "Try another Python, named as NBPROVISION_PYTHON."
}

# Under a lock, so that two at once do it once; the descriptor of this shell holds it.
prepare() (
    umask go-w
    find_python
    { mkdir -p "$home" && true >>"$home/bootstrap.lock"; } || fail 2 "cannot write in $home" "" "Choose another by --home DIR."
    exec 9>>"$home/bootstrap.lock"
    lock="import fcntl; fcntl.flock(9, fcntl.LOCK_EX"
    "$python" -I -c "$lock | fcntl.LOCK_NB)" 9>&9 2>/dev/null || {
        say "waiting for another bootstrap, at work in $home"
        "$python" -I -c "$lock)" 9>&9 || exit 2
    }
    { is_there && is_whole; } || install
)

command -v mkdir >/dev/null || PATH=${PATH:+$PATH:}/usr/bin:/bin
[ -n "${HOME-}" ] || HOME=$(getent passwd "$(id -u)" | cut -d: -f6) # a lifecycle script has none
export HOME
set_home "$@"
case ${1-} in
'' | -h | --help) usage ;;
--make-venv)
    [ $# -gt 2 ] || usage
    shift
    [ ! -e "$1" ] || [ -f "$1/pyvenv.cfg" ] || fail 5 "$1 is no virtual environment" "" "Give another path."
    find_python
    make_venv "$@"
    exit
    ;;
esac
refuse_foreign_home
set_source
{ is_there && is_whole; } || { prepare && is_there; } || exit
# Not by its first line, where a path with a space cannot stand.
exec "$venv/bin/python" "$venv/bin/nbprovision" run "$@"
