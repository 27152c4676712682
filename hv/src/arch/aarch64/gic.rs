//! Where the interrupt controller lies: a GICv3 at the addresses of QEMU's machine `virt`, which
//! guests have built in (Arm IHI 0069; the MSI frame as in GICv2m, Arm DEN 0029 appendix E).
//!
//! Every backend puts it there for [`IrqChip::InKernel`](crate::IrqChip::InKernel), and whoever tells a
//! guest of it (a device tree) reads it here.

/// GPA of the distributor.
pub const DISTRIBUTOR: u64 = 0x0800_0000;
/// Bytes of it.
pub const DISTRIBUTOR_SIZE: u64 = 0x1_0000;
/// GPA of the frame that message-signalled interrupts are written to, where there is one
/// ([`Caps::msi`](crate::Caps::msi)).
pub const MSI_FRAME: u64 = 0x0802_0000;
/// GPA of the first redistributor; those of the other vCPUs follow in order of their ids.
pub const REDISTRIBUTORS: u64 = 0x080a_0000;
/// Bytes of a redistributor: a frame for it and one for its SGIs and PPIs, 64 KiB each.
pub const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// GPA behind everything that belongs to the controller.
pub const END: u64 = 0x0900_0000;
/// The lowest INTID that is message-signalled where there is a frame; lines cannot use it there.
pub const FIRST_MSI: u32 = 80;
/// How many INTIDs are message-signalled.
pub const MSIS: u32 = 64;

/// The INTID of a processor's performance monitors, where it has some: PPI 7.
pub const MONITORS: u32 = 23;

/// The most vCPUs there are redistributors for.
pub const MAX_VCPUS: u32 = 123;

const _: () = assert!(REDISTRIBUTORS + MAX_VCPUS as u64 * REDISTRIBUTOR_SIZE <= END);
