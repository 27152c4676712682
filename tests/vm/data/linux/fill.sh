# Writes all of the first disk, which has no room for it.
yes full | dd of=/dev/vda bs=64k count=512 iflag=fullblock conv=fsync && fail "32 MiB were written"
blockdev --flushbufs /dev/vda
must dd if=/dev/vda of=/dev/null bs=64k count=1
must sh -c 'dd if=/dev/vda bs=4 count=1 2>/dev/null | grep -q full'
echo alive
