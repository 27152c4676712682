//! The program: reads the command line, calls the library, turns its answer into an exit status.

use std::process::ExitCode;

use runner::cli::{self, Command};
use runner::host::Accelerator;
use runner::{config, doctor, log, outcome, plan, run};

fn main() -> ExitCode {
    let status = match cli::parse(std::env::args_os()) {
        Err(failure) => {
            match failure.to_stdout {
                true => print!("{}", failure.text),
                false => log::line(format_args!("runner: {}", failure.text)),
            }
            failure.status()
        }
        Ok(command) => carry_out(command),
    };
    ExitCode::from(status)
}

fn carry_out(command: Command) -> u8 {
    match command {
        Command::Run(options) => {
            let settings =
                config::load(&options.configs).and_then(|config| config::settle(*options, &config));
            match settings {
                Ok(settings) => {
                    log::set_verbose(settings.verbose);
                    run::run::<Accelerator>(&settings)
                }
                Err(error) => fail(&error),
            }
        }
        Command::Inspect { image, .. } => match plan::inspect(&image) {
            Ok(lines) => {
                lines.iter().for_each(|line| println!("{line}"));
                0
            }
            Err(error) => fail(&error),
        },
        Command::Doctor { json, .. } => doctor::run::<Accelerator>(json),
    }
}

fn fail(why: &dyn std::fmt::Display) -> u8 {
    log::line(format_args!("runner: {why}"));
    outcome::status::FAILED
}
