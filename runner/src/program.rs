//! What the program does with its command line, over any backend.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};

use hv::Hypervisor;

use crate::cli::{self, Command};
use crate::{config, doctor, jail, log, outcome, plan, run};

/// Does what `words` say, the program's name first, and returns the process's exit status.
pub fn obey<H: Hypervisor>(words: Vec<OsString>) -> u8 {
    jail::prepare();
    match cli::parse(words) {
        Ok(command) => carry_out::<H>(command),
        Err(failure) if failure.to_stdout => match say(&failure.text) {
            0 => failure.status(),
            failed => failed,
        },
        Err(failure) => {
            log::line(format_args!("runner: {}", failure.text));
            failure.status()
        }
    }
}

fn carry_out<H: Hypervisor>(command: Command) -> u8 {
    match command {
        Command::Run(options) => {
            let configs = options.configs.clone();
            let mut report = options.report.clone();
            let settings = config::load(&configs).and_then(|config| {
                report = report.take().or_else(|| config.report());
                config::settle(*options, &config)
            });
            match settings {
                Ok(settings) => {
                    log::set_verbose(settings.verbose);
                    run::run::<H>(&settings, &configs)
                }
                Err(error) => run::refuse(report.as_deref(), &configs, error.to_string()),
            }
        }
        Command::Inspect { image, .. } => match plan::inspect(&image) {
            Ok(lines) => say(&format!("{}\n", lines.join("\n"))),
            Err(error) => fail(&error),
        },
        Command::Doctor { json, verbose, sign: false } => doctor::run::<H>(json, verbose),
        Command::Doctor { json, verbose, sign: true } => doctor::sign(json, verbose),
    }
}

/// Says what was asked for on stdout; a reader that has seen enough is no failure.
fn say(text: &str) -> u8 {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            fail(&format!("stdout: {error}; name another place for the output"))
        }
        _ => 0,
    }
}

fn fail(why: &dyn std::fmt::Display) -> u8 {
    log::line(format_args!("runner: {why}"));
    outcome::status::FAILED
}
