# Starts a kernel as a shell starts it after `conda activate` (or a virtual environment's `activate`).
#
#     sh activate.sh PREFIX CONDA KEEP PROGRAM [ARGUMENT]...
#
# PREFIX   the environment
# CONDA    the machine's conda, "-" for none
# KEEP     names of variables that activation must leave as they are, separated by blanks, "-" for none
#
# All arguments are data. Written by nbprovision, the same for every kernel; POSIX, but run by bash where there is one.

_nb_prefix=$1 _nb_conda=$2 _nb_keep=$3
shift 3
[ "$_nb_conda" != - ] || _nb_conda=
[ "$_nb_keep" != - ] || _nb_keep=

_nb_off_path() {
    _nb_rest=:$PATH:
    while :; do
        case $_nb_rest in
            *":$1:"*) _nb_rest=${_nb_rest%%":$1:"*}:${_nb_rest#*":$1:"} ;;
            *) break ;;
        esac
    done
    _nb_rest=${_nb_rest#:}
    PATH=${_nb_rest%:}
}

# The scripts of a folder in the order of their bytes, which is conda's: a name that begins with ~ comes last.
_nb_scripts() {
    _nb_locale=${LC_ALL+set}${LC_ALL-}
    LC_ALL=C
    _nb_order=$2
    set -- "$1"/*.sh
    if [ -n "$_nb_locale" ]; then LC_ALL=${_nb_locale#set}; else unset LC_ALL; fi
    if [ "$_nb_order" = backwards ]; then
        _nb_count=$#
        for _nb_script; do set -- "$_nb_script" "$@"; done
        while [ $# -gt "$_nb_count" ]; do _nb_script=$1; shift; _nb_source "$_nb_script"; done
    else
        for _nb_script; do _nb_source "$_nb_script"; done
    fi
    set +e +u
    unset IFS
}

_nb_source() {
    # shellcheck disable=SC1090
    [ ! -r "$1" ] || . "$1"
}

# What `conda env config vars set` and packages have said (conda-meta/state, etc/conda/env_vars.d), as conda reads it.
_nb_state() {
    set -- "$_nb_prefix"/etc/conda/env_vars.d/*.json
    [ -f "$_nb_prefix/conda-meta/state" ] || [ -f "$1" ] || return 0
    eval "$("$_nb_prefix/bin/python" -I -S -c '
import glob, json, os, re, shlex, sys
prefix, found = sys.argv[1], {}
packages = sorted(glob.glob(os.path.join(glob.escape(prefix), "etc/conda/env_vars.d/*.json")))
for path in packages + [os.path.join(prefix, "conda-meta/state")]:
    try:
        with open(path, encoding="utf-8") as stream:
            said = json.load(stream)
        found.update(said["env_vars"] if path.endswith("state") else said)
    except (OSError, ValueError, KeyError, TypeError):
        pass
for name, value in found.items():
    if re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name) and value != "***unset***":
        print("export %s=%s" % (name, shlex.quote(str(value))))
' "$_nb_prefix")"
}

PATH=${PATH-}
unset IFS
for _nb_name in $_nb_keep; do eval "_nb_kept_$_nb_name=\${$_nb_name-}"; done

# Leave the environment that the server was started in.
if [ -n "${CONDA_PREFIX-}" ]; then
    _nb_off_path "$CONDA_PREFIX/bin"
    _nb_scripts "$CONDA_PREFIX/etc/conda/deactivate.d" backwards
fi
[ -z "${VIRTUAL_ENV-}" ] || _nb_off_path "$VIRTUAL_ENV/bin"
for _nb_level in 1 2 3 4 5 6 7 8 9; do unset "CONDA_PREFIX_$_nb_level" "CONDA_STACKED_$_nb_level"; done
unset CONDA_PREFIX CONDA_DEFAULT_ENV CONDA_PROMPT_MODIFIER CONDA_SHLVL VIRTUAL_ENV VIRTUAL_ENV_PROMPT PYTHONHOME

# Enter the kernel's own.
_nb_off_path "$_nb_prefix/bin"
_nb_root=${_nb_conda%/*/*}
if [ -n "$_nb_conda" ]; then
    export CONDA_EXE="$_nb_conda" CONDA_PYTHON_EXE="$_nb_root/bin/python" _CE_CONDA='' _CE_M=''
    if [ -d "$_nb_root/condabin" ]; then
        _nb_off_path "$_nb_root/condabin"
        export PATH="$_nb_root/condabin${PATH:+:$PATH}"
    fi
fi
export PATH="$_nb_prefix/bin${PATH:+:$PATH}"
if [ -d "$_nb_prefix/conda-meta" ]; then
    _nb_parent=${_nb_prefix%/*}
    if [ "$_nb_prefix" = "$_nb_root" ]; then
        CONDA_DEFAULT_ENV=base
    elif [ "${_nb_parent##*/}" = envs ]; then
        CONDA_DEFAULT_ENV=${_nb_prefix##*/}
    else
        CONDA_DEFAULT_ENV=$_nb_prefix
    fi
    CONDA_PROMPT_MODIFIER="($CONDA_DEFAULT_ENV) "
    export CONDA_DEFAULT_ENV CONDA_PROMPT_MODIFIER CONDA_PREFIX="$_nb_prefix" CONDA_SHLVL=1
    _nb_state
    _nb_scripts "$_nb_prefix/etc/conda/activate.d" forwards
elif [ -f "$_nb_prefix/pyvenv.cfg" ]; then
    export VIRTUAL_ENV="$_nb_prefix" VIRTUAL_ENV_PROMPT="${_nb_prefix##*/}"
fi

for _nb_name in $_nb_keep; do eval "export $_nb_name=\$_nb_kept_$_nb_name"; done
exec "$@"
