//! Config files and command line brought together: the command line wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fields::Class;
use super::named::{self, NamedBlock};
use super::parse::{Set, Value};
use super::{
    AccelChoice, Config, DEFAULT_MEMORY, Disk, DiskFormat, Error, Mount, Settings, devices,
    network, values,
};
use crate::cli::Options;

/// Decides what a run does. What the command line says stands; `-e` is added to `Env`, a variable of the same name
/// being replaced, `--disk` comes after the disks of the config, `-p` and `--udp` after its ports, and `--mounts` is added to `Mounts`; all else that is typed replaces what the config
/// has. What nobody says is as in OPS: 2 GiB, one CPU, the host's accelerator.
///
/// # Errors
/// A refused field that is set, a network that cannot be as asked, no image to boot.
pub fn settle(options: Options, config: &Config) -> Result<Settings, Error> {
    let warnings = config.warnings.clone();
    let network = network::settle(options.network, config)?;
    let mut settings = Settings {
        image: options.image.or_else(|| image(config)),
        kernel: options
            .kernel
            .or_else(|| config.path("RunConfig.Kernel"))
            .or_else(|| config.path("Kernel")),
        initrd: options.initrd.or_else(|| config.path("Runner.Initrd")),
        entry: options.entry.or_else(|| config.entry("Runner.Entry")),
        append: options.append.or_else(|| config.text("Runner.Append")),
        args: match options.args.is_empty() {
            true => config.texts("Args"),
            false => options.args,
        },
        env: env(config, options.env),
        memory: options
            .memory
            .or_else(|| config.number("RunConfig.Memory"))
            .unwrap_or(DEFAULT_MEMORY),
        cpus: options
            .cpus
            .or_else(|| u32::try_from(config.number("RunConfig.CPUs")?).ok())
            .unwrap_or(1),
        accel: AccelChoice::Auto,
        accel_asked_by: None,
        jail: options.jail.or_else(|| config.jail("Runner.Jail")).unwrap_or_default(),
        virtio: options.virtio.or_else(|| config.bus("Runner.Virtio")),
        disks: disks(config, options.disks),
        blocks: blocks(config, options.blocks)?,
        mounts: mounts(config, options.mounts),
        ephemeral: options.ephemeral || config.flag("Runner.Ephemeral"),
        network,
        devices: devices::settle(options.devices, config),
        verbose: options.verbose || config.flag("RunConfig.Verbose"),
        timeout: options.timeout.or_else(|| config.time("Runner.Timeout")),
        report: options.report.or_else(|| config.report()),
        stdin: options.stdin || config.flag("Runner.Stdin"),
        tender: options.tender,
        dump: options.dump,
        warnings,
        accepted: Vec::new(),
    };
    accelerator(&mut settings, options.accel, config);
    classes(&mut settings, config)?;
    if settings.image.is_none() && settings.kernel.is_none() {
        return Err(Error(
            "no image to boot: name one, as in `runner hello`, or set RunConfig.ImageName in a config"
                .into(),
        ));
    }
    Ok(settings)
}

/// `RunConfig.ImageName`, else what OPS calls the image of `Program`.
fn image(config: &Config) -> Option<PathBuf> {
    config.path("RunConfig.ImageName").or_else(|| {
        let program = config.path("Program")?;
        let name = Path::new(program.file_name()?).to_str()?;
        let name = name.split('.').next().filter(|name| !name.is_empty())?;
        Some(name.into())
    })
}

fn env(config: &Config, typed: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut env = config.map("Env");
    env.extend(typed);
    env.into_iter().collect()
}

fn disks(config: &Config, typed: Vec<Disk>) -> Vec<Disk> {
    let mounts = config.texts("RunConfig.Mounts").into_iter();
    let mut disks: Vec<Disk> = mounts
        .map(|path| Disk { path: path.into(), read_only: false, format: DiskFormat::Raw })
        .collect();
    if let Some(Value::Disks(more)) = config.value("Runner.Disks") {
        disks.extend_from_slice(more);
    }
    disks.extend(typed);
    disks
}

/// Block storage by name: what is typed stands before what a config has by that name.
fn blocks(config: &Config, typed: Vec<NamedBlock>) -> Result<Vec<NamedBlock>, Error> {
    let mut blocks = config.named("Runner.Blocks", named::block)?;
    blocks.retain(|block| typed.iter().all(|other| other.name != block.name));
    blocks.extend(typed);
    Ok(blocks)
}

/// Those of the config, over which a typed one of the same volume wins, by the names of the volumes.
fn mounts(config: &Config, typed: Vec<Mount>) -> Vec<Mount> {
    let has = config.map("Mounts");
    // Each was looked at when the file was read.
    let has = has.iter().filter_map(|(volume, path)| values::mount_at(volume, path).ok());
    let mut mounts: BTreeMap<_, _> = has.map(|mount| (mount.volume.clone(), mount)).collect();
    mounts.extend(typed.into_iter().map(|mount| (mount.volume.clone(), mount)));
    mounts.into_values().collect()
}

fn accelerator(settings: &mut Settings, typed: Option<AccelChoice>, config: &Config) {
    if let Some(choice) = typed {
        settings.accel = choice;
        settings.accel_asked_by = Some(format!("--accel={choice}"));
        return;
    }
    for path in ["Runner.Accel", "RunConfig.Accel"] {
        let Some(Set { value, place }) = config.get(path) else {
            continue;
        };
        settings.accel = match value {
            Value::Accel(choice) => *choice,
            Value::Flag(false) => AccelChoice::Off,
            _ => AccelChoice::Auto,
        };
        settings.accel_asked_by = Some(format!("{place}: {path}"));
        return;
    }
}

/// Lists, warns of and refuses what does not work, by the table of fields.
fn classes(settings: &mut Settings, config: &Config) -> Result<(), Error> {
    // One line for all fields that have the same to say.
    let mut warned: Vec<(&str, String)> = Vec::new();
    for (field, set) in config.all() {
        match field.class {
            Class::Works => {}
            Class::Image | Class::Cloud | Class::Ops => settings.accepted.push(field.path),
            Class::Warned => match warned.iter_mut().find(|(note, _)| *note == field.note) {
                Some((_, fields)) => fields.extend([", ", field.path]),
                None => warned.push((field.note, format!("{}: {}", set.place, field.path))),
            },
            Class::Refused => {
                return Err(Error(format!("{}: {}: {}", set.place, field.path, field.note)));
            }
        }
    }
    for (note, fields) in warned {
        settings.warnings.push(format!("{fields}: {note}"));
    }
    Ok(())
}
