//! The record of one vCPU's exits, a line each, in a file of its own.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use hv::{Address, Error, Exit, Kind, Result, Resume};

/// A file that lines are added to.
#[derive(Debug)]
pub(crate) struct Record(File);

impl Record {
    /// Begins the record of vCPU `id`, in the folder that the environment names.
    pub(crate) fn begin(id: usize) -> Result<Self> {
        let failed = |why: String| Error::new("record exits", Kind::Invalid, why);
        let folder = std::env::var_os("TRACED_INTO").ok_or_else(|| {
            failed("TRACED_INTO is not set: it names the folder of the record".to_owned())
        })?;
        let path = PathBuf::from(folder).join(format!("vcpu{id}"));
        let file = File::create(&path);
        file.map(Self).map_err(|error| failed(format!("{}: {error}", path.display())))
    }

    /// An exit. That a kick came is the host's doing, and no guest sees it.
    pub(crate) fn exit(&mut self, exit: &Exit) -> Result<()> {
        match exit {
            Exit::Kicked => Ok(()),
            Exit::Read { at, width } => {
                self.line(&format!("read {} {}", named(*at), width.bytes()))
            }
            Exit::Write { at, width, value } => {
                self.line(&format!("write {} {} {value:#x}", named(*at), width.bytes()))
            }
            other => self.line(&format!("{other:x?}")),
        }
    }

    /// What the guest is told.
    pub(crate) fn answer(&mut self, resume: Resume) -> Result<()> {
        match resume {
            Resume::Go => Ok(()),
            Resume::Value(value) => self.line(&format!("answer {value:#x}")),
        }
    }

    /// At once: whatever ends the process, what came before is there.
    fn line(&mut self, line: &str) -> Result<()> {
        let written = self.0.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| Error::new("record exits", Kind::Host, error.to_string()))
    }
}

fn named(at: Address) -> String {
    match at {
        Address::Port(port) => format!("port {port:#x}"),
        Address::Mmio(gpa) => format!("{gpa:#x}"),
    }
}
