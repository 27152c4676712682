#!/bin/busybox sh
# The lab's first process: file systems, loopback, KVM, then the agent in its own place.
# When the agent ends, the kernel panics, `panic=-1` reboots, `-no-reboot` ends QEMU.
busybox=/bin/busybox
$busybox --install -s /bin
export PATH=/bin HOME=/home/user
mkdir -p /proc /sys /dev /tmp /etc /home/user
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
# KVM's counters, for whoever measures.
mount -t debugfs -o mode=755 debug /sys/kernel/debug
# And counts of the calls that make files durable.
mount -t tracefs -o mode=755 tracing /sys/kernel/tracing
events=/sys/kernel/tracing/events
chmod 755 $events $events/syscalls
for call in $events/syscalls/sys_enter_fsync $events/syscalls/sys_enter_fdatasync; do
    chmod 755 $call && chmod 666 $call/trigger && chmod 644 $call/hist
done
ln -s /proc/self/fd /dev/fd
for stream in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${stream%:*} /dev/${stream#*:}; done
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
# /tmp stays on the root, itself a tmpfs: the checkout may be there.
chmod 1777 /tmp
mkdir /lab/output
mount -t tmpfs -o size=16m output /lab/output
printf '%s\n' 'root:x:0:0:root:/:/bin/sh' 'user:x:1000:1000:user:/home/user:/bin/sh' >/etc/passwd
printf '%s\n' 'root:x:0:' 'user:x:1000:' >/etc/group
chown user:user /home/user
echo 'nameserver 127.0.0.1' >/etc/resolv.conf
. /lab/outside.sh
. /lab/machine.sh
for module in $modules; do insmod "/lab/$module"; done
chmod 666 /dev/kvm /dev/net/tun
exec /lab/lab agent /lab/plan.json "$reports"
