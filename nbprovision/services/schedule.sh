# Runs the command of a schedule, as the user: at most once at a time, within its time limit, with a log and a record.
#
# A schedule's own script (nbprovision.root.schedule) sets home, name, env, every, at, missed and limit, the function
# variables, and the command as arguments; then it reads this file, which ends it.
# shellcheck shell=sh disable=SC2154

export PATH="$PATH:$home/bin"
umask 077
cd "$HOME" || exit 73
own=$home/schedules
record=$own/$name.json log=$own/$name.log pipe=$own/.$name.pipe
mkdir -p "$own" || exit 73
exec 9>>"$own/$name.lock" || exit 73
flock -n 9 || exit 0 # it still runs
now=$(date +%s)
last=$(sed -n 's/^{"started": \([0-9]\{1,11\}\),.*/\1/p' "$record" 2>/dev/null)

due() { # whether a run has been missed since the last one
    [ "${last:-0}" -gt 0 ] && [ "$last" -le "$now" ] || return 0
    [ "$every" -eq 0 ] || { [ $((now - last)) -ge $((every * 19 / 20)) ]; return; }
    next=$(systemd-analyze calendar --base-time="@$last" "$at" | sed -n 's/^ *Next elapse: *//p')
    [ -z "$next" ] || [ "$(date -d "$next" +%s)" -le "$now" ]
}
[ -z "$missed" ] || due || exit 0

say() { # ENDED STATUS REASON
    printf '{"started": %s, "ended": %s, "status": %s, "reason": "%s"}\n' "$now" "$1" "$2" "$3" >"$own/.$name.new" &&
        mv -f "$own/.$name.new" "$record"
}
[ "$(stat -c %s "$log" 2>/dev/null || echo 0)" -le 1000000 ] || mv -f "$log" "$log.1"
rm -f "$pipe"
mkfifo "$pipe" && say null null '' || exit 73
date '+--- %Y-%m-%dT%H:%M:%S%z' >>"$log"
{ dd bs=512 count=4000 2>/dev/null >>"$log"; cat >/dev/null; } <"$pipe" 9>&- &
copier=$!
exec 8>"$pipe"
rm -f "$pipe"

if [ -n "$env" ]; then
    prefix=$env
    case $env in
    "~/"*) prefix=$HOME/${env#??} ;;
    base) for prefix in "$HOME/anaconda3" /opt/conda; do [ ! -d "$prefix/bin" ] || break; done ;;
    /*) ;;
    *)
        for place in "$HOME/SageMaker/envs" "$home/envs" "$HOME/.conda/envs" "$HOME/anaconda3/envs" /opt/conda/envs; do
            prefix=$place/$env
            [ ! -d "$prefix/bin" ] || break
        done
        ;;
    esac
    conda=-
    for place in /opt/conda/bin/conda "$HOME/anaconda3/bin/conda"; do [ ! -x "$place" ] || conda=$place; done
    [ -d "$prefix/bin" ] || { echo "there is no environment $env" >&8; say "$(date +%s)" 127 environment; exit 1; }
    if [ -x /bin/bash ]; then shell='/bin/bash -p'; else shell=/bin/sh; fi
    keep=
    for word in $names; do [ "$word" = PATH ] || keep="$keep $word"; done # activation puts its own programs first
    # shellcheck disable=SC2086
    set -- $shell "${runner%/*/*}/machine/activate.sh" "$prefix" "$conda" "${keep:--}" "$@"
fi

stopped=
trap 'stopped=stopped; kill "$command" 2>/dev/null' TERM INT
set -- /usr/bin/timeout -k 10 "$limit" "$@"
(variables && exec "$@") </dev/null >&8 2>&8 8>&- &
command=$!
exec 8>&-
wait "$command"
status=$?
[ -z "$stopped" ] || { wait "$command"; status=$?; }
(sleep 1; kill "$copier") >/dev/null 2>&1 9>&- &
wait "$copier" 2>/dev/null
kill $! 2>/dev/null
trap '' TERM INT
end=$(date +%s)
case $status in 124 | 137) [ $((end - now)) -lt "$limit" ] || stopped=timeout ;; esac
say "$end" "$status" "$stopped"
[ "$status" -eq 0 ]
exit
