# idle SECONDS: does nothing for so long, and counts the timer interrupts of all processors.
ticks() {
    awk '/'"$timer"'/ { for (i = 2; i <= 1 + '"$(nproc)"'; i++) n += $i; print n }' /proc/interrupts
}
sleep 2
before=$(ticks)
echo begin
sleep "$1"
echo end
echo "ticks: $(($(ticks) - before))"
