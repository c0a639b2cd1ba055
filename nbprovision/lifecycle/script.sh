#!/bin/sh
# @HOOK@ script of a SageMaker notebook instance, rendered by nbprovision @VERSION@; render it anew to change it.
#
# root's part. It names every program by its full path, and runs, reads and obeys nothing that @USER@ can write.
# shellcheck disable=SC2016  # what stands in single quotes is meant as it stands
umask 022
cd / || exit
exec </dev/null

as_user= # where this is not root (Studio), it is the user already
if [ "$(/usr/bin/id -u)" -eq 0 ]; then
    as_user="/usr/sbin/runuser -u @USER@ --"
@PROFILE@
    # A unit of its own is not ended with the one that runs this script; work that takes longer goes on in it.
    if [ -d /run/systemd/system ] && /usr/bin/systemd-run --quiet --scope -- /bin/true 2>/dev/null; then
        as_user="/usr/bin/systemd-run --quiet --scope -- $as_user"
    fi
fi

# shellcheck disable=SC2086  # several words
/usr/bin/timeout --kill-after=5 @SECONDS@ $as_user /usr/bin/env -i HOME=@USER_HOME@ USER=@USER@ LOGNAME=@USER@ \
    LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin NBPROVISION_PHASE=@HOOK@@ENVIRONMENT@ \
    /bin/sh -s <<'NBPROVISION-END-OF-USER-PART'
# @USER@'s part: the tool, its files, and all that the playbook says.
say() { printf 'nbprovision: %s\n' "$*"; }

put() { # FILE: standard input becomes its content; a file that has it already keeps its time
    cat >"$1.new" && if cmp -s "$1.new" "$1"; then rm -f "$1.new"; else mv -f "$1.new" "$1"; fi
}

unpack() { base64 -d | gzip -dc | put "$1"; }

@FETCH@

main() {
    umask 022
    home=@HOME@
    own=$home/lifecycle
    cd "$HOME" && mkdir -p "$own" "$home/bin" || return
    touch "$own/started"
    ln -sfn ../venv/bin/nbprovision "$home/bin/nbprovision"
@LINK@
@TOOL@
@PLAYBOOK@
    [ -f "$playbook" ] || {
        say "there is no playbook $playbook"
        return 4
    }
    # On a volume that is full the files of the last start have to do.
    unpack "$own/bootstrap.sh" <<'NBPROVISION-END' || [ -f "$own/bootstrap.sh" ] || return
@BOOTSTRAP@
NBPROVISION-END
    sh "$own/bootstrap.sh" "$playbook" @OPTIONS@
    status=$?
    # The reason in the last lines, which is where one looks first.
    # shellcheck disable=SC3013  # -nt is not POSIX, but every sh of Linux has it
    if [ $status -eq 2 ] && [ "$home/last-run.json" -nt "$own/started" ]; then
        "$home/bin/nbprovision" status
    fi
    return $status
}
main </dev/null
exit
NBPROVISION-END-OF-USER-PART
status=$?

case $status in
0) echo "nbprovision: done" ;;
7) echo "nbprovision: the rest goes on in the background; 'nbprovision status' tells how far it is" ;;
124 | 137) echo "nbprovision: not done in @SECONDS@ seconds; what is finished is kept, and the next start goes on" ;;
4) echo "nbprovision: failed (4): the playbook is invalid or not there" ;;
6) echo "nbprovision: failed (6): another run is at work" ;;
*) echo "nbprovision: failed ($status); the lines above say why, and @HOME@/log more" ;;
esac
@END@
