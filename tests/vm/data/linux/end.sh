# end STATUS | end poweroff | end reboot | end halt | end panic: ends the machine in one of the ways there are. Who
# panics says so to pvpanic, where there is a driver for it.
case $1 in
poweroff) poweroff -f ;;
reboot) reboot -f ;;
halt) halt -f ;;
panic)
    for module in /modules/pvpanic.ko /modules/pvpanic-mmio.ko; do
        [ ! -f $module ] || insmod $module
    done
    echo c >/proc/sysrq-trigger
    ;;
*) end "$1" ;;
esac
sleep 1000
