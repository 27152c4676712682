# share WHAT [OPTIONS]: does something in the shared folder `data`, mounted with further OPTIONS.
what=$1
options=trans=virtio,version=9p2000.L,msize=262144${2:+,$2}
attach() {
    must mount -t 9p -o "$options" data /mnt
}

case $what in
copy)
    # What the host has put there, through this machine's memory and back.
    attach
    must cp /mnt/in /copy
    must cp /copy /mnt/out
    must sync /mnt/out
    must cmp /mnt/in /mnt/out
    # In small pieces, and not from the beginning on.
    must dd if=/mnt/in of=/mnt/pieces bs=1001 skip=3 seek=5 2>/dev/null
    ;;
files)
    # What there is to do with files and names.
    attach
    cd /mnt
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
    [ "$(df -P /mnt | awk 'NR == 2 { print ($2 > 0) }')" = 1 ] || fail "room"
    cd /
    ;;
names)
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
    ;;
read_only)
    attach
    must cmp /mnt/in /mnt/same
    for change in 'echo x >/mnt/new' 'echo x >>/mnt/in' 'rm /mnt/in' 'mkdir /mnt/d' 'mv /mnt/in /mnt/x' \
        'ln /mnt/in /mnt/x' 'ln -s in /mnt/x' 'chmod 600 /mnt/in' 'touch /mnt/in' 'truncate -s 0 /mnt/in'; do
        sh -c "$change" 2>/dev/null && fail "$change"
    done
    ;;
rebind)
    # The device is taken from its driver and given back, a hundred times.
    driver=/sys/bus/virtio/drivers/9pnet_virtio
    device=$(basename $driver/virtio*)
    for time in $(seq 100); do
        attach
        must cmp /mnt/in /mnt/same
        must umount /mnt
        echo "$device" >$driver/unbind || fail "unbind, time $time"
        echo "$device" >$driver/bind || fail "bind, time $time"
    done
    attach
    must cmp /mnt/in /mnt/same
    ;;
at_once)
    # Every processor at work.
    attach
    for job in $(seq 8); do
        (
            for n in 1 2 3 4 5; do
                yes "job $job" | head -c 20000 >"/mnt/$job.$n" || exit 1
                yes "job $job" | head -c 20000 | cmp - "/mnt/$job.$n" || exit 1
                mv "/mnt/$job.$n" "/mnt/done.$job.$n" || exit 1
            done
            echo "ended: $job"
        ) &
    done
    wait
    echo "done: $(ls /mnt/done.* | wc -l)"
    ;;
*) fail "no job share $what" ;;
esac
[ "$what" = rebind ] || must umount /mnt
