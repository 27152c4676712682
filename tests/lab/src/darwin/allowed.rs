//! The conditions on the operating system outside `sys/`, and why they are not there.

/// What a file may have.
#[derive(Debug)]
pub(super) struct Allowed {
    /// A file, or a folder of tests, which say beside each condition why.
    pub(super) file: &'static str,
    /// How many conditions; a folder's are not counted.
    pub(super) count: usize,
    pub(super) because: &'static str,
}

const fn allowed(file: &'static str, count: usize, because: &'static str) -> Allowed {
    Allowed { file, count, because }
}

/// By file.
pub(super) const ALLOWED: &[Allowed] = &[
    allowed("hv-hvf/tests/", 0, "on a Mac the framework may be Apple's"),
    allowed("hv-kvm/src/lib.rs", 1, "a backend for Linux: the crate is empty elsewhere"),
    allowed("hv-kvm/tests/", 0, "tests of a backend for Linux"),
    allowed(
        "hv/src/conformance/mod.rs",
        2,
        "doorbells signal an eventfd, which no other system has",
    ),
    allowed(
        "hv/src/mem.rs",
        1,
        "one advice to the kernel that macOS has not, in a call that both have",
    ),
    allowed("runner/src/devices/virtio/block/overlay.rs", 1, "a test that needs /dev/full"),
    allowed(
        "runner/src/devices/virtio/console/tests.rs",
        1,
        "a test: macOS has one answer for a socket that accepts nobody and one that is gone",
    ),
    allowed("runner/src/devices/virtio/tests/block.rs", 1, "a test that needs /dev/full"),
    allowed(
        "runner/src/devices/virtio/tests/mod.rs",
        1,
        "tests: macOS takes pages that are given back when it likes",
    ),
    allowed("runner/src/doctor/own.rs", 2, "a word in a sentence, and its test"),
    allowed("runner/src/emulate/qemu.rs", 3, "a word in a sentence, and its tests"),
    allowed("runner/src/host.rs", 3, "the one place that names a backend"),
    allowed("runner/src/io/mod.rs", 1, "what Linux does otherwise, and tests all the same"),
    allowed("runner/src/io/ports.rs", 1, "a test: macOS does not tell who has a port"),
    allowed("runner/src/io/signals.rs", 2, "a list of signals, of which Linux has one more"),
    allowed("runner/src/io/socket/local.rs", 1, "a test: macOS does not tell who has a socket"),
    allowed("runner/src/io/socket/tests.rs", 1, "a test of a queue that Linux alone has"),
    allowed("runner/src/io/space.rs", 4, "tests that need losetup(8)"),
    allowed("runner/src/io/terminal.rs", 3, "tests of signals that only one of the systems has"),
    allowed("runner/src/net/pcap/tests.rs", 1, "a test that needs /dev/full"),
    allowed(
        "runner/src/net/stream/tests.rs",
        1,
        "a test: macOS has one answer for a socket that accepts nobody and one that is gone",
    ),
    allowed("runner/src/net/tap.rs", 1, "tests of tap devices"),
    allowed("runner/src/net/user/tests/udp.rs", 1, "a test of what Linux tells about datagrams"),
    allowed("runner/src/p9/errno.rs", 1, "a test: Linux's numbers are those of the protocol"),
    allowed("runner/src/p9/tests/escape.rs", 1, "a test of what Linux alone has: /proc and /sys"),
    allowed("runner/src/run.rs", 1, "whether QEMU was built with a sandbox, which is for Linux"),
    allowed("tests/bench/", 0, "the floor that runner is measured against is a program for KVM"),
    allowed("tests/vm/", 0, "tests of what one system has, each with its reason beside it"),
];

impl Allowed {
    /// Whether `file` is this file, or in this folder.
    pub(super) fn covers(&self, file: &str) -> bool {
        match self.is_folder() {
            true => file.starts_with(self.file),
            false => file == self.file,
        }
    }

    pub(super) fn is_folder(&self) -> bool {
        self.file.ends_with('/')
    }
}
