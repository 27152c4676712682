# devices TIMES: has memory used and free again, a balloon take it, random bytes read, and lines heard on the virtio
# console whose window has a size; takes each of the three devices from its driver and gives it back TIMES times while
# it is used, and does it all once more. What it waits for is typed.
# Where it is no module it is in the kernel.
module=$(grep console /modules/devices) && must insmod "$module"
must insmod "$(grep rng /modules/devices)"
console=/dev/hvc0
[ -c $console ] || fail "no virtio console"
# Both consoles are on one stdout, and only one of them speaks at a time.
opened() {
    exec 3<>$console
    must stty -echo <&3
}
heard() {
    read -r word <&3
    echo "heard: $word"
}
# Of a console without further ports Linux learns the size when that changes, and sets it a while later if the
# terminal is open.
sized() {
    echo "open$2"
    until [ "$(stty size <&3 2>/dev/null)" = "$1" ]; do
        usleep 50000
    done
    echo "size: $1"
}
random() {
    must dd if=/dev/hwrng of="/$1" bs=4096 count=1 iflag=fullblock 2>/dev/null
    [ "$(tr -d '\000' <"/$1" | wc -c)" -gt 4000 ] || fail "zeros: $(hexdump "/$1" | head -n 5)"
}
bound() {
    driver=/sys/bus/virtio/drivers/$1
    device=$(basename "$driver"/virtio*)
    for time in $(seq "$2"); do
        eval "$3" >/dev/null 2>&1 &
        usleep $((time * 997 % 2000))
        echo "$device" >"$driver/unbind" || fail "unbind $1, time $time"
        wait
        echo "$device" >"$driver/bind" || fail "bind $1, time $time"
    done
    echo "$1: bound $2 times"
}
echo "rng: $(cat /sys/class/misc/hw_random/rng_current)"
random one
random two
cmp -s /one /two && fail "the same bytes twice"
opened
sized "50 132"
heard
must dd if=/dev/zero of=/memory bs=1M count=96 2>/dev/null
must insmod "$(grep balloon /modules/devices)"
sync
echo "filled"
heard
rm /memory
echo "free"
heard
exec 3>&-
bound virtio_rng "$1" "dd if=/dev/hwrng of=/dev/null bs=4096 count=8"
bound virtio_console "$1" "true"
bound virtio_balloon "$1" "true"
random one
cmp -s /one /two && fail "the same bytes twice"
opened
sized "40 100" " again"
heard
usleep 300000
echo "on the virtio console" >&3
