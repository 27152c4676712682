# Reads the last 64 KiB of the first disk, 32 MiB, until that fails; the first 64 KiB go on.
last() {
    blockdev --flushbufs /dev/vda
    dd if=/dev/vda of=/dev/null bs=64k skip=511 count=1 2>/dev/null
}
must last
echo ready
while last; do
    usleep 20000
done
echo "the end cannot be read"
yes short | dd of=/dev/vda bs=64k seek=511 count=1 conv=fsync || echo "nor written"
must dd if=/dev/vda of=/dev/null bs=64k count=1
echo alive
