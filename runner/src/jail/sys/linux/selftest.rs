//! Whether the jail holds, tried out: each kind of thread is put into it, in a process of its own, and
//! there does what it has to be able to do, or makes a call that whoever breaks in would like to make.

// UNSAFETY: a process that goes on in another one, and calls that the kernel refuses, have no safe
// interface.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, PipeWriter, Read};
use std::os::fd::AsRawFd;

use hv::Check;
use libc::c_long;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::{landlock, lists, seccomp};
use crate::config::JailChoice;
use crate::jail::{Error, Jail, Needs, Role, fatal};
use crate::outcome::status;
use crate::p9::Folder;

/// What a guest that has broken in would try: what it is, and the call for it.
const PROBES: [(&str, c_long, [c_long; 6]); 8] = [
    ("exec", libc::SYS_execve, [0; 6]),
    ("spawn", libc::SYS_clone, [libc::SIGCHLD as c_long, 0, 0, 0, 0, 0]),
    // But for PROT_EXEC it is what every thread may do.
    ("W^X", libc::SYS_mmap, [0, 4096, WRITE_AND_EXECUTE, PRIVATE, -1, 0]),
    ("W^X later", libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC as c_long, 0, 0, 0]),
    ("ptrace", libc::SYS_ptrace, [libc::PTRACE_ATTACH as c_long, 1, 0, 0, 0, 0]),
    (
        "netlink",
        libc::SYS_socket,
        [libc::AF_NETLINK as c_long, libc::SOCK_RAW as c_long, 0, 0, 0, 0],
    ),
    ("kill", libc::SYS_kill, [1, 0, 0, 0, 0, 0]),
    ("KVM_CREATE_VM", libc::SYS_ioctl, [-1, 0xae01, 0, 0, 0, 0]),
];

const WRITE_AND_EXECUTE: c_long = (libc::PROT_WRITE | libc::PROT_EXEC) as c_long;
const PRIVATE: c_long = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as c_long;

/// The jail's checks.
pub(super) fn checks() -> Vec<Check> {
    let landlock = match (landlock::missing(), landlock::version()) {
        (Some(missing), _) => {
            Check::warn("landlock", missing, "nothing is needed; --jail=strict wants Linux 6.12")
        }
        (None, version) => {
            Check::ok("landlock", format!("version {}", version.unwrap_or_default()))
        }
    };
    if !seccomp::available() {
        let remedy =
            "use a kernel with CONFIG_SECCOMP_FILTER, or a container that allows seccomp(2)";
        return vec![landlock, Check::warn("seccomp", seccomp::MISSING, remedy)];
    }
    let sizes = Role::ALL.map(|role| format!("{} {}", role.name(), lists::list(role).len()));
    let seccomp = format!("threads have lists of system calls: {}", sizes.join(", "));
    vec![landlock, Check::ok("seccomp", seccomp), tried()]
}

/// Tries it all.
fn tried() -> Check {
    const ID: &str = "jail";
    let failures: Vec<String> =
        Role::ALL.into_iter().flat_map(|role| failures(role).into_iter().flatten()).collect();
    if failures.is_empty() {
        let probes = PROBES.map(|(name, ..)| name).join(", ");
        let files = "no thread can open a file, but a share's in its folder";
        return Check::ok(ID, format!("{files}; refused: {probes}"));
    }
    let remedy = "report it, with the kernel's version and this line; guests you trust run with \
                  --jail=off";
    Check::warn(ID, failures.join("; "), remedy)
}

/// What does not work in a thread for `role`, and what does but must not.
fn failures(role: Role) -> Vec<Option<String>> {
    let name = role.name();
    let paths = landlock::version().is_some();
    let work = match within(role, |heap, folder| work(heap, folder, paths)) {
        Ok((Some(0), _)) => None,
        Ok((status, said)) => Some(format!("{name} cannot work: status {status:?}, {said:?}")),
        Err(error) => Some(format!("{name} cannot be tried: {error}")),
    };
    let refused = PROBES.iter().map(|(probe, number, arguments)| {
        let call = |_: Blocks, _: Option<&Folder>| {
            let [a, b, c, d, e, f] = *arguments;
            // SAFETY: with these arguments none of the calls would touch this process's memory.
            unsafe { libc::syscall(*number, a, b, c, d, e, f) };
        };
        match within(role, call) {
            Ok((Some(end), said))
                if end == i32::from(status::FAILED) && says(&said, name, *number) =>
            {
                None
            }
            Ok((end, said)) => {
                Some(format!("{name} can {probe} or dies of it: status {end:?}, {said:?}"))
            }
            Err(error) => Some(format!("{name} cannot be tried: {error}")),
        }
    });
    std::iter::once(work).chain(refused).collect()
}

/// Whether the line of a blocked call names it.
fn says(line: &str, thread: &str, number: c_long) -> bool {
    line.contains(&format!("thread {thread} at system call {number} ("))
}

/// A heap's worth of memory.
type Blocks = Vec<Box<[u8; 1000]>>;

fn blocks() -> Blocks {
    std::hint::black_box((0..1000).map(|_| Box::new([1; 1000])).collect())
}

/// What threads do beside their calls for guests: have memory, give it back, also another thread's
/// (`others`), and be told that there are no files but those in `folder`. `paths` says whether more than
/// a list of system calls sees to that.
fn work(others: Blocks, folder: Option<&Folder>, paths: bool) {
    drop(others);
    drop(blocks());
    drop(blocks());
    let mut large = std::hint::black_box(vec![1u8; 1 << 20]);
    large.resize(8 << 20, 1);
    drop(std::hint::black_box(large));
    std::thread::yield_now();
    let refused = File::open("/dev/null").map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(io::ErrorKind::PermissionDenied), "a file could be opened");
    let Some(folder) = folder else { return };
    let open = |path: &str| {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(folder, path, flags, Mode::empty()).map(drop)
    };
    assert_eq!(open("."), Ok(()), "the shared folder");
    assert!(!paths || open("/") == Err(Errno::ACCESS), "a folder beside the shared one");
}

/// Calls `what` in a thread for `role`, in the jail and in a process of its own. Returns that
/// process's status and what it said.
fn within(
    role: Role,
    what: impl FnOnce(Blocks, Option<&Folder>) + Send,
) -> io::Result<(Option<i32>, String)> {
    let (mut said, stderr) = io::pipe()?;
    // SAFETY: this process has one thread, and the new one goes on with a copy of it all.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => jailed(role, &stderr, what),
        child => child,
    };
    drop(stderr);
    let mut text = String::new();
    let read = said.read_to_string(&mut text);
    let child = Pid::from_raw(child).ok_or(io::ErrorKind::InvalidInput)?;
    let status = loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            ended => break ended?.map(|(_, status)| status),
        }
    };
    read?;
    Ok((status.and_then(WaitStatus::exit_status), text))
}

/// The child: never returns.
fn jailed(role: Role, stderr: &PipeWriter, what: impl FnOnce(Blocks, Option<&Folder>) + Send) -> ! {
    fatal::end_on_panic();
    // SAFETY: 2 is stderr, and nobody has it locked: there is one thread.
    unsafe { libc::dup2(stderr.as_raw_fd(), libc::STDERR_FILENO) };
    // Another thread's, which this one gives back.
    let heap = match role {
        role if role.is_main() => std::thread::spawn(blocks).join().unwrap_or_default(),
        _ => blocks(),
    };
    // One that anybody may read: root is somebody else from here on.
    let folder = match role {
        Role::Share => Some(Folder::open(&std::env::temp_dir(), true)),
        _ => None,
    };
    let folder = match folder.transpose() {
        Ok(folder) => folder,
        Err(error) => {
            done(Err(Error::system("open a folder to share")(io::Error::other(error.to_string()))))
        }
    };
    let shares: Vec<&Folder> = folder.iter().collect();
    let needs = Needs { descriptors: 10, shares: &shares, ..Needs::default() };
    let body = |jail: Jail| {
        let locked = jail.lock(role, folder.as_ref());
        done(locked.map(|()| what(heap, folder.as_ref())))
    };
    match Jail::enter(JailChoice::On, needs) {
        Err(error) => done(Err(error)),
        Ok(jail) if role.is_main() => body(jail),
        Ok(jail) => {
            std::thread::scope(|scope| {
                let thread = std::thread::Builder::new().name(role.name().to_owned());
                let ended =
                    thread.spawn_scoped(scope, move || body(jail)).map(|thread| thread.join());
                // A thread that is in the jail ends the process.
                done(
                    ended
                        .map(drop)
                        .and(Err(io::ErrorKind::Other.into()))
                        .map_err(Error::system("try it")),
                )
            })
        }
    }
}

fn done(result: Result<(), Error>) -> ! {
    if let Err(error) = &result {
        crate::log::line(format_args!("{error}"));
    }
    // SAFETY: ends the process, and with it whatever this copy would otherwise do a second time.
    unsafe { libc::_exit(i32::from(result.is_err())) }
}
