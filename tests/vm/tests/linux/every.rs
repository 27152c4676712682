//! arm64: every small device and the shared folder in one boot, and in one more over the other bus. Where the
//! processor is x86_64 each has boots of its own, with more in them ([`super::devices`], [`super::shares`],
//! [`super::vsock`]); that of arm64 is emulated, and a boot takes the lab half a minute.

use std::time::Duration;

use super::super::support::or_skip;
use super::Debian;
use super::devices::{self, Person};
use super::shares::{Job, Shared};
use super::vsock::Host;

const JOBS: [Job; 2] = [Job::Copy, Job::Rebind];

/// Beside what any run may take: a machine with other work needs it, and no other does.
const MORE: Duration = Duration::from_secs(120);

/// A guest with `options`, through all its jobs, which take each device from its driver `rebinds` times.
fn through(options: &[&str], rebinds: u32) {
    let debian = or_skip!(Debian::find());
    let (person, host, shared) = (Person::new(), Host::new(), Shared::new(&JOBS));
    let (share, vsock) = (shared.option(), host.option());
    let args = [&Person::OPTIONS[..], &["-m", "384", &share, &vsock], options].concat();
    let run = debian.boot_general(&args, &format!("every {rebinds}"));
    let mut running = person.start(run);
    running.may_take(MORE);
    person.drive(&mut running);
    host.drive();
    let finished = running.finish();
    devices::check(&finished, rebinds);
    host.check(&finished, rebinds, 10);
    JOBS.iter().for_each(|job| shared.check(*job, &finished));
}

#[test]
fn every_device_works_over_pci_with_one_processor_before_and_after_its_driver_comes_and_goes() {
    through(&["--cpus=1", "--virtio=pci"], 3);
}

/// No driver goes: see [`devices`], of four processors and this bus.
#[test]
fn every_device_works_over_mmio_with_four_processors() {
    through(&["--cpus=4", "--virtio=mmio"], 0);
}
