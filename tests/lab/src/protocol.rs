//! What host and agent say to each other: a plan as JSON in the initial root, and on the second serial line
//! reports one way and orders the other, as JSON lines. The first one is the kernel's console, whose messages
//! may land in the middle of a line.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Every line starts with this.
pub(crate) const PREFIX: &str = "@lab ";

/// What the agent may be told to run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) jobs: Vec<Job>,
}

/// One process to run to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What people call it, unique within a plan.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) directory: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    /// Seconds after which it is killed.
    pub(crate) deadline: u64,
}

/// One line from the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Nothing can run, for this reason.
    Broken { why: String },
    /// The agent waits for its first order.
    Ready,
    /// The job with this index runs.
    Started { job: usize },
    /// The job with this index ended.
    Finished { job: usize, outcome: Outcome },
    /// The machine goes down now.
    Done,
}

/// One line from the host, after [`Report::Ready`] and after each [`Report::Finished`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Run the job with this index.
    Run { job: usize },
    /// There is none left.
    PowerOff,
}

/// How a job went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) end: End,
    /// The lines that start with `skipped: `, without that.
    pub(crate) skips: Vec<String>,
    /// The last part of stdout and stderr, as they came.
    pub(crate) output: String,
    /// Wall-clock milliseconds.
    pub(crate) milliseconds: u64,
    /// User and system time of the process and its children, in microseconds.
    pub(crate) cpu_microseconds: u64,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    Exited(i32),
    Killed(i32),
    /// By its deadline; the agent killed it.
    TimedOut,
    /// It never ran, for this reason.
    NotStarted(String),
}

/// A report or an order as the line to send.
pub(crate) fn line(message: &impl Serialize) -> Result<String, String> {
    let json =
        serde_json::to_string(message).map_err(|e| format!("cannot write a message: {e}"))?;
    Ok(format!("{PREFIX}{json}\n"))
}

/// The report or the order in a line from the serial port; `None` for any other text.
pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> Option<Result<T, String>> {
    let json = line.trim_end().strip_prefix(PREFIX)?;
    Some(
        serde_json::from_str(json)
            .map_err(|e| format!("unreadable message of the lab's: {e}: {json}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_the_serial_line_whatever_a_test_prints() {
        let outcome = Outcome {
            end: End::Exited(101),
            skips: vec!["no \"tap\" here".to_owned()],
            output: "a\r\nb\u{1b}[31m\n@lab \u{0}\u{fffd}".to_owned(),
            milliseconds: 12,
            cpu_microseconds: 3400,
        };
        let sent = line(&Report::Finished { job: 7, outcome: outcome.clone() }).unwrap();
        assert_eq!(sent.matches('\n').count(), 1);
        // A terminal line turns \n into \r\n on its way out.
        let received = sent.replace('\n', "\r\n");
        match parse::<Report>(&received).unwrap().unwrap() {
            Report::Finished { job: 7, outcome: got } => assert_eq!(got, outcome),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_order_is_one_line() {
        for order in [Order::Run { job: 599 }, Order::PowerOff] {
            let sent = line(&order).unwrap();
            assert_eq!(sent.matches('\n').count(), 1);
            assert_eq!(parse::<Order>(&sent).unwrap().unwrap(), order);
        }
    }

    #[test]
    fn other_text_is_not_a_report_and_a_broken_report_is_an_error() {
        assert!(parse::<Report>("[    1.0] kvm: something").is_none());
        let broken = parse::<Report>("@lab {\"Started\":").unwrap();
        assert!(broken.unwrap_err().contains("unreadable"));
    }
}
