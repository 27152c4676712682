//! What a Mach-O file says about itself (Apple's `mach-o/loader.h`): for which processor and system it
//! is, which libraries it needs and what it takes from them.

use crate::command::Result;
use object::macho::{self, MachHeader64};
use object::read::macho::{LoadCommandVariant, MachHeader as _, MachOFile64};
use object::{Architecture, Endianness, Object as _};
use std::collections::BTreeSet;

/// A program for macOS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) is_arm64: bool,
    /// The oldest macOS that starts it: major, minor.
    pub(super) oldest: Option<(u32, u32)>,
    /// The libraries it needs, by the paths under which they are loaded.
    pub(super) libraries: BTreeSet<String>,
    /// What it takes from libraries, without the underscore that C has before names.
    pub(super) imports: BTreeSet<String>,
}

impl Program {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let context = |e| format!("no Mach-O file: {e}");
        let file = MachOFile64::<Endianness>::parse(bytes).map_err(context)?;
        let header = MachHeader64::<Endianness>::parse(bytes, 0).map_err(context)?;
        let endian = header.endian().map_err(context)?;
        if header.filetype(endian) != macho::MH_EXECUTE {
            return Err("a Mach-O file that is no program".to_owned());
        }
        let mut program = Self {
            is_arm64: file.architecture() == Architecture::Aarch64,
            oldest: None,
            libraries: BTreeSet::new(),
            imports: BTreeSet::new(),
        };
        let mut commands = header.load_commands(endian, bytes, 0).map_err(context)?;
        while let Some(command) = commands.next().map_err(context)? {
            match command.variant().map_err(context)? {
                LoadCommandVariant::BuildVersion(version)
                    if version.platform.get(endian) == macho::PLATFORM_MACOS =>
                {
                    // 16 bits, then twice 8.
                    let oldest = version.minos.get(endian);
                    program.oldest = Some((oldest >> 16, (oldest >> 8) & 0xff));
                }
                LoadCommandVariant::Dylib(library) => {
                    let name =
                        command.string(endian, library.dylib.name).map_err(|e| format!("{e:?}"))?;
                    program.libraries.insert(String::from_utf8_lossy(name).into_owned());
                }
                _ => {}
            }
        }
        for import in file.imports().map_err(context)? {
            let name = String::from_utf8_lossy(import.name()).into_owned();
            program.imports.insert(name.strip_prefix('_').unwrap_or(&name).to_owned());
        }
        Ok(program)
    }
}
