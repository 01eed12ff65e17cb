#!/bin/busybox sh
# The guest's first process. It says that it runs; then it does the work that the kernel's command line
# asks for in `paravane.run=NAME,...`, or gives a shell. In the end it powers off.

mount -t proc proc /proc
read line < /proc/cmdline
work=
for word in $line; do
    case $word in
        paravane.run=*) work=${word#paravane.run=} ;;
    esac
done
# Lines that are read by a program must not have the kernel's among them.
[ -n "$work" ] && echo 1 > /proc/sys/kernel/printk
read up rest < /proc/uptime
echo "paravane: init after $up s"
export PATH=/bin HOME=/root
[ -n "$work" ] && mark i

mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp

# Nothing more than the boot.
run_boot() {
    :
}

# A hundred processes, one after the other, each with a program of its own.
run_forks() {
    i=0
    while [ $i -lt 100 ]; do
        /bin/true
        i=$((i + 1))
    done
}

# 16 MiB through memory, in blocks of 4 KiB.
run_dd() {
    dd if=/dev/zero of=/tmp/file bs=4k count=4096 2>/dev/null
    dd if=/tmp/file of=/dev/null bs=4k 2>/dev/null
    rm /tmp/file
}

# A byte to and fro between two processes, 500 times.
run_pipe() {
    mkfifo /tmp/to /tmp/fro
    while read word; do echo "$word"; done < /tmp/to > /tmp/fro &
    exec 3> /tmp/to 4< /tmp/fro
    i=0
    while [ $i -lt 500 ]; do
        echo x >&3
        read word <&4
        i=$((i + 1))
    done
    exec 3>&- 4<&-
    wait $!
    rm /tmp/to /tmp/fro
}

# A hundred waits of 10 ms for what does not come.
run_sleep() {
    mkfifo /tmp/never
    exec 3<> /tmp/never
    i=0
    while [ $i -lt 100 ]; do
        read -t 0.01 word <&3
        i=$((i + 1))
    done
    exec 3>&-
    rm /tmp/never
}

# Where a second of the battery-backed clock begins: which one, and the kernel's nanoseconds there.
second() {
    read before < $rtc
    now=$before
    while [ $now = $before ]; do read now < $rtc; done
    while IFS=' ' read label at ns rest; do
        [ "$label $at" = 'now at' ] && break
    done < /proc/timer_list
}

# How long a minute of the battery-backed clock is for the kernel.
run_clock() {
    rtc=/sys/class/rtc/rtc0/since_epoch
    second
    from=$now start=$ns
    sleep 59
    second
    echo "clock: $((ns - start)) ns in $((now - from)) s"
}

if [ -z "$work" ]; then
    # A session of its own, with the console as its terminal, so that Ctrl-C and jobs work.
    setsid cttyhack sh -l
else
    IFS=,
    for name in $work; do
        case $name in
            boot | forks | dd | pipe | sleep | clock)
                echo "workload $name begin"
                # Until the line is out: a UART without an interrupt is written to from time to time.
                sleep 0.1
                mark b
                run_$name
                mark e
                echo "workload $name end"
                ;;
            *) echo "workload $name unknown" ;;
        esac
    done
fi
# What was written has to be out before the machine is off.
sleep 0.1
poweroff -f
