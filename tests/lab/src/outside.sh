# The world outside of a guest's network is on the loopback: 192.0.2.1 and 2001:db8::1 are a host in it, and
# 169.254.169.254 has a cloud's secrets. Tests answer names at port 53, and anybody may ping.
ip link set lo up
ip address add 192.0.2.1/24 dev lo
ip address add 2001:db8::1/64 dev lo
ip address add 169.254.169.254/32 dev lo
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
# All groups there are: in a namespace of users that may be one.
echo 0 2147483647 2>/dev/null >/proc/sys/net/ipv4/ping_group_range || echo 0 0 >/proc/sys/net/ipv4/ping_group_range
