//! A small, honest abstraction of vCPUs and guest memory.
//!
//! `hv` is the contract between a virtual machine monitor and a host's hypervisor: KVM on Linux
//! (`hv-kvm`), Hypervisor.framework on macOS (`hv-hvf`), a script anywhere ([`script`]). It has no
//! devices and no policy; those are written once, against the traits here.
//!
//! This is a whole monitor. It runs three instructions that add two numbers:
//!
//! ```
//! use hv::arch::x86_64::{State, write_gdt};
//! use hv::{Address, Exit, GuestRam, Hypervisor, Resume, Vcpu, VcpuSeed, Vm, VmConfig};
//! use vm_memory::{Bytes, GuestAddress};
//!
//! fn sum<H: Hypervisor>(hypervisor: &H) -> hv::Result<u64> {
//!     let code = [0xb0, 2, 0x04, 40, 0xe6, 0x10]; // mov al, 2; add al, 40; out 0x10, al
//!     let memory = hv::mem::memory([(0, GuestRam::new(1 << 20)?)])?;
//!     memory.write_slice(&code, GuestAddress(0x8000)).expect("0x8000 is RAM");
//!     write_gdt(&memory, 0x500)?;
//!
//!     let (vm, mut seeds) = hypervisor.create(VmConfig::new().memory(&memory))?;
//!     let mut vcpu = seeds.remove(0).bind()?; // this thread's from now on
//!     vcpu.set_state(&State::protected_mode(0x8000, 0x500).into())?;
//!     vm.ready()?; // everybody is bound
//!     match vcpu.run(Resume::Go)? {
//!         Exit::Write { at: Address::Port(0x10), value, .. } => Ok(value),
//!         other => panic!("the guest did something else: {other:?}"),
//!     }
//! }
//!
//! # #[cfg(target_os = "linux")]
//! match hv_kvm::Kvm::open() {
//!     Ok(kvm) => assert_eq!(sum(&kvm)?, 42),
//!     Err(error) => println!("skipped: {error}"),
//! }
//! # Ok::<(), hv::Error>(())
//! ```
//!
//! # The contract
//!
//! Modules refer to these by number: "contract 3".
//!
//! 1. **Order.** A VM is described ([`VmConfig`]) and created in one call, in whatever order the
//!    host wants. Each vCPU is then [bound](VcpuSeed::bind) to a thread, [`Vm::ready`] checks that
//!    all are, and only then do vCPUs run and can lines and doorbells be had. If one vCPU cannot
//!    be bound, the VM never becomes ready.
//! 2. **Threads.** A bound vCPU is not `Send`: it is run, read, written and dropped where it was
//!    bound. Everything else ([`Vm`], [`Kicker`], lines) goes anywhere.
//! 3. **Accesses.** [`Exit::Read`] and [`Exit::Write`] leave an access pending, which the next
//!    [`Vcpu::run`] commits: [`Resume::Value`] answers a read, [`Resume::Go`] anything else, and the
//!    wrong one is an error that changes nothing. One instruction may bring several accesses.
//!    Registers can be touched when nothing is pending; [`Vcpu::settle`] gets there.
//! 4. **Kicks** are a sticky bit: the current or next run returns [`Exit::Kicked`], once. What is
//!    left of an instruction comes before it. No other cause returns it.
//! 5. **Lines** carry events ([`EdgeLine::pulse`]) or conditions ([`LevelLine::set`]).
//! 6. **RAM** ([`GuestRam`]) is shared with the guest; it outlives the VM and its vCPUs, since they
//!    hold it.
//! 7. **Abilities** are in [`Caps`]. What a host lacks answers [`Kind::Unsupported`]. A VM without
//!    an in-kernel irqchip shows [`Exit::Halted`], but on KVM for arm64, which has no such exit; one
//!    with it waits inside the run. [`Exit::Hypercall`] comes for functions that
//!    [were asked for](VmConfig::hypercall), and only then.
//! 8. **State** is keyed by architecture ([`State`]).
//! 9. **One error** ([`Error`]) names the operation, the host's code, the place and the remedy.
//! 10. **No panic** is in a guest's reach. What nobody can handle is [`Exit::Unhandled`].
//! 11. What a framework leaves to its caller (PSCI, advancing the PC) stays in the backend. On arm64
//!     all vCPUs but the first are off until the guest starts them (PSCI `CPU_ON`), whatever their
//!     registers are set to; their affinities are those of [`arch::aarch64::affinity`].
//! 12. **Conformance.** One suite of micro-guests says what all this means, on every backend.

pub mod arch;
pub mod conformance;
pub mod mem;
pub mod script;

mod caps;
mod config;
mod error;
mod exit;
mod host;
mod insn;
mod pending;
mod roster;
mod traits;

pub use arch::{Arch, State};
pub use caps::{Caps, Monitors};
pub use config::{IrqChip, Parts, RamFlags, Slot, VmConfig, check_slot};
pub use error::{Error, Kind, OsCode, Result};
pub use exit::{Address, Cause, Crash, Exit, Resume, Unhandled, Width};
pub use host::{Check, HostReport, Verdict};
pub use insn::{Instruction, MAX_INSTRUCTION};
pub use mem::{GuestMemory, GuestRam};
pub use pending::Pending;
pub use roster::{Place, Roster};
pub use traits::{Doorbell, EdgeLine, Hypervisor, Kicker, LevelLine, Vcpu, VcpuSeed, Vm};
