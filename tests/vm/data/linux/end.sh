# end STATUS | end poweroff | end reboot | end halt | end panic: ends the machine in one of the ways there are.
case $1 in
poweroff) poweroff -f ;;
reboot) reboot -f ;;
halt) halt -f ;;
panic) echo c >/proc/sysrq-trigger ;;
*) end "$1" ;;
esac
sleep 1000
