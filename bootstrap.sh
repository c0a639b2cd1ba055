#!/bin/sh
# Create nbprovision's own virtual environment, or repair it, then call `nbprovision run "$@"`.
#
# A person runs it from a checkout. A lifecycle script runs it as the notebook user, with NBPROVISION_PHASE set. Then it
# keeps to a time budget, continues in the background after that, and falls back to the last working tool and playbook.
# If everything is in place, it starts no Python but the tool's own.
#
# The exit status is that of the run (docs/reference.md), or 2: could not install the tool, 5: wrong usage or refused.
# shellcheck disable=SC3013,SC3067  # -ef and -O are not POSIX, but every sh of Linux has them

version=0.1.0

# The possible sources of the tool; nbprovision/lifecycle/addresses.py has the same text.
sources="--tool FOLDER (of wheels), --tool WHEEL, --tool s3://BUCKET/PREFIX, --tool https://HOST/WHEEL --sha256 H, \
--index-url https://HOST/simple (an index that has nbprovision), or --tool pypi:nbprovision==VERSION --sha256 H"

usage() {
    cat >&2 <<END
usage: sh bootstrap.sh PLAYBOOK [where the tool comes from] [options of nbprovision run]
       sh bootstrap.sh --make-venv DIR PACKAGE...   (a virtual environment with these packages)
  PLAYBOOK            a file, or s3://BUCKET/KEY; a bundle if its name ends with .tar: a playbook, its packages and the tool;
                      or ring:s3://BUCKET/PREFIX/rings/RING: the release that a ring of a fleet points to
  where from          a checkout: --tool DIR; or $sources.
                      H is the sha256 of the wheel. Default: the bundle, or else the checkout or wheel beside this script
  NBPROVISION_SOURCE  the same as --tool: a checkout, a wheel, a folder of wheels, s3://BUCKET/PREFIX of one, a requirement
                      for the index that PIP_INDEX_URL names, or 'pypi:nbprovision==VERSION --hash=sha256:H'
  NBPROVISION_PYTHON  the Python to use: CPython 3.10 or newer
  NBPROVISION_HOME    where the tool lives (or --home DIR)
END
    exit 5
}

say() { printf 'nbprovision: %s\n' "$*" >&2; }

complain() { # WHAT-FAILED WHY WHAT-TO-DO
    say "$1"
    [ -z "$2" ] || printf '%s\n' "$2" | sed 's/^/  /' >&2
    [ -z "$3" ] || printf '  %s\n' "$3" >&2
}

fail() { # STATUS WHAT-FAILED WHY WHAT-TO-DO
    status=$1
    shift
    complain "$@"
    [ -z "$recording" ] || record failed "$status" "$1${2:+: $2}"
    exit "$status"
}

# ---- time

hundredths() { # SECONDS with two decimals, as in /proc/uptime, which setting the clock does not change
    echo $((${1%.*} * 100 + 1${1#*.} - 100))
}

left() { # whole seconds left of the budget
    read -r now _ </proc/uptime
    echo $((deadline - ($(hundredths "$now") - started) / 100))
}

within() { # SECONDS COMMAND...: its status, or 124
    limit=$1
    shift
    [ "$limit" -gt 0 ] || return 124
    timeout --kill-after=1 "$limit" "$@"
}

# ---- trust: root runs, reads and writes only what nobody but root can change

# Judge PATH, the folders above it, and each link in it, as nbprovision/system/trust.py does. Set $weak to the first
# part that another user can change. An entry of root's in a sticky folder of root's is safe. A missing entry is as safe
# as its folder.
trusted() {
    [ "$user" = 0 ] || return 0
    case $1 in /*) remaining=$1 ;; *) remaining=$PWD/$1 ;; esac
    walked=
    links=0
    judge_part / || return 1
    while [ -n "$remaining" ]; do
        remaining=${remaining#"${remaining%%[!/]*}"}
        part=${remaining%%/*}
        case $remaining in */*) remaining=${remaining#*/} ;; *) remaining= ;; esac
        case $part in
        '' | .) continue ;;
        ..)
            walked=${walked%/*}
            continue
            ;;
        esac
        walked=$walked/$part
        if [ ! -e "$walked" ] && [ ! -L "$walked" ]; then
            case /$remaining/ in */../*) return 1 ;; esac # it could lead anywhere
            return 0
        fi
        judge_part "$walked" || return 1
        [ -L "$walked" ] || continue
        links=$((links + 1))
        [ $links -le 40 ] || return 1
        target=$(readlink "$walked") || return 1
        remaining=$target/$remaining
        case $target in /*) walked= ;; *) walked=${walked%/*} ;; esac
    done
}

judge_part() { # PATH
    weak=$1
    status_line=$(stat -c '%u %g %A' "$1") || return 1
    case $status_line in
    '0 '*' l'* | '0 '*' c'* | '0 '*' d'*[tT]) return 0 ;; # a link, a device, a sticky folder
    '0 '*' '????????w*) return 1 ;;
    '0 0 '* | '0 '*' '?????-*) return 0 ;;
    esac
    return 1
}

# Print the entries of a search path that root may use.
trusted_entries() { # A:B:C
    kept=
    IFS=:
    for folder in $1; do
        case $folder in /*) ! trusted "$folder" || kept=${kept:+$kept:}$folder ;; esac
    done
    unset IFS
    printf '%s' "$kept"
}

refuse() { # WHAT: another user owns $weak
    owner=$(stat -c %U "$weak" 2>/dev/null) || owner=USER
    case $owner in root | UNKNOWN) owner=USER ;; esac
    fail 5 "root does not use $1" "$(stat -c '%n is %U:%G %A' "$weak" 2>/dev/null): another user can change it." \
        "Run this as that user: setsid --wait runuser -u $owner -- env HOME=~$owner sh $script ..., or use a copy that is root's."
}

# Create root's folder, and judge it again: in a shared folder another user may have been faster.
make_folder() { # DIR
    mkdir -p "$1" || return
    [ "$user" != 0 ] || { trusted "$1" && [ ! -k "$1" ]; } || refuse "$1"
}

# Judge the configuration files of pip, uv and aws, and the paths in their variables: these decide the sources.
refuse_foreign_settings() {
    [ "$user" = 0 ] || return 0
    trusted "$HOME" || refuse "the configuration in $HOME"
    config=${XDG_CONFIG_HOME:-$HOME/.config}
    named=$(env | sed -n 's/^\(PIP\|UV\|XDG\|SSL\|AWS\|TMPDIR\|REQUESTS\|CURL\)[A-Z_]*=//p' | tr ' ,:;' '[\n*]' | grep '^/')
    for kept in /etc/pip.conf /etc/xdg/pip/pip.conf /etc/uv/uv.toml /etc/xdg/uv/uv.toml "$HOME/.pip/pip.conf" \
        "$HOME/.config/pip/pip.conf" "$config/pip/pip.conf" "$config/uv/uv.toml" $named; do
        trusted "$kept" || refuse "$kept"
    done
}

# Root uses no file of another user, and leaves none in another user's folder. Other users may not use the tool of
# another user.
refuse_what_is_foreign() {
    trusted "$script" || refuse "$script"
    refuse_foreign_settings
    trusted "$home" || refuse "$home"
    for kept in "$home/venv" "$home/lifecycle" "$home/cache" "$home/wheels"; do
        trusted "$kept" || refuse "$kept"
    done
    [ ! -e "$home/venv" ] || [ -O "$home/venv" ] ||
        fail 5 "$home belongs to another user" "Programs in it run with the rights of the user who starts them." \
            "Run this as that user, or give another --home DIR."
}

# Print files in FOLDER that another user than root can change. For deep links only the targets are judged.
foreign_file_in() { # FOLDER...
    find "$@" -maxdepth 2 -type l 2>/dev/null | while read -r link; do trusted "$link" || echo "$weak"; done | head -n 1
    find -L "$@" ! -type l \( ! -user 0 -o -perm -0002 -o -perm -0020 ! -group 0 \) -print 2>/dev/null | head -n 1
} # two lines are enough: callers only test whether there are any

# ---- places

# Set the tool's home folder by the rule of nbprovision/system/places.py; --home wins.
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
    own=$home/lifecycle
}

# Set $bundle to the file of a bundle, and $bundle_url to its place if that is a bucket.
set_bundle() { # PLAYBOOK
    bundle=
    bundle_url=
    case $1 in
    ring:*) ;;
    s3://*.tar)
        bundle=$own/bundle.tar
        bundle_url=$1
        ;;
    /*.tar) bundle=$1 ;;
    *.tar) bundle=$PWD/$1 ;;
    esac
}

# Set $ring to the URL of a ring's pointer, and $instance to the name that AWS has for this machine.
set_ring() { # PLAYBOOK
    ring=
    release=
    wanted_release=
    why_release=
    case $1 in
    ring:*) ring=${1#ring:} ;;
    *) return 0 ;;
    esac
    case $ring in
    s3://?*/rings/?*) ;;
    *) fail 5 "$1 is not a ring" "Its form is ring:s3://BUCKET/PREFIX/rings/RING." "Correct the URL." ;;
    esac
    instance=${NBPROVISION_INSTANCE-}
    [ -n "$instance" ] || instance=$(sed -n 's/.*"ResourceName" *: *"\([^"]*\)".*/\1/p' \
        /opt/ml/metadata/resource-metadata.json 2>/dev/null)
    is_instance "$instance" || {
        say "writes no report: '$(printf %.99s "$instance" | tr -cd '[:print:]')' is not the name of an instance"
        instance=
    }
}

is_instance() { # TEXT
    case $1 in '' | -* | *- | *[!A-Za-z0-9-]*) return 1 ;; esac
    [ ${#1} -le 63 ]
}

# The project does not own its name on pypi.org: a package of this name there is not the tool.
refuse_to_guess() {
    fail 5 "does not know what to install: neither a checkout nor a wheel of nbprovision is beside $script" "" \
        "Write --tool CHECKOUT or one of $sources. NBPROVISION_SOURCE takes the same."
}

refuse_source() { # WHAT WHY
    fail 5 "$1" "$2" "Write --tool CHECKOUT or one of $sources."
}

# Make $NBPROVISION_SOURCE of $tool, $sha256 and $index, as in a rendered script.
name_source() {
    [ -z "$index" ] || export PIP_INDEX_URL="$index"
    [ -z "$index" ] || tool=${tool:-nbprovision==$version}
    if [ -n "$sha256" ]; then
        sha256=$(printf %s "$sha256" | tr A-F a-f)
        is_sha256 "$sha256" ||
            fail 5 "--sha256 $sha256 is not a sha256" "It must have 64 digits and letters from a to f." \
                "Write what this prints: sha256sum nbprovision-$version-py3-none-any.whl"
        case $tool in
        pypi:*) tool="$tool --hash=sha256:$sha256" ;;
        https://*.whl) tool="nbprovision @ $tool#sha256=$sha256" ;;
        *)
            refuse_source "--sha256 has no meaning for --tool ${tool:-that is not given}" \
                "It is for a wheel from https:// or from the public index."
            ;;
        esac
    fi
    [ -z "$tool" ] || export NBPROVISION_SOURCE="$tool"
}

is_sha256() { # TEXT
    case ${#1}:$1 in 64:*[!0-9a-f]*) return 1 ;; 64:*) ;; *) return 1 ;; esac
}

# Refuse a source that is only the tool's name on the public index.
judge_source() {
    public="Whoever registers nbprovision on the public index could run their code here."
    case ${NBPROVISION_SOURCE-} in
    pypi:*)
        pinned=${NBPROVISION_SOURCE#pypi:nbprovision==}
        is_sha256 "${pinned#*" --hash=sha256:"}" || refuse_source "--tool $NBPROVISION_SOURCE has no hash" "$public"
        case ${pinned%%" --hash="*} in
        '' | *[!A-Za-z0-9.+!]*) refuse_source "--tool $NBPROVISION_SOURCE is not pypi:nbprovision==VERSION" \
            "Only this name and an exact version are possible." ;;
        esac
        ;;
    '' | s3://* | /* | ./* | ../*) ;;
    *://*.whl | http://* | https://*) refuse_source "--tool $NBPROVISION_SOURCE has no hash" \
        "Anybody who changes the file at that address could run code here." ;;
    *" @ "*) ;;
    nbprovision | nbprovision[!-0-9A-Za-z_./]*)
        [ ! -e "$NBPROVISION_SOURCE" ] || return 0
        case "${PIP_INDEX_URL:-none} ${PIP_EXTRA_INDEX_URL-}" in
        'none '* | *://pypi.org* | *[@.]pypi.org* | *://pypi.python.org*)
            refuse_source "--tool $NBPROVISION_SOURCE is a name on the public index" "$public"
            ;;
        esac
        ;;
    *.whl) ;;
    *) [ -e "$NBPROVISION_SOURCE" ] || refuse_source "$NBPROVISION_SOURCE does not exist" \
        "It is neither a file or folder here nor a requirement for nbprovision." ;;
    esac
}

# Set $source, the argument for pip; $wheels, the folder of wheels, if any; and $wanted, which identifies the source and
# its state.
set_source() {
    source=${NBPROVISION_SOURCE-}
    wheels=
    wheels_only=
    wheel=
    wheel_is_gone=
    if has_tool_of_bundle; then
        source=$own/bundle
        [ -z "${NBPROVISION_VERSION-}" ] || NBPROVISION_VERSION= # the bundle decides
    fi
    if [ -z "$source" ] && [ -f "$here/nbprovision/__main__.py" ] && [ -f "$here/pyproject.toml" ]; then
        source=$here
    elif [ -z "$source" ]; then
        for wheel in "$here"/nbprovision-*.whl; do [ ! -f "$wheel" ] || source=$here; done
        [ -n "$source" ] || is_complete "$home/venv" || refuse_to_guess
    fi
    case $source in
    s3://*) source=$home/wheels && mkdir -p "$source" ;;
    esac
    if [ -d "$source" ]; then
        source=$(cd "$source" && pwd)
        trusted "$source" || refuse "$source"
    fi
    if [ -f "$source/pyproject.toml" ]; then # names and contents of all files of the package
        [ "$user" != 0 ] || weak=$(foreign_file_in "$source/pyproject.toml" "$source/scripts" "$source/nbprovision")
        [ "$user" != 0 ] || [ -z "$weak" ] || refuse "$source"
        wanted="source $(cd "$source" && cksum pyproject.toml scripts/* nbprovision/*.* \
            nbprovision/[!_]*/*.* nbprovision/[!_]*/[!_]*/*.* 2>/dev/null | cksum)"
    elif [ -d "$source" ]; then # the requested version, or else the newest in pip's order
        wheels=$source
        # A folder with other wheels too should have all dependencies. Use no index then: waiting for an
        # unreachable one takes minutes.
        for wheel in "$wheels"/*.whl; do case ${wheel##*/} in nbprovision-*) ;; *.whl) wheels_only=1 ;; esac; done
        # shellcheck disable=SC2086  # without a version it is a pattern
        set -- "$wheels"/nbprovision-${NBPROVISION_VERSION:-*}-*.whl
        source=nbprovision${NBPROVISION_VERSION:+==$NBPROVISION_VERSION}
        wanted="wheel $(cat "$@" 2>/dev/null | cksum)"
        # If the wheel is missing, after a roll-back or a clean-up, the version installed from it is enough.
        [ -z "${NBPROVISION_VERSION-}" ] || [ -f "$1" ] || wheel_is_gone=1
        wheel=$(printf '%s\n' "$@" | sort -V | tail -n 1)
    else
        case $source in
        *.whl)
            wheels=$(cd "$(dirname "$source")" 2>/dev/null && pwd)
            source=$wheels/${source##*/}
            trusted "$source" || refuse "$source"
            wheel=$source
            wanted="wheel $(cksum 2>/dev/null <"$source")"
            ;;
        *) wanted=$source ;;
        esac
    fi
    [ "$user" != 0 ] || [ -z "$wheels" ] || weak=$(foreign_file_in "$wheels"/*.whl)
    [ "$user" != 0 ] || [ -z "$wheels" ] || [ -z "$weak" ] || refuse "$wheels"
}

# ---- the environment; nbprovision/lifecycle/own_environment.py describes its layout and its marker

# Whether SLOT is complete. Set $installed, $installed_version, $stamp and $venv, its real path.
is_complete() { # SLOT, or a link to one
    [ -f "$1/.complete" ] && [ -x "$1/bin/python" ] && [ -s "$1/bin/nbprovision" ] || return 1
    { read -r installed && read -r installed_version && read -r stamp && read -r venv; } <"$1/.complete" || return 1
    tool_python=
    [ "$venv" -ef "$1" ]
}

# Whether SLOT is complete and has the wanted source.
is_wanted() { # SLOT
    is_complete "$1" || return 1
    # If no checkout is beside it, this script accepts the installed tool.
    [ -z "$source" ] || [ "$installed" = "$wanted" ] ||
        { [ -n "$wheel_is_gone" ] && [ "$installed_version" = "$NBPROVISION_VERSION" ]; }
}

# Whether $venv has not changed since it was marked; otherwise, whether it is still intact.
is_whole() {
    if [ "$user" = 0 ]; then
        trusted "$venv/bin/python" || refuse "$venv/bin/python"
        weak=$(foreign_file_in "$venv")
        [ -z "$weak" ] || refuse "$venv"
    fi
    { [ "$(stat -L -c '%s %Y' "$venv/bin/python")" = "$stamp" ] && [ -z "$(find "$venv" -newer "$venv/.complete")" ]; } ||
        own_environment 30 check "$venv" >/dev/null
    case $? in
    0) ;;
    3) return 1 ;; # made by another Python, which the next image may have again
    *) rm -f "$venv/.complete" && return 1 ;; # the next run removes it
    esac
}

# Run it by its path: it must work even if other files of the tool are damaged, and with another Python.
own_environment() { # SECONDS ACTION VENV...
    limit=$1
    shift
    for module in "$venv"/lib/python3*/site-packages/nbprovision/lifecycle/own_environment.py; do
        within "$limit" "${tool_python:-$venv/bin/python}" -I "$module" "$@" 2>&1 || return
    done
}

turn() { # LINK SLOT: make HOME/LINK point to the slot, atomically
    [ "$(readlink "$home/$1")" != "${2##*/}" ] || return 0
    ln -sfn "${2##*/}" "$home/$1.new" && mv -fT "$home/$1.new" "$home/$1"
}

# Whether the wanted tool is installed: in the current slot or, after a roll-back, in the other one.
is_installed() {
    is_wanted "$home/venv" && is_whole && return
    for slot in "$home/venv.1" "$home/venv.2"; do
        [ ! "$slot" -ef "$home/venv" ] && is_wanted "$slot" && is_whole && turn venv "$venv" && return
    done
    return 1
}

is_ready() { has_bundle && has_release && is_installed; }

# Print the slot for the next install: never the one that last ended a run with 0.
spare_slot() {
    slot=$home/venv.1
    kept=$home/venv
    ! is_complete "$home/venv.good" || kept=$home/venv.good
    [ ! "$slot" -ef "$kept" ] || slot=$home/venv.2
}

candidates() {
    [ -z "${NBPROVISION_PYTHON-}" ] || { echo "$NBPROVISION_PYTHON" && return; }
    for name in python3 python3.13 python3.12 python3.11 python3.10 python3.14; do
        IFS=:
        for folder in ${callers_path-} /usr/local/bin /usr/bin; do
            case $folder in
            */envs/* | "$home"/*) ;; # an environment of the user, or ours: it may be deleted at any time
            *) printf '%s\n' "$folder/$name" ;;
            esac
        done
        unset IFS
    done
    printf '%s\n' "$HOME"/anaconda3/bin/python /home/ec2-user/anaconda3/bin/python /opt/conda/bin/python \
        "$HOME"/.pyenv/versions/3.1*/bin/python
    command -v python3
}

# Whether root may run the interpreter PROGRAM: it imports from the folders beside it before it does anything else.
is_trusted_python() { # PROGRAM
    [ "$user" = 0 ] || return 0
    trusted "$1" || return 1
    program=$(readlink -f "$1") || return 1
    is_trusted_prefix "${1%/*/*}" && is_trusted_prefix "${program%/*/*}"
}

is_trusted_prefix() { # PREFIX
    prefix=$1
    for library in "$prefix" "$prefix/pyvenv.cfg" "$prefix"/lib "$prefix"/lib/python3*; do
        [ ! -e "$library" ] || trusted "$library" || return 1
    done
    weak=$(foreign_file_in "$prefix"/lib/python3*)
    [ -z "$weak" ] || return 1
    [ ! -f "$prefix/pyvenv.cfg" ] || base=$(sed -n 's/^home *= *//p' "$prefix/pyvenv.cfg")
    [ ! -f "$prefix/pyvenv.cfg" ] || [ "${base%/*}" = "$prefix" ] || is_trusted_prefix "${base%/*}"
}

# Set $python to the first usable interpreter.
find_python() {
    tried=
    while read -r candidate; do
        candidate=$(command -v "$candidate") || continue
        is_trusted_python "$candidate" || {
            tried="$tried
$candidate: root does not run it, as $(stat -c '%n is %U:%G %A' "$weak" 2>/dev/null)"
            continue
        }
        python=$("$candidate" -I -S -c '
import sys
print("is", sys.implementation.name, sys.version.split()[0])
assert sys.implementation.name == "cpython" and sys.version_info >= (3, 10)
import ctypes, fcntl, importlib.util, os, site, ssl, venv, zlib
assert importlib.util.find_spec("ensurepip") or any(os.path.isdir(path + "/pip") for path in site.getsitepackages())
print(sys._base_executable)' 2>/dev/null) && python=${python#*
} && is_trusted_python "$python" && has_trusted_packages && return
        tried="$tried
$candidate ${python:-does not start}"
    done <<END
$(candidates)
END
    fail 2 "found no CPython 3.10 or newer with venv, ssl, and pip or ensurepip" "${tried:+Tried:$tried}" \
        "Install one (apt-get install python3-venv, dnf install python3.12), or name one as NBPROVISION_PYTHON."
}

# Whether only root can change the folders where $python looks for packages: Debian's and Amazon's have their own.
has_trusted_packages() {
    [ "$user" = 0 ] || return 0
    for packages in $("$python" -I -S -c 'import site; print(*site.getsitepackages())'); do
        trusted "$packages" || return 1
        weak=$(foreign_file_in "$packages")
        [ -z "$weak" ] || return 1
    done
}

# Create a virtual environment at $1, with the other arguments for uv or pip.
make_venv() {
    make_folder "$1" && folder=$(cd "$1" && pwd) && "$python" -I -S -m venv --without-pip --clear "$folder" || return
    shift
    downloads=${UV_CACHE_DIR:-$folder/uv}
    [ "$1" != --no-index ] || downloads=$folder/uv
    (   # settings meant for other installs; byte code makes later starts fast
        unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH UV_NO_VERIFY_HASHES
        export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
        own_pip=
        no_index=
        if take_settings && output=$(fetch_uv "$@" 2>&1); then
            output=$(with_uv "$@" 2>&1) && exit
            is_full "$output" || ! with_pip "$@" >/dev/null 2>&1 || exit 0
        fi
        # pip repeats the same lines for each attempt
        printf '%s\n' "$output" | sed 's/ (Retry([^)]*))//; s/<[^>]*>: //' | uniq | tail -n 8 >&2
        exit 1
    )
}

# Another way to install needs as much space.
is_full() { case $1 in *"os error 28"* | *"No space left"*) ;; *) return 1 ;; esac; }

have_own_pip() { said=$("$folder/bin/python" -I -m ensurepip 2>&1) && own_pip=1; }

pip() { # Debian's python3 has its own pip, or none
    if [ -n "$own_pip" ]; then "$folder/bin/python" -I -m pip "$@"; else "$python" -I -m pip "$@"; fi
}

# Settings of `pip install`, in a file or a variable, apply to `pip download` and uv too.
take_settings() {
    output=$(pip config list 2>&1) || {
        output="$python has no pip, and its ensurepip fails"
        have_own_pip || { output="$output: ${said##*
}" && return 1; }
        output=$(pip config list 2>&1) || return
    }
    for pair in index-url:UV_DEFAULT_INDEX extra-index-url:UV_INDEX find-links:UV_FIND_LINKS no-index:UV_NO_INDEX \
        trusted-host:UV_INSECURE_HOST cert:SSL_CERT_FILE; do
        key=${pair%:*}
        value=$(printf '%s\n' "$output" | sed -n "s/^global\.$key=/1/p; s/^install\.$key=/2/p; s/^:env:\.$key=/3/p" |
            sort | sed -n '$s/^..\(.*\).$/\1/p' | sed 's/\\n/ /g; s/^ *//')
        [ -n "$value" ] || continue
        export "PIP_$(printf %s "$key" | tr a-z- A-Z_)=$value"
        [ "$key" != find-links ] || value=$(printf %s "$value" | tr -s ' ' ,)
        export "${pair#*:}=$value"
    done
    case ${UV_NO_INDEX-} in [1TtYy]* | [Oo][Nn]) no_index=--no-index ;; esac
}

# Even a pip that is too old to install into another environment can fetch a wheel. uv is kept for later starts.
fetch_uv() { # ARGUMENTS
    case $1 in
    --no-index) set -- "$1" "$2" "$3" ;;
    --find-links) set -- "$1" "$2" ;;
    *) set -- ;;
    esac
    PIP_REQUIRE_HASHES=0 pip download --no-deps --only-binary uv --dest "$downloads" "$@" uv
}

# uv takes a third of pip's time.
with_uv() { # ARGUMENTS
    wheel_of_uv=$(printf '%s\n' "$downloads"/uv-*.whl | sort -V | tail -n 1)
    "$python" -I -S -m zipfile -e "$wheel_of_uv" "$folder/uv" || { rm -f "$wheel_of_uv" && return 1; }
    [ "$1" != --no-index ] || no_index=
    for uv in "$folder"/uv/uv-*.data/scripts/uv; do chmod +x "$uv"; done
    (cd / && "$uv" pip install --quiet --compile-bytecode --link-mode copy --verify-hashes \
        --index-strategy unsafe-best-match --python "$folder/bin/python" $no_index "$wheel_of_uv" "$@")
    set -- $?
    rm -rf "$folder/uv"
    return "$1"
}

# For an index with requirements that uv lacks (a keyring, a client's certificate).
with_pip() { # ARGUMENTS
    into=
    [ -n "$own_pip" ] || have_own_pip || into=$folder/bin/python
    case $* in
    "--requirement $own/tool.txt") # with one hash pip requires all hashes: install the tool first, then the rest
        pip download --no-deps --dest "$folder/tool" "$@" && pip ${into:+--python "$into"} install "$folder"/tool/*.whl &&
            rm -rf "$folder/tool"
        ;;
    *) pip ${into:+--python "$into"} install "$@" ;;
    esac
}

# Take the tool from the wheel named by path or hash, whatever the index has, and the rest from the index.
install_from_index() {
    set -- ${wheels:+--find-links "$wheels"} "${wheel:-$source}"
    case $source in
    pypi:*) # uv and pip read hashes from files only; building would run code
        mkdir -p "$own" && printf '%s\n' "--only-binary nbprovision" "${source#pypi:}" >"$own/tool.txt" || return
        set -- --requirement "$own/tool.txt"
        ;;
    esac
    make_venv "$slot" "$@"
}

# Fill the spare slot, then turn the link to it. Downloads stay in the tool's home until an install succeeds.
install() {
    [ -n "$source" ] || refuse_to_guess
    spare_slot
    if [ "$slot" -ef "$home/venv" ] && [ -f "$home/lock" ]; then
        "$python" -I -S -c "$lock_shared" <"$home/lock" 2>/dev/null ||
            fail 6 "a run is using $slot, the only slot that may be replaced" "" "Wait for it: nbprovision status"
    fi
    tool_python=
    rm -f "$slot/.complete" # a kill may interrupt what follows
    say "creating its environment in $home with $python (once)"
    errors=
    export UV_CACHE_DIR="${UV_CACHE_DIR:-$home/cache/install}"
    trap 'rm -rf "$slot"; exit 130' INT
    trap 'rm -rf "$slot"; exit 143' HUP TERM
    if [ -n "$wheels" ] && [ ! -f "$wheel" ]; then # no index may replace it
        fail 2 "could not install $source from $wheels" "It has no such wheel." "Put the wheel there."
    elif [ -n "$wheels" ] && errors=$(make_venv "$slot" --no-index --find-links "$wheels" "$source" 2>&1); then
        : # a folder of all wheels needs no index
    elif [ -n "$wheels_only" ] || is_full "$errors"; then
        rm -rf "$slot"
        cure="add missing wheels: pip download --find-links $wheels -d $wheels $wheel"
        ! has_tool_of_bundle || cure="make the bundle again for this machine's Python: nbprovision bundle PLAYBOOK -o FILE"
        fail 2 "could not install $source from $wheels" "$errors" "Check the free space, and $cure"
    elif ! more=$(install_from_index 2>&1); then
        rm -rf "$slot"
        fail 2 "could not install $source${wheels:+ from $wheels}" "$errors${errors:+
}$more" "Check the free space, pip's index and the hash. NBPROVISION_SOURCE may name a folder with all the wheels."
    fi
    venv=$slot
    reason=$(own_environment 600 finish "$slot" "$home" "$wanted") ||
        fail 2 "the installed tool does not work" "$reason" "Try another Python, named as NBPROVISION_PYTHON."
    rm -rf "$home/cache/install"
    trap - INT HUP TERM
    [ -z "$phase" ] || return 0
    link_command
    case :$callers_path: in
    *:"$HOME/.local/bin":*) say "the command is nbprovision" ;;
    *) say "the command is $HOME/.local/bin/nbprovision, on the PATH of most new terminals" ;;
    esac
}

# Link the command, for the PATH of terminals.
link_command() {
    mkdir -p "$home/bin" && ln -sfn ../venv/bin/nbprovision "$home/bin/nbprovision"
    [ -e "$HOME/.local/bin/nbprovision" ] ||
        { mkdir -p "$HOME/.local/bin" && ln -sfn "$home/bin/nbprovision" "$HOME/.local/bin/nbprovision"; }
} 2>/dev/null

# Under a lock, so that two processes do it once; a descriptor of this shell holds it.
prepare() (
    umask go-w
    find_python
    problem=$(mkdir -p "$home" 2>&1) || fail 2 "cannot write in $home" "${problem##*: }" "Choose another by --home DIR."
    make_folder "$home"
    [ -f "$home/bootstrap.lock" ] || rm -rf "$home/bootstrap.lock" # such as a pipe without a reader
    problem=$({ true >>"$home/bootstrap.lock"; } 2>&1) ||
        fail 2 "cannot write in $home" "${problem##*: }" "Choose another by --home DIR."
    recording=1
    exec 9>>"$home/bootstrap.lock"
    lock="import fcntl; fcntl.flock(9, fcntl.LOCK_EX"
    "$python" -I -S -c "$lock | fcntl.LOCK_NB)" 9>&9 2>/dev/null || {
        say "waiting for another bootstrap in $home"
        [ -z "$worker" ] || { say_to_caller 7 && : >"$own/.left.$$"; } # the caller need not wait for another process
        "$python" -I -S -c "$lock)" 9>&9 || exit 2
    }
    prepared=0
    if [ -n "$bundle" ]; then # without it, that of an earlier start serves, if there is one
        get_bundle || { prepared=$? && [ -n "$phase" ] && [ -f "$own/bundle/.complete" ]; } || exit $prepared
        set_source
    fi
    if [ -n "$ring" ]; then
        get_release || exit
        set_source
    fi
    is_installed || {
        # A release needs the bucket's wheels only if its version of the tool is not installed.
        [ -z "$ring" ] || { fetch_tool call_aws 600 && set_source; }
        record installing null ""
        install
    }
    exit $prepared
)

lock_shared="import fcntl; fcntl.flock(0, fcntl.LOCK_SH | fcntl.LOCK_NB)"

# ---- the record for `nbprovision status`

record() { # STATE STATUS MESSAGE
    trusted "$home" || return 0
    text=$(printf %s "$3" | tr '\n\t"' '   ' | tr -d '\134' | tr -d '\000-\037\177' | tr -s ' ' | head -c 500)
    {
        printf '{"state": "%s", "hook": "%s", "pid": %s, "boot": "%s", "host": "%s", "started": %s, "status": %s, ' \
            "$1" "$phase" $$ "$(cat /proc/sys/kernel/random/boot_id)" "$(uname -n)" "$(date +%s)" "$2"
        printf '"version": "%s", "playbook": "%s", "fallback": "%s", "message": "%s", "log": "%s"}\n' \
            "${installed_version:-$version}" "$shown_playbook" "$fallback" "$text" "$home/log/bootstrap.log"
    } 2>/dev/null >"$home/status.json.new" && chmod 600 "$home/status.json.new" &&
        mv -f "$home/status.json.new" "$home/status.json"
    # For JupyterLab, as in nbprovision/report/status_file.py and progress.py; the last line of the text names the author.
    case $user:$home in
    0:*) ;;
    *:"$volume"/*)
        case $1 in
        installing) show_in_jupyterlab working null ;;
        failed) show_in_jupyterlab failed "{\"message\": \"$text\"}" ;;
        esac
        [ "$1" != ok ] || [ -e "$volume/nbprovision-status.txt" ] || return 0
        printf '%s: %s (%s)%s\n%slog: %s\n' "$1" "${shown_playbook:-nbprovision}" "$(date '+%Y-%m-%d %H:%M')" \
            "${text:+: $text}" "bootstrap's log: $home/log/bootstrap.log
" "$home/log/nbprovision.log" >"$home/status.txt.new" && chmod 644 "$home/status.txt.new" &&
            mv -fT "$home/status.txt.new" "$volume/nbprovision-status.txt"
        ;;
    esac
} 2>/dev/null

# Write the file that JupyterLab's extension reads; docs/status.schema.json describes it.
show_in_jupyterlab() { # STATE ERROR
    now=$(date +%s)
    printf '{"format": 1, "state": "%s", "hook": "%s", "version": "%s", "playbook": "%s", "error": %s, "log": "%s", "started": %s, "updated": %s}\n' \
        "$1" "$phase" "${installed_version:-$version}" "$shown_playbook" "$2" "$home/log/nbprovision.log" "$now" "$now" \
        >"$home/status.volume.new" && chmod 644 "$home/status.volume.new" &&
        mv -fT "$home/status.volume.new" "$volume/nbprovision-status.json"
}

# ---- the run

# Run the tool. Install a damaged tool again, once. In a lifecycle hook, replace an invalid playbook by the last good
# one; that of a release is replaced with its whole release.
run_tool() { # PLAYBOOK OPTIONS...
    call_tool "$@"
    status=$?
    if [ $status -eq 1 ] && reason=$(own_environment 120 check --deep "$venv") && [ "$reason" != sound ]; then
        reason="own_environment.py is empty"
    fi
    if [ $status -eq 1 ] && [ "$reason" != sound ]; then
        say "the tool's environment is damaged, and is created again"
        printf '%s\n' "$reason" | tail -n 1 | sed 's/^/  /' >&2
        rm -f "$venv/.complete"
        if prepare && is_complete "$home/venv"; then
            call_tool "$@"
            status=$?
        fi
    fi
    case $1 in
    "$own"/release*) return $status ;;
    esac
    if [ $status -eq 4 ] && [ -n "$phase" ]; then
        call_tool "$@" --last-good
        status_of_last_good=$?
        if [ $status_of_last_good -ne 4 ]; then
            status=$status_of_last_good
            fall_back playbook
            explained=1 # the run has recorded the faults of the playbook
        fi
    fi
    return $status
}

# Run within the rest of the budget; after it, no caller waits.
call_tool() { # PLAYBOOK OPTIONS...
    ran=1
    [ ! -e "$own/.left.$$" ] || deadline=0 # the caller has left already
    if [ -n "$deadline" ]; then
        seconds=$(left)
        if [ "$seconds" -gt 0 ]; then set -- "$@" --deadline "$seconds"; else export NBPROVISION_BACKGROUND=1; fi
    fi
    [ -z "$fallback" ] || export NBPROVISION_FALLBACK="$fallback" # for the record
    case $1 in *.tar) set -- --bundle "$@" ;; esac
    # Not by its first line, which cannot have a path with a space.
    "${tool_python:-$venv/bin/python}" "$venv/bin/nbprovision" run "$@" 4>&-
}

fall_back() { # playbook or tool
    case $fallback in '' | "$1") fallback=$1 ;; *) fallback=both ;; esac
}

is_trusted_program() { # PATH: it and, for a script, its interpreter
    [ "$user" = 0 ] || return 0
    trusted "$1" || return 1
    first=$(head -c 200 "$1" 2>/dev/null | head -n 1 | tr -d '\000')
    case $first in
    '#!'*)
        first=${first#'#!'}
        is_trusted_python "${first%% *}"
        ;;
    esac
}

find_aws() {
    aws=$(command -v aws) || aws=$HOME/anaconda3/bin/aws
    is_trusted_program "$aws" || refuse "$aws"
}

# Files of a bucket are copied to the volume, and stay there. If an installed tool can replace them, `aws` must end
# within the first third of the budget.
ask_aws() { # ARGUMENTS
    limit=600
    if [ "${deadline:-0}" -gt 0 ] && is_complete "$home/venv"; then limit=$(($(left) - deadline * 2 / 3)); fi
    call_aws "$limit" "$@"
}

call_aws() { # SECONDS ARGUMENTS
    limit=$1
    shift
    AWS_MAX_ATTEMPTS=2 within "$limit" "$aws" --cli-connect-timeout 5 --cli-read-timeout 20 "$@" 2>&1 </dev/null
    status=$?
    [ $status -ne 124 ] || echo "aws did not end in time ($limit s)"
    return $status
}

complain_of_bucket() { # WHAT OUTPUT WHAT-IS-USED
    complain "cannot fetch $1" "$(printf '%s\n' "$2" | tail -n 3)" \
        "$3 Check the bucket's policy and the endpoint of the VPC."
}

# Keep wheels that the bucket no longer has: the fallback is an earlier version.
fetch_tool() { # ask_aws, or call_aws SECONDS
    case ${NBPROVISION_SOURCE-} in s3://*) find_aws ;; *) return 0 ;; esac
    mkdir -p "$home/wheels" 2>/dev/null
    problem=$("$@" s3 sync --only-show-errors --exclude '*' --include '*.whl' "${NBPROVISION_SOURCE%/}/" "$home/wheels") ||
        complain_of_bucket "the wheels from $NBPROVISION_SOURCE" "$problem" "Those of an earlier start are used."
}

fetch_playbook() { # URL
    find_aws
    playbook=$own/playbook.yml
    if mkdir -p "$own" && problem=$(ask_aws s3 cp --only-show-errors "$1" "$playbook.new"); then
        # A file with the same content keeps its time, which is a witness of the run.
        if cmp -s "$playbook.new" "$playbook"; then rm -f "$playbook.new"; else mv -f "$playbook.new" "$playbook"; fi
        return
    fi
    complain_of_bucket "the playbook from $1" "$problem" "The one of an earlier start is used."
    [ ! -f "$playbook" ] || fall_back playbook
}

with_playbook() { # FUNCTION PLAYBOOK OPTIONS...: fetch a playbook in a bucket first
    function=$1
    playbook=$2
    shift 2
    case $playbook in
    ring:*)
        describe_release
        [ -z "$release_locked" ] || set -- "$@" --locked
        playbook=$own/release/${release_playbook:-playbook.yml}
        [ -z "$release" ] || place_release || playbook=$own/releases/$release/files/$release_playbook
        ;;
    s3://*.tar) playbook=$bundle ;;
    s3://*) fetch_playbook "$playbook" ;;
    esac
    "$function" "$playbook" "$@"
}

# Whether the tool comes from the bundle.
has_tool_of_bundle() { [ -n "$bundle" ] && [ -z "${NBPROVISION_SOURCE-}" ]; }

# Whether the bundle is the one of the bucket and, if the tool comes from it, has been verified.
has_bundle() {
    [ -z "$bundle" ] || { is_fetched && { ! has_tool_of_bundle || is_unpacked; }; }
}

is_fetched() {
    [ -z "$etag" ] || { [ -f "$bundle" ] && read -r fetched <"$bundle.etag" && [ "$fetched" = "$bundle_url $etag" ]; }
} 2>/dev/null

# The file of which $own/bundle has the wheels is known by its size, times and inode.
is_unpacked() {
    read -r unpacked <"$own/bundle/.complete" && [ "$unpacked" = "$(identity_of "$bundle")" ]
} 2>/dev/null

identity_of() { TZ=UTC0 stat -L -c '%n %s %y %z %i' "$1"; } # FILE

# Set $etag, which identifies the bundle that the bucket has now; leave it empty if the bucket does not answer.
look_for_bundle() {
    etag=
    [ -n "$bundle_url" ] || return 0
    find_aws
    key=${bundle_url#s3://}
    if answer=$(ask_aws s3api head-object --bucket "${key%%/*}" --key "${key#*/}" --query ETag --output text); then
        etag=${answer##*
}
        return
    fi
    complain_of_bucket "the bundle from $bundle_url" "$answer" "The one of an earlier start is used."
    [ ! -f "$bundle" ] || fall_back playbook
}

# Get the bundle of the bucket, and the wheels of a bundle that has changed. On failure, those of an earlier start stay.
get_bundle() {
    file=$bundle
    is_fetched || { file=$bundle.new && fetch_bundle; } || return
    new=
    if has_tool_of_bundle && { [ "$file" != "$bundle" ] || ! is_unpacked; }; then
        new=$own/bundle.new
        problem="it does not exist, or cannot be read"
        if ! { [ -f "$file" ] && identity=$(identity_of "$file" 2>/dev/null) && problem=$(verify_bundle 2>&1); }; then
            refuse_bundle "$problem"
            return
        fi
    fi
    put_bundle || {
        complain "could not write in $own" "" "Free space: nbprovision clean"
        return 2
    }
}

fetch_bundle() {
    mkdir -p "$own" && rm -f "$file"*
    problem=$(call_aws 7200 s3 cp --only-show-errors "$bundle_url" "$file") && return
    rm -f "$file"*
    complain_of_bucket "the bundle from $bundle_url" "$problem" "The one of an earlier start stays in place."
    record failed 4 "cannot fetch the bundle from $bundle_url"
    return 4
}

refuse_bundle() { # WHY
    why=$(printf '%s\n' "$1" | tail -n 1)
    status=4
    cure="Nothing was changed. Copy it again from the machine that made it, and compare sha256sum on both."
    [ -e "$file" ] || cure="Correct its path; nbprovision bundle PLAYBOOK -o FILE writes one."
    ! is_full "$1" || { status=2 && cure="Free space: nbprovision clean"; }
    complain "cannot use the bundle ${bundle_url:-$bundle}" "$why" "$cure"
    record failed $status "cannot use the bundle ${bundle_url:-$bundle}: $why"
    rm -rf "$new"
    [ "$file" = "$bundle" ] || rm -f "$file"
    return $status
}

# Put the wheels for this machine into $new; on failure, the last line of output says why. The code that does it is the
# bundle's own, so its digest is compared first.
verify_bundle() {
    rm -rf "$new" && mkdir -p "$new" || return
    problem=$(tar -xof "$file" -C "$new" --wildcards 'tool/nbprovision-*.whl' bundle.json 2>&1)
    ! is_full "$problem" || { echo "$problem" && return 1; }
    for wheel in "$new"/tool/*.whl; do digest=$(sha256sum <"$wheel") && [ -f "$new/bundle.json" ]; done 2>/dev/null || {
        echo "it is truncated, or not a bundle"
        return 1
    }
    grep -q "\"${digest%% *}\"" "$new/bundle.json" || {
        echo "its member 'tool/${wheel##*/}' is altered"
        return 1
    }
    "$python" -I -S -c 'import sys; sys.path.insert(0, sys.argv[1])
from nbprovision.bundle.archive import main; sys.exit(main(sys.argv[2:]))' "$wheel" "$file" "$new" &&
        rm -r "$new/tool" "$new/bundle.json"
}

# Replace the last bundle and its wheels. A file of the bucket gets its identity when it is in place.
put_bundle() {
    if [ "$file" != "$bundle" ]; then
        replace_bundle && echo "$bundle_url $etag" >"$bundle.etag" && identity=$(identity_of "$bundle") || return
    fi
    [ -z "$new" ] || { echo "$identity" >"$new/.complete" && rm -rf "$own/bundle" && mv "$new" "$own/bundle"; }
}

# Not while a run reads the last one.
replace_bundle() {
    if [ ! -f "$home/lock" ]; then
        mv -f "$file" "$bundle"
        return
    fi
    "$python" -I -S -c 'import fcntl, os, sys
try:
    fcntl.flock(0, fcntl.LOCK_SH | fcntl.LOCK_NB)
except BlockingIOError:
    print("nbprovision: waiting for a run before its bundle is replaced", file=sys.stderr)
    fcntl.flock(0, fcntl.LOCK_SH)
os.replace(*sys.argv[1:])' "$file" "$bundle" <"$home/lock"
}

# The playbook of a rendered script comes on standard input, with its files: a tar archive as text.
unpack_playbook() {
    new=$own/playbook.new
    rm -rf "$new"
    mkdir -p "$new" "$own/playbook" && base64 -d | tar -xzf - -C "$new" || return
    put_files "$new" "$own/playbook" "mv -f"
    unpacked=$?
    rm -rf "$new"
    return $unpacked
}

# A file with the same content and mode keeps its time, which is a witness of the run.
put_files() { # FROM TO COMMAND
    (cd "$1" && find . -type d) | while read -r path; do mkdir -p "$2/$path" || exit; done &&
        (cd "$1" && find . -type f) | while read -r path; do
            is_same "$1/$path" "$2/$path" || $3 "$1/$path" "$2/$path" || exit
        done
}

is_same() { # FILE FILE
    if [ -x "$1" ]; then [ -x "$2" ]; else [ ! -x "$2" ]; fi && cmp -s "$1" "$2"
}

copy() { # FILE FILE
    rm -f "$2.new" && cp "$1" "$2.new" && mv -fT "$2.new" "$2" && return
    rm -f "$2.new" && return 1
}

# ---- a ring's release: nbprovision/report/ring.py has the report about it
#
# releases/DIGEST has each release whole, and release the files of the one that runs: the state of a run belongs to the
# path of its playbook, so that a release with the same playbook is witnessed. release.at names the release, or several
# while one replaces another; release.good the last one that ended with 0.

# Set $wanted_release to the one that the ring points to, and choose it, or the last good one.
look_for_release() {
    [ -n "$ring" ] || return 0
    find_aws
    key=${ring#s3://}
    # Its first bytes are enough, and /dev/stdout needs no space on the volume.
    if ! answer=$(ask_aws s3api get-object --bucket "${key%%/*}" --key "${key#*/}" --range bytes=0-8191 /dev/stdout); then
        complain_of_bucket "the pointer $ring" "$answer" "The last good release is used."
        choose_last_release "cannot fetch the pointer $ring: $(printf '%s\n' "$answer" | tail -n 1)"
        return
    fi
    # The output of the command follows the content.
    wanted_release=$(printf '%s\n' "$answer" | sed -n 's/^release=\([0-9a-f]\{64\}\)\({.*\)\{0,1\}$/\1/p' | head -n 1)
    if [ -z "$wanted_release" ]; then
        complain "the pointer $ring is not valid" "It has no line release=DIGEST." "Write it again: nbprovision fleet back"
        choose_last_release "the pointer $ring is not valid"
        return
    fi
    choose_release "$wanted_release"
}

has_release() { [ -z "$ring" ] || read_release "$own/releases/${release:-none}"; }

# Set $release; if it is here, its version of the tool is the one to install.
choose_release() { # DIGEST
    release=$1
    ! has_release || NBPROVISION_VERSION=$release_tool
}

choose_last_release() { # WHY
    why_release=$1
    [ -n "$phase" ] || return 0 # at a terminal nothing else than the wanted one is run
    choose_release "$(last_release)"
    [ -z "$release" ] || fall_back playbook
}

# Print the last good release, or else the one that was last put in place.
last_release() {
    cat "$own/release.good" "$own/release.at" 2>/dev/null | tr ' ' '\n' | while read -r digest; do
        ! read_release "$own/releases/$digest" || { echo "$digest" && break; }
    done
}

# Set what RELEASE says, if that is possible.
read_release() { # FOLDER
    format=
    release_playbook=
    release_tool=
    release_locked=
    while IFS='=' read -r key value; do
        case $key in
        format) format=$value ;;
        playbook) release_playbook=$value ;;
        tool) release_tool=$value ;;
        locked) [ "$value" != 1 ] || release_locked=1 ;;
        esac
    done <"$1/RELEASE"
    case /$release_playbook/ in *//* | */../*) return 1 ;; esac
    case $release_tool in '' | *[!A-Za-z0-9.+!]*) return 1 ;; esac
    [ "$format" = 1 ] && [ -f "$1/files/$release_playbook" ]
} 2>/dev/null

# Get the chosen release: whole, with the digest that is its name, or not at all.
get_release() {
    ! has_release || return 0
    if [ -z "$release" ]; then
        record failed 4 "$why_release, and no earlier release is here"
        return 4
    fi
    new=$own/release.new
    file=$own/release.tar
    rm -rf "$new" "$file"*
    url=${ring%/rings/*}/releases/$release/release.tar
    mkdir -p "$new"
    if ! problem=$(call_aws 7200 s3 cp --only-show-errors "$url" "$file"); then
        refuse_release "cannot fetch the release $url" "$(printf '%s\n' "$problem" | tail -n 1)"
    elif digest=$(sha256sum <"$file") && [ "$digest" != "$release  -" ]; then
        refuse_release "the release $url is altered" "Its sha256 is ${digest%% *}."
    elif ! problem=$(tar -xof "$file" -C "$new" 2>&1); then
        refuse_release "cannot unpack the release $url" "$(printf '%s\n' "$problem" | head -n 1)"
    elif ! read_release "$new"; then
        refuse_release "the release $url is not valid" "Its RELEASE must have format=1, playbook=FILE and tool=VERSION."
    elif ! problem=$(keep_release 2>&1); then
        refuse_release "cannot keep the release $url" "$problem"
    else
        rm -f "$file"
        forget_releases
        choose_release "$release"
    fi
}

keep_release() {
    rm -rf "${own:?}/releases/$release" && mkdir -p "$own/releases" || return
    within 20 sync -f "$new" # a power cut leaves no empty files in it
    mv -T "$new" "$own/releases/$release"
}

refuse_release() { # WHAT WHY
    status=4
    cure="The last good release is used. Publish it again, or take it back: nbprovision fleet back"
    ! is_full "$2" || { status=2 && cure="Free space: nbprovision clean"; }
    complain "$1" "$2" "$cure"
    record failed $status "$1: $2"
    rm -rf "$new" "$file"*
    return $status
}

# Keep the newest three, the last good one and the one in place.
forget_releases() {
    touch "$own/releases/$release"
    kept=" $(cat "$own/release.good" "$own/release.at" 2>/dev/null | tr '\n' ' ')"
    (cd "$own/releases" && stat -c '%Y %n' -- *) | sort -rn | tail -n +4 | while read -r _ old; do
        case $kept in *" $old "*) continue ;; esac
        rm -f "$own/releases/$old/RELEASE" && rm -rf "${own:?}/releases/$old" # a kill leaves nothing that looks whole
    done
}

is_in() { [ -n "$release" ] && [ "$(cat "$own/$1")" = "$release" ]; } 2>/dev/null # release.at or release.good

is_placed() { # what tasks wrote beside the files does not count
    is_in release.at && ! diff -rq "$own/releases/$release/files" "$own/release" | grep -qv "^Only in $own/release[/:]"
} 2>/dev/null

# Put the files of the chosen release in place, and remove those of earlier ones; not while a run may read them, or
# without space: then it runs from the folder where it lies.
place_release() {
    ! is_placed || return 0
    [ ! -f "$home/lock" ] || "${tool_python:-$venv/bin/python}" -I -S -c "$lock_shared" <"$home/lock" || return
    files=$own/releases/$release/files
    at="$(cat "$own/release.at") $release"
    echo "$at" >"$own/release.at.new" && mv -f "$own/release.at.new" "$own/release.at" && mkdir -p "$own/release" || return
    for old in $at; do
        [ -d "$own/releases/$old/files" ] || continue
        (cd "$own/releases/$old/files" && find . -type f) | while read -r path; do
            [ -f "$files/$path" ] || (cd "$own/release" && rm -f "$path" && rmdir -p "${path%/*}")
        done
    done
    put_files "$files" "$own/release" copy && echo "$release" >"$own/release.at"
} 2>/dev/null

# Tell the run of the ring, for its report.
describe_release() {
    proven=
    ! is_in release.good || ! is_in release.at || proven=1
    why=${why_release:-$why_another}
    [ -z "$fallback" ] || why=${why:-the version of nbprovision that the release names is still being installed}
    export NBPROVISION_RING="$ring" NBPROVISION_INSTANCE="$instance" NBPROVISION_WANTED="$wanted_release" \
        NBPROVISION_RELEASE="$release" NBPROVISION_PROVEN="$proven" NBPROVISION_WHY="$why"
}

# Run the release. In a lifecycle hook, replace one with an invalid playbook by the last good one.
run_release() { # PLAYBOOK OPTIONS...
    with_playbook run_tool "$@"
    status=$?
    [ $status -eq 4 ] && [ -n "$phase" ] && [ -n "$release" ] || return $status
    good=$(last_release)
    [ -n "$good" ] && [ "$good" != "$release" ] || return $status
    say "uses the last good release, $(short "$good")"
    choose_last_release "the playbook of release $(short "$release") is invalid: $(recorded_failure)"
    set_source
    is_installed || { prepare && is_installed; } || { find_installed && fall_back tool; } || return $status
    with_playbook run_tool "$@"
}

short() { printf %.12s "$1"; }

# Upload the report of the run. Nobody waits for it, and nothing depends on it. A start that has not come to a run leaves
# that of an earlier one, which would pass for news.
upload_report() {
    [ -n "$instance" ] && [ -f "$home/instance-report.json" ] || return 0
    [ ! "$home/instance-report.json" -ot "$own/report.began" ] || return 0
    (
        url=${ring%/rings/*}/reports/$instance.json
        log=$home/log/report.log
        if problem=$(call_aws 60 s3 cp --only-show-errors "$home/instance-report.json" "$url"); then
            rm -f "$log"
        else
            complain "cannot upload the report to $url" "$problem" "The next start tries again." 2>"$log"
        fi
    ) >/dev/null 2>&1 </dev/null 3<&- 4>&- &
}

# Set $venv to an environment with the wanted tool. If it cannot be installed in a lifecycle hook, use the tool that
# last ended a run with 0; without one, any other version in the folder.
have_tool() {
    set_source
    ! is_ready || return 0
    prepare_in_time
    status=$?
    [ -z "$ring" ] || choose_release "$release" # it may be here now
    set_source
    [ $status -ne 0 ] || ! is_ready || return 0
    [ $status -eq 4 ] || status=2
    [ -n "$phase" ] || return $status
    if ! has_release; then
        why=$(recorded_failure)
        choose_last_release "${why:-release $(short "$release") is still being fetched}"
        set_source
        ! is_ready || return 0
        [ -z "$release" ] || [ -n "$still_installing" ] || ! { prepare && is_ready; } || return 0
    fi
    if find_installed; then
        say "continues with the installed nbprovision $installed_version"
        if ! has_release; then :; elif has_bundle; then fall_back tool; else fall_back playbook; fi
        why_another=$(recorded_failure)
        return
    fi
    [ -n "$wheels" ] && [ -n "${NBPROVISION_VERSION-}" ] && [ -w "$home" ] && has_release || return $status
    say "tries another version in $wheels"
    NBPROVISION_VERSION=
    set_source
    { is_ready || { prepare && is_ready; }; } && fall_back tool
}

# Print why the last activity failed, without the users in URLs.
recorded_failure() {
    sed -n 's/.*"state": *"failed".*"message": *"\(\([^"\\]\|\\.\)*\)".*/\1/p' "$home/status.json" 2>/dev/null |
        sed 's/\\\(.\)/\1/g; s#://[^/@ ]*@#://#g'
}

# An upgrade may take half of the remaining time. Then the installed tool restores the kernels while it continues.
prepare_in_time() {
    if [ -z "$phase" ] || [ -z "$deadline" ] || ! find_installed; then
        prepare
        return
    fi
    enough=$(($(left) / 2))
    prepared=$own/.prepared
    rm -f "$prepared"
    (
        prepare
        echo $? >"$prepared"
    ) &
    while [ ! -s "$prepared" ]; do
        if [ "$(left)" -le $enough ]; then
            say "the install takes long, and continues in the background"
            still_installing=1
            return 1
        fi
        sleep 0.3
    done
    return "$(cat "$prepared")"
}

# Find any tool that starts.
find_installed() {
    for slot in "$home/venv.good" "$home/venv" "$home/venv.1" "$home/venv.2"; do
        { is_complete "$slot" && starts; } || find_python_of "$slot" && return
    done
    return 1
}

starts() { "${tool_python:-$venv/bin/python}" -I -c 'import nbprovision.cli.run' 2>/dev/null; }

# If the image has another Python than SLOT was made with, and no wheels fit it, set $tool_python to run SLOT with a
# Python of the right kind from the environments on the volume.
find_python_of() { # SLOT
    [ -f "$1/.complete" ] || return 1
    { read -r _ && read -r installed_version && read -r _ && read -r venv && read -r kind; } <"$1/.complete"
    for candidate in "$volume"/envs/*/bin/python "$home"/envs/*/bin/python "$HOME"/anaconda3/envs/*/bin/python \
        /opt/conda/envs/*/bin/python; do
        [ -x "$candidate" ] || continue
        is_trusted_python "$candidate" || continue
        [ "$("$candidate" -I -S -c "$print_kind" 2>/dev/null)" = "$kind" ] || continue
        # An environment with nothing but the path of the slot's packages and a link to its uv.
        "$candidate" -I -m venv --without-pip --clear "$home/venv.other" || continue
        ln -s "$venv/bin/uv" "$home/venv.other/bin/uv"
        for packages in "$venv"/lib/python3*/site-packages; do
            echo "$packages" >"$home/venv.other/lib/${packages#"$venv/lib/"}/nbprovision.pth"
        done
        tool_python=$home/venv.other/bin/python
        starts && return
    done
    tool_python=
    return 1
}
print_kind='import os, sys; print(sys.implementation.cache_tag, os.uname().machine)'

# Do the work of a start: the tool, the team's playbook, then the user's own if the team allows it.
work() { # PLAYBOOK OPTIONS...
    [ -n "$ring" ] || fetch_tool ask_aws
    look_for_bundle
    look_for_release
    [ -n "$ready" ] || have_tool || return
    run_playbook "$@"
    status=$?
    if [ -n "$still_installing" ]; then status=7; fi
    [ -z "$phase" ] || finish_hook
    [ -z "$still_installing" ] || finish_install "$@"
    return $status
}

run_playbook() { # PLAYBOOK OPTIONS...
    if [ -n "$ring" ]; then run_release "$@"; else with_playbook run_tool "$@"; fi
}

# When no caller waits any longer: let the long install end, then do the work again with the installed tool.
finish_install() { # PLAYBOOK OPTIONS...
    say_to_caller $status
    record installing null ""
    wait
    deadline=0
    fallback=
    why_another=
    tool_python=
    unset NBPROVISION_FALLBACK
    if [ -n "$wanted_release" ]; then
        why_release=
        choose_release "$wanted_release"
    fi
    set_source
    if is_ready; then
        run_playbook "$@"
        status=$?
        [ -z "$ring" ] || finish_release
        return $status
    fi
    ran= # no run reports how this ended
    status=2
    record failed 2 "could not install the version of the tool that is wanted"
}

# Keep the release as the last good one, if it is, and upload the report.
finish_release() {
    [ $status -ne 0 ] || [ -n "$fallback" ] || is_in release.good ||
        { echo "$release" >"$own/release.good.new" && mv -f "$own/release.good.new" "$own/release.good"; } 2>/dev/null
    upload_report
}

finish_hook() {
    result="version=$installed_version"
    if [ -n "$ring" ]; then
        finish_release
        unset NBPROVISION_RING # the user's own playbook is not part of the report
    fi
    if [ $status -eq 0 ] && [ -z "$fallback" ]; then
        turn venv.good "$venv" 2>/dev/null
        [ "$(readlink "$own/bootstrap.good")" = "${script##*/}" ] || ln -sfn "${script##*/}" "$own/bootstrap.good"
    elif [ -n "$fallback" ]; then
        result="fallback=$fallback used=$installed_version $result"
        why=$why_another
        if [ $status -ne 7 ]; then
            status=4
            case $fallback in
            playbook) used="the last good playbook, as this one is invalid or out of reach" ;;
            tool) used="nbprovision $installed_version, as the version that is wanted could not be installed" ;;
            both) used="the last good playbook and nbprovision $installed_version" ;;
            esac
            if [ -n "$why_release" ]; then
                used="the last good release, $(short "$release"), and nbprovision $installed_version"
                why=$why_release
                say "used $used: $why"
            fi
            [ -n "$explained" ] || record failed 4 "used $used${why:+: $why}"
        fi
    fi
    result="$result${release:+ release=$(short "$release")}"
    if [ -n "${NBPROVISION_USER_PLAYBOOK-}" ] && [ -f "$NBPROVISION_USER_PLAYBOOK" ]; then
        status_of_team=$status
        fallback=
        unset NBPROVISION_FALLBACK
        run_tool "$NBPROVISION_USER_PLAYBOOK"
        [ -z "$fallback" ] || status=4
        result="$result user_status=$status"
        status=$status_of_team
    fi
    report_result "$result"
}

# Report to the rendered script, for its last line.
report_result() {
    [ -n "${NBPROVISION_VERSION+rendered}" ] || return 0
    if [ -n "$worker" ]; then reported=" $1"; else echo "nbprovision: result $1"; fi
}

# HOME/skip: do nothing, or, if it contains "check", change nothing.
skip() { # PLAYBOOK OPTIONS...
    word=$(head -c 100 "$home/skip" | tr -d '[:space:]')
    if [ "$word" = check ] && is_complete "$home/venv"; then
        [ -z "$ring" ] || choose_release "$(last_release)"
        say "$home/skip says 'check': nothing changes"
        with_playbook call_tool "$@" --check
        record skipped 0 "$home/skip says 'check'"
        report_result "skipped mode=check version=$installed_version"
        return 0
    fi
    say "$home/skip exists: nothing is done; remove it to provision again"
    record skipped 0 "$home/skip exists"
    report_result skipped
}

# ---- work that may outlast its caller

# Work in a process that continues when the time is up. If the tool is installed, this is a subshell, because the run
# detaches its own work. Otherwise it has its own session, and writes all its output to a file. By descriptor 4 it
# reports how it ended, or that waiting is useless.
wait_for_worker() { # PLAYBOOK OPTIONS...
    pipe=$own/.worker.$$
    answer_file=$own/.answer.$$
    { make_folder "$home" && mkdir -p "$own" "$home/log" && rm -f "$own"/.worker.* "$answer_file" && mkfifo -m 600 "$pipe"; } 2>/dev/null || {
        work "$@" # on a full or read-only volume nothing can continue in the background
        return
    }
    if [ -n "$ready" ]; then
        log=
        be_worker "$@" 4>"$pipe" &
    else
        open_log
        NBPROVISION_WORKER=$answer_file NBPROVISION_STARTED=$begun NBPROVISION_FALLBACK=$fallback \
            setsid nice -n 5 sh "$script" "$@" --deadline "$deadline" >"$log" 2>&1 </dev/null 4>"$pipe" &
    fi
    exec 3<"$pipe"
    rm -f "$pipe"
    report_result worker
    answer=
    ended=124
    shown=0
    while [ "$ended" -eq 124 ] && [ -z "$answer" ] && seconds=$(left) && [ "$seconds" -gt 0 ]; do
        [ -z "$log" ] || seconds=0.5
        answer=$(timeout "$seconds" cat <&3)
        ended=$?
        [ ! -s "$answer_file" ] || answer=$(cat "$answer_file")
        [ -z "$log" ] || show_log
    done
    rm -f "$answer_file"
    case $answer in
    [0-9]*)
        [ "$answer" = "${answer%% *}" ] || report_result "${answer#* }"
        return "${answer%% *}"
        ;;
    esac
    [ "$ended" -eq 124 ] || fail 2 "the worker process ended before the work was done" \
        "${log:+Its output is in $log.}" "Run it again; finished work is kept."
    say "not done within $deadline s; it continues in the background, and its output is in $home/log"
    ! is_complete "$home/venv" || say "'nbprovision status' shows how far it is"
    return 7
}

open_log() { # on a full volume, in the folder for temporary files
    log=$home/log/bootstrap.log
    [ ! -s "$log" ] || mv -f "$log" "$log.1"
    head -c 65536 /dev/zero >"$log" 2>/dev/null || log=$(mktemp)
    : >"$log"
}

show_log() { # the output since the last call
    size=$(stat -c %s "$log")
    [ "$size" -le "$shown" ] || tail -c "+$((shown + 1))" "$log" | head -c "$((size - shown))"
    shown=$size
}

# The file keeps the answer, because `cat` may be ended after it has read from the pipe and before it writes. The pipe
# wakes the caller, and is the only way on a full volume.
say_to_caller() { # STATUS, together with $reported
    [ -z "$worker" ] || {
        echo "$1$reported" >"$answer_file"
        echo "$1$reported" >&4 || rm -f "$answer_file" # the caller has left
    }
} 2>/dev/null

be_worker() { # PLAYBOOK OPTIONS...
    worker=1
    trap '' HUP PIPE
    echo 500 >/proc/self/oom_score_adj # for lack of memory, kill this before a user's kernel
    work "$@"
    status=$?
    rm -f "$own/.left.$$"
    say_to_caller $status
    [ "$(left)" -gt 0 ] || [ -n "$ran" ] || report_end # a run reports its own end
    exit $status
}

# Report the end of work without a caller to the system log, for CloudWatch, and to the administrator's own command.
report_end() {
    line="nbprovision: failed status=$status changed=- failed=- version=$version hook=$phase background=1"
    logger -t nbprovision -- "$line" 2>/dev/null
    echo "$line"
    [ -z "${NBPROVISION_ON_FINISH-}" ] ||
        NBPROVISION_STATUS=$status NBPROVISION_RESULT=$line within 60 sh -c "$NBPROVISION_ON_FINISH" 4>&-
}

# ---- main

while read -r key _ user _; do [ "$key" != Uid: ] || break; done </proc/self/status
callers_path=${PATH-}
if [ "$user" = 0 ]; then
    PATH=/usr/sbin:/usr/bin:/sbin:/bin
    [ -z "${LD_LIBRARY_PATH-}" ] || LD_LIBRARY_PATH=$(trusted_entries "$LD_LIBRARY_PATH")
    [ -z "${PYTHONPATH-}" ] || PYTHONPATH=$(trusted_entries "$PYTHONPATH")
    callers_path=$(trusted_entries "$callers_path")
    PATH=$PATH${callers_path:+:$callers_path}
    unset LD_PRELOAD PYTHONHOME PYTHONPYCACHEPREFIX PYTHONUSERBASE PYTHONPLATLIBDIR PYTHONSTARTUP
fi
command -v mkdir >/dev/null || PATH=${PATH:+$PATH:}/usr/bin:/bin
[ -n "${HOME-}" ] || HOME=$(getent passwd "$(id -u)" | cut -d: -f6) # a lifecycle script has none
export HOME PATH

case $0 in
*/*) here=$(cd "${0%/*}" && pwd) ;;
*) here=$PWD ;;
esac
script=$here/${0##*/}
phase=${NBPROVISION_PHASE-}
fallback=${NBPROVISION_FALLBACK-}
worker=${NBPROVISION_WORKER-}
answer_file=$worker
reported=
explained=
why_another=
recording=
release_playbook=
ran=
still_installing=
tool_python=
etag=
set_home "$@"
case ${1-} in
'' | -h | --help) usage ;;
--make-venv)
    [ $# -gt 2 ] || usage
    shift
    [ ! -e "$1" ] || [ -f "$1/pyvenv.cfg" ] || fail 5 "$1 is not a virtual environment" "" "Give another path."
    trusted "$1" || refuse "$1"
    refuse_foreign_settings
    find_python
    make_venv "$@"
    exit
    ;;
esac
refuse_what_is_foreign

# The budget begins with root's part, if there is one.
begun=${NBPROVISION_STARTED-}
[ -n "$begun" ] || read -r begun _ </proc/uptime
started=$(hundredths "$begun")
deadline=
tool=
sha256=
index=
count=$#
while [ $count -gt 0 ]; do
    word=$1
    shift
    count=$((count - 1))
    case $word in
    --deadline | --tool | --sha256 | --index-url)
        value= # the words after the last one are those that are kept
        [ $count -eq 0 ] || { value=$1 && shift && count=$((count - 1)); }
        ;;
    --deadline=* | --tool=* | --sha256=* | --index-url=*) value=${word#*=} ;;
    *)
        set -- "$@" "$word"
        continue
        ;;
    esac
    word=${word%%=*}
    [ -n "$value" ] || [ "$word" = --deadline ] ||
        fail 5 "$word is empty" "A variable of the shell may be unset." "Write a value, or leave it out."
    case $word in
    --deadline) deadline=$value ;;
    --tool) tool=$value ;;
    --sha256) sha256=$value ;;
    --index-url) index=$value ;;
    esac
done
[ $# -gt 0 ] || usage
set_bundle "$1"
set_ring "$1"
[ -z "$bundle" ] || trusted "$bundle" || refuse "$bundle"
shown_playbook=$(printf %s "$1" | tr -d '\000-\037"\\\177')
name_source
judge_source
deadline=${deadline%.*}
case $deadline in *[!0-9]*) fail 5 "--deadline takes a number of seconds, not '$deadline'" "" "" ;; esac
# They differ at each start, and the tool treats each variable with its prefix as a setting.
unset NBPROVISION_STARTED NBPROVISION_WORKER NBPROVISION_FALLBACK
[ -z "$phase" ] || export NBPROVISION_STARTED="$begun" # except this one: late work reports its total time

[ -z "$ring" ] || { mkdir -p "$own" && : >"$own/report.began"; } 2>/dev/null
# A script that is not a ring's leaves no report of one.
[ -z "$phase" ] || [ -n "$ring" ] || [ ! -f "$home/instance-report.json" ] || rm -f "$home/instance-report.json"
[ -z "$phase" ] || link_command # the user's home is new at each start
case ${1-} in
inline:*) # without space for it, use that of the last start
    playbook=$own/playbook/${1#*:}
    if ! unpack_playbook; then
        complain "could not unpack the playbook in $own" "" "Free space: nbprovision clean. The one of an earlier start is used."
        [ ! -f "$playbook" ] || fall_back playbook
    fi
    shift
    set -- "$playbook" "$@"
    ;;
esac
if [ -n "$phase" ] && [ -f "$home/skip" ]; then
    skip "$@"
    exit
fi
ready=
[ -z "$worker" ] || be_worker "$@"
case "${NBPROVISION_SOURCE-} $1" in
*s3://*) ;; # a bucket may have another version
*)
    set_source
    ! is_ready || ready=1
    ;;
esac
if [ -n "$deadline" ]; then wait_for_worker "$@"; else work "$@"; fi
