# net PARAMETER…: finds its network by DHCP, or takes the address in ADDRESS, with these parameters for the driver;
# then does what it is told on the console, a line each, and says the status of each. A peer answers at port 7.
for module in $(cat /modules/net); do
    case $module in
    */virtio_net.*) must insmod "$module" "$@" ;;
    *) must insmod "$module" ;;
    esac
done
must ip link set lo up
mkdir -p /etc /tmp
echo 'hosts: files dns' >/etc/nsswitch.conf
ulimit -n 4096
# What DHCP gave, for whoever asks.
cat >/bin/leased <<'SCRIPT'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "nameserver $dns" >/etc/resolv.conf
echo "$ip $mask $router $dns $serverid" >/lease
SCRIPT
chmod +x /bin/leased
up() {
    ip link set eth0 up
    if [ -n "$ADDRESS" ]; then
        ip addr add "$ADDRESS" dev eth0
        return
    fi
    udhcpc -i eth0 -n -q -t 10 -T 1 -s /bin/leased
}
peer serve 7 >/dev/null &
until peer open 127.0.0.1:7 >/dev/null; do
    usleep 10000
done
must up >/udhcpc 2>&1
stty -F $console -echo -onlcr -icrnl
echo '=== 0'
while read -r line; do
    eval "$line" </dev/null 2>&1
    echo "=== $?"
done
