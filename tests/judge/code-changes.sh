#!/bin/sh
# Loads that change code while it runs, one a word of the command line. In a Debian guest, as root.
# usage: code-changes.sh CASE ROUNDS, in the folder of its files. Status 0: it did what it should.
set -eu
case=$1
rounds=$2
here=$(cd "$(dirname "$0")" && pwd)
trace=/sys/kernel/tracing

# Work in the background that only stops with the case: shells that fork, pipe and write.
load() {
    for _ in 1 2; do
        while :; do
            seq 300 | sort -r | md5sum >/dev/null
            ls -lR /etc >/dev/null
        done &
        loads="${loads:-} $!"
    done
    trap 'kill $loads 2>/dev/null' EXIT
}

repeat() {
    i=0
    while [ $i -lt "$rounds" ]; do
        "$@"
        i=$((i + 1))
    done
}

tracer_on_off() {
    echo "$1" >$trace/current_tracer
    ls / >/dev/null
    [ "$(head -c 4000 $trace/trace | grep -c '[a-z_]()\|<-')" -gt 5 ]
    echo nop >$trace/current_tracer
}

case $case in
modules) # loaded and unloaded by two at once
    load
    names="dummy ifb veth vxlan bonding macvlan tun nbd loop dm_mod 8021q ipip zram"
    usable=
    for m in $names; do
        if modprobe -n "$m" 2>/dev/null && [ "$(modinfo -n "$m")" != '(builtin)' ]; then usable="$usable $m"; fi
    done
    round() {
        for m in $usable; do modprobe "$m"; done
        for m in $usable; do modprobe -r "$m" 2>/dev/null || true; done
    }
    repeat round
    echo "modules:$usable"
    [ "$(echo "$usable" | wc -w)" -ge 8 ]
    ;;
hotplug) # alternatives are patched to UP and back, stop_machine()
    load
    round() {
        echo 0 >/sys/devices/system/cpu/cpu1/online
        [ "$(nproc)" = 1 ]
        echo 1 >/sys/devices/system/cpu/cpu1/online
        [ "$(nproc)" = 2 ]
    }
    repeat round
    ;;
ftrace) # every function's first bytes, under load
    mount -t tracefs tracefs $trace 2>/dev/null || true
    load
    echo 'vfs_*' >$trace/set_ftrace_filter
    repeat tracer_on_off function
    echo >$trace/set_ftrace_filter
    rounds=2
    repeat tracer_on_off function
    ! grep -q function_graph $trace/available_tracers || repeat tracer_on_off function_graph
    ;;
kprobes) # INT3 and jumps into functions that run
    mount -t tracefs tracefs $trace 2>/dev/null || true
    load
    round() {
        echo 'p:one vfs_read' >$trace/kprobe_events
        echo 'r:two ksys_write' >>$trace/kprobe_events
        echo 1 >$trace/events/kprobes/enable
        ls / >/dev/null
        # Reading makes more of them: not to the end.
        [ "$(head -c 20000 $trace/trace | grep -c 'one:\|two:')" -gt 2 ]
        echo 0 >$trace/events/kprobes/enable
        echo >$trace/kprobe_events
        echo >$trace/trace
    }
    repeat round
    ;;
keys) # static keys: scheduler statistics, network timestamps, tracepoints
    mount -t tracefs tracefs $trace 2>/dev/null || true
    load
    round() {
        sysctl -qw kernel.sched_schedstats=1 2>/dev/null || true
        echo 1 >$trace/events/sched/enable
        echo 1 >$trace/events/irq/enable
        sysctl -qw kernel.sched_schedstats=0 2>/dev/null || true
        echo 0 >$trace/events/sched/enable
        echo 0 >$trace/events/irq/enable
        echo >$trace/trace
    }
    repeat round
    ;;
bpf) # filters made, attached and run over and over
    sysctl -qw net.core.bpf_jit_enable=1
    python3 "$here/filters.py" $((rounds * 20))
    ;;
cgroups) # systemd's own BPF programs, for addresses and devices
    sysctl -qw net.core.bpf_jit_enable=1
    cat >/run/systemd/system/judge.service <<'T'
[Service]
Type=oneshot
IPAccounting=yes
IPAddressDeny=10.9.0.0/16
IPAddressAllow=127.0.0.0/8
DevicePolicy=closed
ExecStart=/bin/sh -c 'echo >/dev/null && ! head -c 1 /dev/vda >/dev/null 2>&1'
T
    systemctl daemon-reload
    repeat systemctl start judge
    ;;
node)
    node "$here/work.js" "$rounds"
    ;;
java)
    java -Xmx200m "$here/Work.java" "$rounds"
    ;;
mono)
    mcs -optimize+ -out:Work.exe "$here/Work.cs"
    mono Work.exe "$rounds" >fast
    mono --optimize=-all Work.exe "$rounds" >slow
    cmp fast slow
    ;;
pypy) # with a threshold so low that nearly all is compiled, and without the compiler
    pypy3 --jit threshold=50,function_threshold=60,trace_eagerness=5 "$here/work.py" "$rounds" >fast
    pypy3 --jit off "$here/work.py" "$rounds" >slow
    cmp fast slow
    ;;
luajit)
    luajit -O3 "$here/work.lua" "$rounds" >fast
    luajit -joff "$here/work.lua" "$rounds" >slow
    cmp fast slow
    ;;
esac
