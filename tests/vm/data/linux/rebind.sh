# rebind TIMES: takes the first disk from its driver and gives it back, while it is read and written.
driver=/sys/bus/virtio/drivers/virtio_blk
device=$(basename "$(readlink -f /sys/block/vda/device)")
yes "before it all" | head -c 1048576 >/pattern
must dd if=/pattern of=/dev/vda bs=64k conv=fsync 2>/dev/null
for time in $(seq "$1"); do
    for reader in 1 2 3; do
        dd if=/dev/vda of=/dev/null bs=64k skip=$((16 * reader)) 2>/dev/null &
    done
    yes "load" | dd of=/dev/vda bs=64k seek=64 count=256 iflag=fullblock conv=fsync 2>/dev/null &
    usleep $((time * 997 % 50000))
    echo "$device" >$driver/unbind || fail "unbind, time $time"
    wait
    # The writer may have made a file in the device's place.
    [ -b /dev/vda ] || rm -f /dev/vda
    echo "$device" >$driver/bind || fail "bind, time $time"
    [ -b /dev/vda ] || fail "no disk, time $time"
    must sh -c 'dd if=/dev/vda bs=64k count=16 2>/dev/null | cmp - /pattern'
done
echo "bound $1 times"
