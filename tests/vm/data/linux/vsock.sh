# vsock TIMES ROW [NAME]: brings a file from the host's port 101 and sends it to 100, before and after its driver was unbound
# and bound TIMES times while connections were made; makes ROW connections with port 102, one behind the other; sends
# back what comes on the console's port NAME; then serves at port 7 until port 103 has closed.
for module in $(cat /modules/vsock); do
    must insmod "$module"
done
driver=/sys/bus/virtio/drivers/vmw_vsock_virtio_transport
device=
for link in $driver/virtio*; do
    device=$(basename "$link")
done
copy() {
    must peer vsock get 101 /copy
    must peer vsock put 100 /copy
}
copy
if [ -n "$3" ]; then
    module=$(grep console /modules/devices) && must insmod "$module"
    until port=$(grep -lsx "$3" /sys/class/virtio-ports/*/name); do
        usleep 20000
    done
    exec 4<>"/dev/$(basename "$(dirname "$port")")"
    must head -c 100000 <&4 >/port
    must dd if=/port bs=4096 2>/dev/null >&4
    exec 4>&-
    echo "$3: $(wc -c </port)"
fi
echo "row: $(peer vsock row 102 "$2")"
for time in $(seq "$1"); do
    peer vsock row 102 1000 >/dev/null 2>&1 &
    usleep $((time * 997 % 20000))
    echo "$device" >$driver/unbind || fail "unbind, time $time"
    wait
    echo "$device" >$driver/bind || fail "bind, time $time"
done
echo "bound $1 times"
copy
peer vsock echo 7 >/dev/null &
must peer vsock get 103 /end
