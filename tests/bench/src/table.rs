//! Medians, and the ratios of each round to the floor of the same round.

use std::time::Duration;

use crate::measure::{Candidate, Sample, once};

/// Runs all candidates `rounds` times in turn, after one round that does not count.
///
/// # Errors
/// As [`once`].
pub fn run(candidates: &[Candidate], rounds: usize) -> Result<Vec<Vec<Sample>>, String> {
    let mut samples = vec![Vec::new(); candidates.len()];
    for round in 0..=rounds {
        for step in 0..candidates.len() {
            let index = (step + round) % candidates.len();
            if let (Some(candidate), Some(list)) = (candidates.get(index), samples.get_mut(index)) {
                let sample = once(candidate)?;
                if round > 0 {
                    list.push(sample);
                }
            }
        }
    }
    Ok(samples)
}

/// Prints medians of all, and ratios to the first candidate.
pub fn print(candidates: &[Candidate], samples: &[Vec<Sample>]) {
    let Some(base) = samples.first() else { return };
    println!(
        "{:<22} {:>9} {:>9} {:>9} {:>8}   ratios to {}: first byte, CPU",
        "",
        "first ms",
        "wall ms",
        "CPU ms",
        "RSS MiB",
        candidates.first().map_or("", |first| &first.name)
    );
    for (candidate, samples) in candidates.iter().zip(samples) {
        let of = |value: fn(&Sample) -> Duration| {
            median(samples.iter().map(|sample| value(sample).as_secs_f64() * 1e3))
        };
        let ratio =
            |value: fn(&Sample) -> Duration| {
                let pairs = samples.iter().zip(base);
                median(pairs.map(|(sample, floor)| {
                    value(sample).as_secs_f64() / value(floor).as_secs_f64()
                }))
            };
        println!(
            "{:<22} {:>9.2} {:>9.2} {:>9.2} {:>8.1}   {:.2} {:.2}",
            candidate.name,
            of(|sample| sample.marker),
            of(|sample| sample.wall),
            of(|sample| sample.cpu),
            median(samples.iter().map(Sample::mebibytes)),
            ratio(|sample| sample.marker),
            ratio(|sample| sample.cpu),
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn every_candidate_runs_once_a_round() {
        let echo = |name, text| Candidate::new(name, text, "hi");
        let candidates = [echo("a", "echo hi"), echo("b", "echo oh hi")];
        let samples = run(&candidates, 3).unwrap();
        assert_eq!(samples.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        let error = run(&[echo("c", "echo no")], 1).unwrap_err();
        assert!(error.contains("no \"hi\" in its output"), "{error}");
    }
}
