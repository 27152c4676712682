# every TIMES: what devices, share and vsock do, one after the other in one machine; each device is taken from its driver
# and given back TIMES times.
times=$1
. /jobs/devices.sh
set -- cache=loose copy rebind
. /jobs/share.sh
set -- "$times" 10
. /jobs/vsock.sh
