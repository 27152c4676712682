# The first disk can be read and not written.
must dd if=/dev/vda of=/dev/null bs=64k count=1
yes no | dd of=/dev/vda bs=64k count=1 conv=fsync && fail "it was written"
must mount -t ext4 -o ro /dev/vda /mnt
touch /mnt/file && fail "a file was made"
umount /mnt
mount -t ext4 -o rw /dev/vda /mnt && touch /mnt/file && fail "it was mounted to be written"
echo alive
