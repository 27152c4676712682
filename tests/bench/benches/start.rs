//! `cargo bench`: what starting a guest and leaving it 20,000 times costs, beside a floor and
//! whatever peers are installed (QEMU, Firecracker, Cloud Hypervisor).
//!
//! Builds runner and the floor as `cargo static` does, and measures those.

fn main() -> std::process::ExitCode {
    imp::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))] // KVM is the floor
mod imp {
    pub(crate) fn main() -> std::process::ExitCode {
        println!("skipped: the floor is KVM's, which this system does not have");
        std::process::ExitCode::SUCCESS
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))] // see above
mod imp {
    use std::path::Path;
    use std::process::ExitCode;

    use bench::build;
    use bench::measure::Candidate;
    use bench::table;
    use guests::x86_64::kernels::{DISK_READS, DISK_READS_8, DISK_WRITES, STORM, TINY};

    const ROUNDS: usize = 40;
    const HELLO: &str = "hello";

    /// Bytes that the guests with a disk read and write.
    const DISK: usize = 8 << 20;

    /// QEMU's machine that is nearest to ours.
    const MICROVM: &str = "-M microvm,pit=off,pic=off,rtc=off,isa-serial=on -accel kvm \
        -cpu qemu64 -m 128 -nodefaults -no-user-config -display none -no-reboot -serial stdio \
        -device isa-debug-exit,iobase=0x501,iosize=1";

    /// A disk where ours is; behind it goes the file's name.
    const QEMU_DISK: &str = "-global virtio-mmio.force-legacy=false \
        -device virtio-blk-device,drive=d,bus=virtio-mmio-bus.0 \
        -drive if=none,id=d,format=raw,cache=writeback,aio=threads,file=";

    pub(crate) fn main() -> ExitCode {
        bench::status(compare())
    }

    fn compare() -> Result<(), String> {
        if !Path::new("/dev/kvm").exists() {
            println!("skipped: no /dev/kvm here");
            return Ok(());
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let guest = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
            Ok::<String, String>(path.display().to_string())
        };
        let (tiny, storm) = (guest("tiny.elf", TINY)?, guest("storm.elf", STORM)?);
        let (runner, floor) = build::runner_and_floor()?;
        let (runner, floor) = (runner.display(), floor.display());
        let new = |name: &str, line: String| Candidate::new(name, &line, HELLO);
        println!("start: exec to the first byte of a guest that says hello and ends");
        let mut start = vec![
            new("floor 128M", format!("{floor} {tiny} 128")),
            new("runner 128M", format!("{runner} -m 128M {tiny}")),
            new("floor 2G", format!("{floor} {tiny} 2048")),
            new("runner 2G (default)", format!("{runner} {tiny}")),
        ];
        start.extend(peers(&tiny));
        table::print(&start, &table::run(&start, ROUNDS)?);
        println!("\nstorm: 20,000 reads of the UART's line status first");
        let exits = [
            new("floor", format!("{floor} {storm} 128")),
            new("runner", format!("{runner} -m 128M {storm}")),
        ];
        table::print(&exits, &table::run(&exits, ROUNDS / 4)?);
        println!("\ndisk: 8,192 requests of 4 KiB, from and to the host's page cache");
        let disk = folder.path().join("disk.img");
        std::fs::write(&disk, vec![0x5a; DISK]).map_err(|error| error.to_string())?;
        let mut requests = Vec::new();
        for (name, bytes) in
            [("reads", DISK_READS), ("reads-by-8", DISK_READS_8), ("writes", DISK_WRITES)]
        {
            let guest = guest(name, bytes)?;
            let disk = disk.display();
            let runner = format!("{runner} -m 64M {guest} --disk {disk}");
            requests.push(new(&format!("{name}: runner"), runner.clone()));
            requests.push(new(&format!("{name}: ephemeral"), format!("{runner} --ephemeral")));
            let qemu = format!("qemu-system-x86_64 {MICROVM} -kernel {guest} {QEMU_DISK}{disk}");
            let qemu = new(&format!("{name}: qemu"), qemu);
            requests.extend(Some(qemu).filter(|peer| bench::measure::once(peer).is_ok()));
        }
        table::print(&requests, &table::run(&requests, ROUNDS / 4)?);
        Ok(())
    }

    /// Peers that are installed and can start the same guest.
    fn peers(tiny: &str) -> Vec<Candidate> {
        let all = [
            ("qemu-system-x86_64", format!("{MICROVM} -kernel {tiny}")),
            ("firecracker", format!("--no-api --config-file {tiny}.json")),
            (
                "cloud-hypervisor",
                format!(
                    "--kernel {tiny} --memory size=128M --cpus boot=1 --serial tty --console off"
                ),
            ),
        ];
        let firecracker = format!(
            r#"{{"boot-source":{{"kernel_image_path":"{tiny}"}},"drives":[],"machine-config":{{"vcpu_count":1,"mem_size_mib":128}}}}"#
        );
        // Only Firecracker reads it; without it, it is left out below like any that does not run.
        let _ = std::fs::write(format!("{tiny}.json"), firecracker);
        let candidates = all
            .into_iter()
            .map(|(name, args)| Candidate::new(name, &format!("{name} {args}"), HELLO));
        candidates.filter(|peer| bench::measure::once(peer).is_ok()).collect()
    }
}
