# share OPTIONS WHAT...: does each of these things in its folder of the share `data`, mounted with further OPTIONS.
options=trans=virtio,version=9p2000.L,msize=262144,$1
attach() {
    must mount -t 9p -o "$options" "${1:-data}" /mnt
}

# What there is to do, in /mnt.
copy() {
    # What the host has put there, through this machine's memory and back.
    attach
    cd /mnt/copy
    must cp in /copy
    must cp /copy out
    must sync out
    must cmp in out
    # In small pieces, and not from the beginning on.
    must dd if=in of=pieces bs=1001 skip=3 seek=5 2>/dev/null
    cd /
    must umount /mnt
}
files() {
    # What there is to do with files and names.
    attach
    cd /mnt/files
    must mkdir -p a/b/c
    echo one >a/b/c/file
    echo two >>a/b/c/file
    must mv a/b x
    [ "$(cat x/c/file)" = "one
two" ] || fail "the file that was moved with its folder"
    must ln x/c/file hard
    must ln -s x/c/file soft
    [ "$(cat soft)" = "$(cat hard)" ] || fail "links"
    [ "$(stat -c %h hard)" = 2 ] || fail "the number of links"
    [ "$(readlink soft)" = x/c/file ] || fail "what a link says"
    must chmod 640 hard
    [ "$(stat -c %a x/c/file)" = 640 ] || fail "a mode"
    must truncate -s 3 hard
    [ "$(cat x/c/file)" = one ] || fail "a file cut short"
    must touch -d '2001-02-03 04:05:06' hard
    [ "$(stat -c %Y hard)" = "$(date -d '2001-02-03 04:05:06' +%s)" ] || fail "a time"
    chown 12345 hard 2>/dev/null && fail "a file was given away"
    mknod null c 1 3 2>/dev/null && fail "a device was made"
    mkfifo pipe 2>/dev/null && fail "a pipe was made"
    # A file that is open is there after its name.
    echo still >gone
    exec 3<gone
    must rm gone
    read -r line <&3
    [ "$line" = still ] || fail "a file without a name"
    exec 3<&-
    # Up is where it was mounted, whatever that is on the host.
    must ln -s /mnt/../../../../bin/busybox up
    must cmp up /bin/busybox
    rmdir x 2>/dev/null && fail "a folder that is not empty was removed"
    must rm -r a
    [ "$(df -P . | awk 'NR == 2 { print ($2 > 0) }')" = 1 ] || fail "room"
    cd /
    must umount /mnt
}
names() {
    # The host has put 10,000 there.
    attach
    set -- /mnt/many/*
    echo "names: $#"
    must mkdir /mnt/more
    for n in $(seq 60); do
        : >"/mnt/more/file $n"
    done
    set -- /mnt/more/*
    echo "made: $#"
    must rm -r /mnt/more
    must umount /mnt
}
read_only() {
    # A share of its own.
    attach only
    must cmp /mnt/in /mnt/same
    for change in 'echo x >/mnt/new' 'echo x >>/mnt/in' 'rm /mnt/in' 'mkdir /mnt/d' 'mv /mnt/in /mnt/x' \
        'ln /mnt/in /mnt/x' 'ln -s in /mnt/x' 'chmod 600 /mnt/in' 'touch /mnt/in' 'truncate -s 0 /mnt/in'; do
        sh -c "$change" 2>/dev/null && fail "$change"
    done
    must umount /mnt
}
rebind() {
    # The device is taken from its driver and given back, a hundred times or as often as `times` says.
    driver=/sys/bus/virtio/drivers/9pnet_virtio
    device=$(basename "$(dirname "$(grep -l data $driver/virtio*/mount_tag)")")
    for time in $(seq "${times:-100}"); do
        attach
        must cmp /mnt/same/in /mnt/same/same
        must umount /mnt
        echo "$device" >$driver/unbind || fail "unbind, time $time"
        echo "$device" >$driver/bind || fail "bind, time $time"
    done
    attach
    must cmp /mnt/same/in /mnt/same/same
    must umount /mnt
}
at_once() {
    # Every processor at work.
    attach
    cd /mnt/at_once
    for job in $(seq 8); do
        (
            for n in 1 2 3 4 5; do
                yes "job $job" | head -c 20000 >"$job.$n" || exit 1
                yes "job $job" | head -c 20000 | cmp - "$job.$n" || exit 1
                mv "$job.$n" "done.$job.$n" || exit 1
            done
            echo "ended: $job"
        ) &
    done
    wait
    echo "done: $(ls done.* | wc -l)"
    cd /
    must umount /mnt
}

shift
for what in "$@"; do
    "$what"
    echo "done with: $what"
done
