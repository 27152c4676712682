# What this machine looks like from inside, a line each.
echo "cpus: $(nproc)"
echo "memory: $(awk '/^MemTotal:/ { print $2 }' /proc/meminfo) KiB"
echo "x2apic: $(grep -cw x2apic /proc/cpuinfo)"
echo "clocksource: $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "rtc: $(cat /sys/class/rtc/rtc0/since_epoch)"
echo "time: $(date +%s)"
for device in /sys/bus/virtio/devices/*; do
    [ -e "$device" ] && echo "virtio: $(cat "$device/device")"
done
# One line for each device on the PCI bus, and how those of virtio interrupt.
for device in /sys/bus/pci/devices/*; do
    [ -e "$device" ] && echo "pci: ${device##*/} $(cat "$device/vendor" "$device/device" | xargs)"
done
echo "messages: $(grep -c 'MSI.*virtio' /proc/interrupts)"
echo "pins: $(grep -c 'IO-APIC.*fasteoi.*virtio' /proc/interrupts)"
for disk in /sys/block/vd*; do
    [ -e "$disk" ] && echo "disk: ${disk##*/} $(cat "$disk/size") sectors, ro $(cat "$disk/ro")"
done
# Every processor does something, and has a timer that ticks.
for cpu in $(seq 0 $(($(nproc) - 1))); do
    taskset -c "$cpu" usleep 100000
done
awk '/'"$timer"'/ { for (i = 2; i <= 1 + '"$(nproc)"'; i++) if ($i > 0) n++; print "ticking: " n }' /proc/interrupts
# Errors and worse. There is no PCI, which Linux calls fatal and does without.
dmesg -r | grep '^<[0-3]>' | grep -v 'PCI: Fatal: No config space access function found' >/problems
echo "problems: $(wc -l </problems)"
cat /problems
