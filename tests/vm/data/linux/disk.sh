# disk FROM TO: files FROM to TO must be whole on the ext4 of the first disk. Then writes further files
# for ever, and says `synced N` when fsync(2) has returned for file N. Something else writes, too.
content() {
    yes "file $1" | head -c 20000
}
echo begin
must mount -t ext4 /dev/vda /mnt
for n in $(seq "$1" "$2"); do
    content "$n" | cmp - "/mnt/$n" || fail "file $n"
done
echo "found $1 to $2"
must rm -f /mnt/[0-9]* /mnt/churn
must sync
while :; do
    dd if=/dev/zero of=/mnt/churn bs=64k count=24
    rm /mnt/churn
done 2>/dev/null &
echo ready
n=$2
while :; do
    n=$((n + 1))
    content "$n" >"/mnt/$n"
    must sync "/mnt/$n"
    echo "synced $n"
done
