//! Which system calls each kind of thread may make once the guest runs.
//!
//! `tests/vm/tests/jail.rs` traces runs and holds the lists to what it sees: a call that nobody makes
//! has to go. A list grows by a line in its function here, with the number checked where the call
//! does many things; the names are the kernel's, and those that an architecture does not have stand
//! behind `cfg(target_arch)`.

use super::filter::Rule::{Any, Denied, If, OrDenied};
use super::filter::Test::{Among, OwnProcess, With, Without};
use super::filter::{Call, Program, Rule, program};
use crate::jail::Role;

/// A line: the call by its name in `libc`.
macro_rules! call {
    ($number:ident, $name:literal, $rule:expr) => {
        Call { name: $name, number: number(libc::$number), rule: $rule }
    };
}

#[expect(clippy::cast_possible_truncation, reason = "all are below 600")]
const fn number(call: libc::c_long) -> u32 {
    call.unsigned_abs() as u32
}

const fn bits(value: i32) -> u32 {
    value.unsigned_abs()
}

/// Memory that can be executed is nobody's to make.
const NOT_EXECUTABLE: (u8, super::filter::Test) = (2, Without(bits(libc::PROT_EXEC)));

/// Memory of our own, never a file's.
const MMAP: Rule = If(&[NOT_EXECUTABLE, (3, With(bits(libc::MAP_ANONYMOUS)))]);

/// A large block that grows: where it is, or where there is room.
const MREMAP: Rule = If(&[(3, Among(&[bits(libc::MREMAP_MAYMOVE)]))]);

/// What glibc asks for when it gives a thread's stack back.
const MADVISE: Rule = If(&[(2, Among(&[bits(libc::MADV_DONTNEED)]))]);

/// A kick, to a thread of ours (`hv_kvm::kick`), and abort(3).
const TGKILL: Rule = If(&[(0, OwnProcess)]);

/// `ioctl`s, by number. They are equal on all architectures that KVM has.
const KVM_RUN: u32 = 0xae80;
/// Where a guest is, when it is stopped for an instruction that cannot be executed; and whether it
/// sleeps.
#[cfg(target_arch = "x86_64")]
const KVM_STATE: [u32; 3] = [
    0x8090_ae81, // KVM_GET_REGS
    0xc018_ae85, // KVM_TRANSLATE
    0x8004_ae98, // KVM_GET_MP_STATE
];
#[cfg(target_arch = "aarch64")]
const KVM_STATE: [u32; 3] = [
    0x4010_aeab, // KVM_GET_ONE_REG
    0x4010_aeac, // KVM_SET_ONE_REG: what a hypercall is answered with
    0x8004_ae98, // KVM_GET_MP_STATE
];

/// Lists one behind the other.
const fn join<T: Copy, const A: usize, const B: usize, const N: usize>(
    first: [T; A],
    second: [T; B],
) -> [T; N] {
    assert!(A + B == N && B > 0);
    let mut all = [second[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < A { first[at] } else { second[at - A] };
        at += 1;
    }
    all
}

/// What every thread does: write to a console, stderr or an event, wait, have memory, end.
const ANYTHING: [Call; 13] = [
    call!(SYS_write, "write", Any),
    call!(SYS_ppoll, "ppoll", Any),
    call!(SYS_futex, "futex", Any),
    // A queue between threads that others are at, too.
    call!(SYS_sched_yield, "sched_yield", Any),
    call!(SYS_brk, "brk", Any),
    call!(SYS_mmap, "mmap", MMAP),
    call!(SYS_munmap, "munmap", Any),
    call!(SYS_mremap, "mremap", MREMAP),
    // Behind a signal; behind SIGSTOP and SIGCONT in the middle of some waits with a time limit;
    // where a clock cannot be read without the kernel.
    call!(SYS_rt_sigreturn, "rt_sigreturn", Any),
    call!(SYS_restart_syscall, "restart_syscall", Any),
    call!(SYS_clock_gettime, "clock_gettime", Any),
    // The end, of a thread or of all, with the terminal put back undisturbed by signals.
    call!(SYS_rt_sigprocmask, "rt_sigprocmask", Any),
    call!(SYS_exit_group, "exit_group", Any),
];

/// The same, without a file: a library that looks for one does without.
const EVERYBODY: [Call; 14] = join(ANYTHING, [call!(SYS_openat, "openat", Denied)]);

/// What every thread does but the main one: end alone.
const ALONE: [Call; 2] = [call!(SYS_madvise, "madvise", MADVISE), call!(SYS_exit, "exit", Any)];

const THREAD: [Call; 16] = join(EVERYBODY, ALONE);

/// Descriptors that a thread is the last one to have. The library of a debug build looks whether one
/// is open before it closes it.
#[cfg(debug_assertions)]
const CLOSE: [Call; 2] = [
    call!(SYS_close, "close", Any),
    call!(SYS_fcntl, "fcntl", If(&[(1, Among(&[bits(libc::F_GETFD)]))])),
];
#[cfg(not(debug_assertions))]
const CLOSE: [Call; 1] = [call!(SYS_close, "close", Any)];

/// What any thread asks for: the terminal on stdin, which it puts back on its way out
/// (`io::terminal`), and an interrupt for the guest.
const ANYBODYS: [u32; 5] = [
    0x802c_542a, // TCGETS2
    0x402c_542b, // TCSETS2
    0x540f,      // TIOCGPGRP
    0x4008_ae61, // KVM_IRQ_LINE
    0x4020_aea5, // KVM_SIGNAL_MSI
];

const VCPU_IOCTLS: Rule = {
    const ALL: &[u32] =
        &join::<_, 4, 5, 9>([KVM_RUN, KVM_STATE[0], KVM_STATE[1], KVM_STATE[2]], ANYBODYS);
    If(&[(1, Among(ALL))])
};

/// A vCPU, which may be the one that ends the run.
const VCPU: [Call; 18 + CLOSE.len()] = join(
    join::<_, 16, 2, 18>(
        THREAD,
        [call!(SYS_ioctl, "ioctl", VCPU_IOCTLS), call!(SYS_tgkill, "tgkill", TGKILL)],
    ),
    CLOSE,
);

/// The main thread: the first vCPU, then the end of the run and its record.
const MAIN: [Call; 17 + CLOSE.len()] = join(
    join::<_, 14, 3, 17>(
        EVERYBODY,
        [
            call!(SYS_ioctl, "ioctl", VCPU_IOCTLS),
            call!(SYS_tgkill, "tgkill", TGKILL),
            call!(SYS_ftruncate, "ftruncate", Any),
        ],
    ),
    CLOSE,
);

/// The same where hypercalls read and write disks.
const MAIN_DISK: [Call; 21 + CLOSE.len()] = join(
    MAIN,
    [
        call!(SYS_preadv, "preadv", Any),
        call!(SYS_preadv2, "preadv2", Any),
        call!(SYS_pwritev, "pwritev", Any),
        call!(SYS_fdatasync, "fdatasync", Any),
    ],
);

/// Registers of the first vCPU, for a dump, beside what any vCPU's thread may ask for.
#[cfg(target_arch = "x86_64")]
const DUMP_IOCTLS: Rule = {
    const KVM_GET_SREGS: u32 = 0x8138_ae83;
    const ALL: &[u32] = &join::<_, 5, 5, 10>(
        [KVM_RUN, KVM_STATE[0], KVM_STATE[1], KVM_STATE[2], KVM_GET_SREGS],
        ANYBODYS,
    );
    If(&[(1, Among(ALL))])
};
#[cfg(target_arch = "aarch64")]
const DUMP_IOCTLS: Rule = VCPU_IOCTLS;

/// The same, and a guest's core, or that there is none.
const MAIN_DUMP: [Call; 22 + CLOSE.len()] = {
    let mut list = join::<_, { MAIN_DISK.len() }, 1, { 22 + CLOSE.len() }>(
        MAIN_DISK,
        [call!(SYS_unlinkat, "unlinkat", If(&[BELOW]))],
    );
    let mut at = 0;
    while list[at].number != number(libc::SYS_ioctl) {
        at += 1;
    }
    list[at].rule = DUMP_IOCTLS;
    list
};

/// What epoll_wait(3) calls; newer architectures have one call for it and epoll_pwait(3).
#[cfg(target_arch = "x86_64")]
const EPOLL_WAIT: Call = call!(SYS_epoll_wait, "epoll_wait", Any);
#[cfg(target_arch = "aarch64")]
const EPOLL_WAIT: Call = call!(SYS_epoll_pwait, "epoll_pwait", Any);

/// Events, signals, the timeout, stdin.
const LOOP: [Call; 23] = join(
    THREAD,
    [
        EPOLL_WAIT,
        call!(SYS_epoll_ctl, "epoll_ctl", Any),
        call!(SYS_read, "read", Any),
        // For a guest with an entropy device.
        call!(SYS_getrandom, "getrandom", Any),
        call!(SYS_tgkill, "tgkill", TGKILL),
        // raise(3), to stop as SIGTSTP asks for.
        call!(SYS_getpid, "getpid", Any),
        call!(SYS_gettid, "gettid", Any),
    ],
);

/// The I/O loop, and a terminal on stdin.
const IO: [Call; 24 + CLOSE.len()] =
    join(join::<_, 23, 1, 24>(LOOP, [call!(SYS_ioctl, "ioctl", IO_IOCTLS)]), CLOSE);

/// The size of a terminal's window (TIOCGWINSZ), for a guest with a virtio console.
const WINDOW_SIZE: u32 = 0x5413;

const IO_IOCTLS: Rule = If(&[(1, Among(&join::<_, 1, 5, 6>([WINDOW_SIZE], ANYBODYS)))]);

/// TCP and UDP, over IPv4 or IPv6, and of ICMP what anybody may send: no other kind of socket.
const SOCKET: Rule = If(&[(0, Among(&[bits(libc::AF_INET), bits(libc::AF_INET6)])), (1, KINDS)]);
const KINDS: super::filter::Test =
    Among(&[SOCKET_FLAGS | bits(libc::SOCK_STREAM), SOCKET_FLAGS | bits(libc::SOCK_DGRAM)]);
const SOCKET_FLAGS: u32 = bits(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);

/// Streams in the file system.
const LOCAL_SOCKET: Rule = If(&[
    (0, Among(&[bits(libc::AF_UNIX)])),
    (1, Among(&[SOCKET_FLAGS | bits(libc::SOCK_STREAM)])),
]);

/// The I/O loop with a socket device.
const VSOCK: [Call; 32 + CLOSE.len()] = join(
    join::<_, 23, 9, 32>(
        LOOP,
        [
            call!(SYS_ioctl, "ioctl", IO_IOCTLS),
            call!(SYS_socket, "socket", LOCAL_SOCKET),
            call!(SYS_connect, "connect", Any),
            call!(SYS_accept4, "accept4", Any),
            call!(SYS_sendmsg, "sendmsg", Any),
            call!(SYS_recvfrom, "recvfrom", Any),
            call!(SYS_readv, "readv", Any),
            call!(SYS_shutdown, "shutdown", Any),
            // Its own socket, at the end.
            call!(SYS_unlinkat, "unlinkat", Any),
        ],
    ),
    CLOSE,
);

/// Tells a tap device what the guest leaves to it.
const TUNSETOFFLOAD: u32 = 0x4004_54d0;

const NETWORK_IOCTLS: Rule =
    If(&[(1, Among(&join::<_, 2, 5, 7>([TUNSETOFFLOAD, WINDOW_SIZE], ANYBODYS)))]);

/// The I/O loop with a network: what it does without one, and connections.
const NETWORK: [Call; 37 + CLOSE.len()] = network(SOCKET);

/// With a socket device as well: its sockets, and that it removes its own.
const NETWORK_VSOCK: [Call; 38 + CLOSE.len()] = join(
    network(If(&[
        (0, Among(&[bits(libc::AF_INET), bits(libc::AF_INET6), bits(libc::AF_UNIX)])),
        (1, KINDS),
    ])),
    [call!(SYS_unlinkat, "unlinkat", Any)],
);

const fn network(socket: Rule) -> [Call; 37 + CLOSE.len()] {
    join(
        join::<_, 23, 14, 37>(
            LOOP,
            [
                call!(SYS_ioctl, "ioctl", NETWORK_IOCTLS),
                call!(SYS_socket, "socket", socket),
                call!(SYS_connect, "connect", Any),
                call!(SYS_accept4, "accept4", Any),
                call!(SYS_sendto, "sendto", Any),
                call!(SYS_sendmsg, "sendmsg", Any),
                call!(SYS_recvfrom, "recvfrom", Any),
                // What became of a datagram that nobody took.
                call!(SYS_recvmsg, "recvmsg", Any),
                call!(SYS_readv, "readv", Any),
                // Frames, to a tap device.
                call!(SYS_writev, "writev", Any),
                call!(SYS_shutdown, "shutdown", Any),
                call!(SYS_getsockopt, "getsockopt", Any),
                call!(SYS_setsockopt, "setsockopt", Any),
                call!(SYS_getpeername, "getpeername", Any),
            ],
        ),
        CLOSE,
    )
}

/// Tells a block device what does not matter.
const BLKDISCARD: u32 = 0x1277;

const DISK_IOCTLS: Rule = If(&[(1, Among(&join::<_, 1, 5, 6>([BLKDISCARD], ANYBODYS)))]);

/// A thread that serves disks.
const DISK: [Call; 24] = join(
    THREAD,
    [
        call!(SYS_epoll_pwait, "epoll_pwait", Any),
        call!(SYS_preadv, "preadv", Any),
        call!(SYS_preadv2, "preadv2", Any),
        call!(SYS_pwritev, "pwritev", Any),
        // Zeros, where a file system cannot make them; and how it does, or gives room back.
        call!(SYS_pwrite64, "pwrite64", Any),
        call!(SYS_fallocate, "fallocate", Any),
        call!(SYS_ioctl, "ioctl", DISK_IOCTLS),
        call!(SYS_fdatasync, "fdatasync", Any),
    ],
);

/// Below a descriptor, never from the working directory on (`AT_FDCWD`, which is negative).
const BELOW: (u8, super::filter::Test) = (0, Without(1 << 31));

/// And not through a link. A path that begins at the top is Landlock's to refuse.
const OPENAT: Rule = OrDenied(&[BELOW, (2, With(bits(libc::O_NOFOLLOW)))]);

/// A thread that serves a shared folder. `fchmod`, and never by name: Landlock has no say in modes.
const SHARE: [Call; 36 + CLOSE.len()] = join(
    join::<_, 15, 21, 36>(
        join(ANYTHING, ALONE),
        [
            call!(SYS_epoll_pwait, "epoll_pwait", Any),
            call!(SYS_ioctl, "ioctl", If(&[(1, Among(&ANYBODYS))])),
            call!(SYS_openat, "openat", OPENAT),
            call!(SYS_fstat, "fstat", Any),
            call!(SYS_newfstatat, "newfstatat", If(&[BELOW])),
            call!(SYS_fstatfs, "fstatfs", Any),
            call!(SYS_pread64, "pread64", Any),
            call!(SYS_pwrite64, "pwrite64", Any),
            call!(SYS_getdents64, "getdents64", Any),
            // A listing from its beginning.
            call!(SYS_lseek, "lseek", Any),
            call!(SYS_fsync, "fsync", Any),
            call!(SYS_fdatasync, "fdatasync", Any),
            call!(SYS_ftruncate, "ftruncate", Any),
            call!(SYS_fchmod, "fchmod", Any),
            call!(SYS_utimensat, "utimensat", If(&[BELOW])),
            call!(SYS_mkdirat, "mkdirat", If(&[BELOW])),
            call!(SYS_symlinkat, "symlinkat", If(&[(1, Without(1 << 31))])),
            call!(SYS_readlinkat, "readlinkat", If(&[BELOW])),
            call!(SYS_linkat, "linkat", If(&[BELOW, (2, Without(1 << 31)), (4, Among(&[0]))])),
            call!(SYS_renameat, "renameat", If(&[BELOW, (2, Without(1 << 31))])),
            call!(SYS_unlinkat, "unlinkat", If(&[BELOW])),
        ],
    ),
    CLOSE,
);

static PROGRAMS: [Program; 10] = [
    program(MAIN),
    program(MAIN_DISK),
    program(MAIN_DUMP),
    program(VCPU),
    program(IO),
    program(NETWORK),
    program(VSOCK),
    program(NETWORK_VSOCK),
    program(DISK),
    program(SHARE),
];

/// What a thread may call.
pub(super) fn list(role: Role) -> &'static [Call] {
    match role {
        Role::Main => &MAIN,
        Role::MainDisk => &MAIN_DISK,
        Role::MainDump => &MAIN_DUMP,
        Role::Vcpu => &VCPU,
        Role::Io => &IO,
        Role::Network => &NETWORK,
        Role::Vsock => &VSOCK,
        Role::NetworkVsock => &NETWORK_VSOCK,
        Role::Disk => &DISK,
        Role::Share => &SHARE,
    }
}

/// The same as a program.
pub(super) fn filter(role: Role) -> Program {
    let [main, main_disk, main_dump, vcpu, io, network, vsock, network_vsock, disk, share] =
        &PROGRAMS;
    *match role {
        Role::Main => main,
        Role::MainDisk => main_disk,
        Role::MainDump => main_dump,
        Role::Vcpu => vcpu,
        Role::Io => io,
        Role::Network => network,
        Role::Vsock => vsock,
        Role::NetworkVsock => network_vsock,
        Role::Disk => disk,
        Role::Share => share,
    }
}
