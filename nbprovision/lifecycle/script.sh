#!/bin/sh
# @HOOK@ script of a SageMaker notebook instance, rendered by nbprovision @VERSION@; render it again to change it.
# root's part names every program by its full path, and runs, reads and obeys nothing that @USER@ can write.
#
# The comments above this line stay in the rendered script; those below are left out, for its size.
# shellcheck disable=SC2016,SC2086  # nothing is expanded in single quotes on purpose; $as_user is several words
umask 022
cd / || exit
exec </dev/null
@TRAP@
read -r began _ </proc/uptime
tenths() { # of a second since the script began
    read -r now _ </proc/uptime
    echo $((${now%.*} * 10 + 1${now#*.} / 10 - ${began%.*} * 10 - 1${began#*.} / 10))
}

# Without root (Studio), the script runs as the user already, with the variables by which the platform's containers reach
# AWS: https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
as_user="" clean=""
run=${TMPDIR:-/tmp}
if [ "$(/usr/bin/id -u)" -eq 0 ]; then
    as_user="/usr/sbin/runuser -u @USER@ --" clean=-i
    run=/run/nbprovision
    /bin/mkdir -p $run
@PROFILE@
    # Long work continues in its own unit, which does not end with the unit of this script.
    if [ -d /run/systemd/system ]; then
        name=nbprovision-@HOOK@
        state=$(/usr/bin/timeout 5 /usr/bin/systemctl show -p ActiveState $name.scope)
        [ "$state" = ActiveState=inactive ] || name=$name-$$
        unit="/usr/bin/systemd-run -q --scope --collect --description=$name -p CPUWeight=20 -p IOWeight=20"
        ! /usr/bin/timeout 10 $unit /bin/true || as_user="$unit -p TimeoutStopSec=10 --unit=$name $as_user"
    fi
fi

@ROOT@

# The output of the user's part comes through a pipe that this part reads: it is bounded, has no control characters, and
# cannot imitate root's own lines. Output beyond the bound is read and dropped, so that no writer waits.
out=/dev/null facts=/dev/null copier=
if pipe=$(/usr/bin/mktemp -d $run/XXXXXX) && /usr/bin/mkfifo -m 600 $pipe/out && /bin/true >$pipe/facts; then
    out=$pipe/out facts=$pipe/facts
    /usr/bin/timeout 600 /bin/sh -c '{ /bin/dd bs=512 count=4000 2>/dev/null; /usr/bin/tail -c 4000; } <$1/out |
LC_ALL=C /bin/sed -u -e "s/[^[:print:]\t\x80-\xff]\|\xc2[\x80-\x9f]//g" -e "/^localhost : ok=/w $1/facts
/^nbprovision: result /{w $1/facts
d}" -e "s/^ *nbprovision: *[a-z]* *status=/> &/" -e "\$a\\"' sh $pipe &
    copier=$!
fi

# The user's part gets no descriptor, terminal or variable of root's.
left=$((@SECONDS@ - 2 - $(tenths) / 10))
[ $left -gt 0 ] || left=1
/usr/bin/timeout --kill-after=1 $left /bin/bash -c '
exec >"$1" 2>&1
shift
for fd in /proc/self/fd/*; do fd=${fd##*/}; [ $fd -le 2 ] || eval "exec $fd>&-"; done
exec "$@"' close $out /usr/bin/setsid --wait $as_user \
    /usr/bin/env $clean HOME=@USER_HOME@ USER=@USER@ LOGNAME=@USER@ LANG=C.UTF-8 PATH=@PATH@ \
    NBPROVISION_PHASE=@HOOK@ NBPROVISION_STARTED=$began NBPROVISION_VERSION=@VERSION@@ENVIRONMENT@ \
    /bin/sh -s <<'NBPROVISION-END-OF-USER-PART'
trap '' PIPE
sound() { [ -f "$1" ] && [ "$(sha256sum 2>/dev/null <"$1")" = '@SHA256@  -' ]; }
@FETCH@
main() {
    umask 022
    own=@HOME@/lifecycle
    file=$own/@FILE@
    cd "$HOME" && mkdir -p "$own" || return 2
    if ! sound "$file"; then
        fetch "$own/.new" && sound "$own/.new" && mv -f "$own/.new" "$file"
        sound "$file" || {
            echo "nbprovision: cannot get @WHAT@ from" @FROM@
            file=$own/bootstrap.good
            [ -f "$file" ] || return 2
            export NBPROVISION_FALLBACK=tool
        }
    fi
    sh "$file" @PLAYBOOK@ @OPTIONS@@PAYLOAD@
}
main </dev/null
exit
NBPROVISION-END-OF-USER-PART
status=$?

# A process that keeps the pipe open delays nothing.
if [ -n "$copier" ]; then
    (/bin/sleep 1 && kill $copier) >/dev/null 2>&1 &
    wait $copier
    [ $? -ne 143 ] || echo
    kill $! 2>/dev/null
fi

# The report of the user's part is data: numbers and a few words, or nothing.
changed=- failed=- version=@VERSION@ after='' used='' release='' rest='' word='done' worker=''
set -f
for fact in $(/usr/bin/tail -c 4000 $facts); do
    [ ${#fact} -le 40 ] || continue
    case $fact in
    *[!a-z0-9=._+!-]* | changed=*[!0-9]* | failed=*[!0-9]*) ;;
    changed=?*) [ $changed != - ] || changed=${fact#*=} ;;
    failed=?*) [ $failed != - ] || failed=${fact#*=} ;;
    version=?*) version=${fact#*=} ;;
    fallback=playbook | fallback=tool | fallback=both) after=" $fact" ;;
    used=?*) used=" $fact" ;;
    release=?*) release=" $fact" ;;
    user_status=?* | mode=check) rest=" $fact" ;;
    skipped) word=skipped ;;
    worker) worker=1 ;;
    esac
done
[ -z "$pipe" ] || /bin/rm -rf $pipe

case $status$worker in 1241 | 1371 | 1431) status=7 ;; esac
case $status in
0) ;;
7) word=background ;;
*) word=failed && echo "The lines above say why; @HOME@/log has more." ;;
esac
spent=$(tenths)
line="nbprovision: $word status=$status$after$used seconds=$((spent / 10)).$((spent % 10)) changed=$changed failed=$failed"
line="$line version=$version hook=@HOOK@@ROOT_WORD@$release$rest"
[ -z "$as_user" ] || echo "$line" >$run/@HOOK@
echo "$line"
@END@
