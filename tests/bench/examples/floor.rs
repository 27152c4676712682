//! `floor GUEST MIB`: runs the floor. An example, so that it can be built as runner ships: static.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    match args.as_slice() {
        [_, guest, mib] => bench::floor::boot(guest, mib.parse()?),
        _ => Err("floor GUEST MIB".into()),
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))] // the floor is KVM's
fn main() {}
