//! The table: medians over the rounds of both monitors, their ratios beside what is asked for, and where
//! that is missed the profile that says why.

use super::rows::{Goal, Part, Row, What};
use super::{Value, Values};

/// What eight connections are to carry together, of what one does,
const EIGHT: Goal = Goal::AtLeast(0.9);
/// and one beside a thousand idle ones.
const BESIDE_IDLE: Goal = Goal::AtLeast(0.95);

/// Why eight connections to a guest of one processor carry less than one, where the peer shows it as well
/// and over tap, too: compare acknowledgements ("from it") and context switches in the profiles.
const READERS: &str = "the guest acknowledges each connection's frames by themselves, and changes from reader to \
    reader: beside one connection, see its frames, interrupts and context switches a MiB";

/// Prints it.
pub fn print(rows: &[Row], peer: &str, peers: &[Values], own: &[Values]) {
    println!("{:<36} {:>10} {:>10} {:>8}   asked for", "", peer, "runner", "ratio");
    for row in rows {
        let (theirs, ours) = (number(row.what, peers), number(row.what, own));
        let ratio = ours / theirs;
        let met = row.goal.is_met(ratio);
        let verdict = if met { "" } else { ", missed" };
        println!("{row:<36} {theirs:>10.0} {ours:>10.0} {ratio:>8.2}   {}{verdict}", row.goal);
        if !met {
            why(row.what, [(peer, peers), ("runner", own)]);
        }
    }
    for (of, one, name, goal) in [
        (What::Up8, What::Up, "up, 8 connections beside 1", EIGHT),
        (What::Down8, What::Down, "down, 8 connections beside 1", EIGHT),
        (What::UpBesideIdle, What::Up, "up, beside 1000 idle, and not", BESIDE_IDLE),
    ] {
        let measured = |what| rows.iter().find(|row| row.what == what);
        let Some((row, _)) = measured(of).zip(measured(one)) else { continue };
        within(row.part, name, (of, one), goal, [(peer, peers), ("runner", own)]);
    }
}

/// A ratio of two values of one monitor.
fn within(
    part: Part,
    name: &str,
    (of, one): (What, What),
    goal: Goal,
    both: [(&str, &[Values]); 2],
) {
    let [theirs, ours] = both.map(|(_, rounds)| number(of, rounds) / number(one, rounds));
    let met = goal.is_met(ours);
    let verdict = if met { "" } else { ", missed" };
    let name = format!("{part}: {name}");
    println!("{name:<36} {theirs:>10.2} {ours:>10.2} {:>8}   {goal}{verdict}", "");
    if !met {
        if of == What::Down8 {
            println!("    {READERS}");
        }
        let [_, (own, rounds)] = both;
        for what in [one, of] {
            why(what, [(own, rounds)]);
        }
    }
}

/// The profiles of the rounds that the medians are from.
fn why<const N: usize>(what: What, monitors: [(&str, &[Values]); N]) {
    for (name, rounds) in monitors {
        if let Some(profile) = median(what, rounds).and_then(|value| value.profile.as_ref()) {
            println!("    {name}, {what:?}: {profile}");
        }
    }
}

fn number(what: What, rounds: &[Values]) -> f64 {
    median(what, rounds).map_or(f64::NAN, |value| value.number)
}

/// Of the rounds in which it was measured.
fn median(what: What, rounds: &[Values]) -> Option<&Value> {
    let of = |values: &'_ Values| values.iter().position(|value| value.what == what);
    let mut values: Vec<&Value> =
        rounds.iter().filter_map(|values| values.get(of(values)?)).collect();
    values.sort_by(|a, b| a.number.total_cmp(&b.number));
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_the_rounds_in_which_it_was_measured() {
        let up = |number| vec![Value { what: What::Up, number, profile: None }];
        let rounds = [up(3.0), up(1.0), vec![], up(2.0)];
        assert_eq!(number(What::Up, &rounds), 2.0);
        assert!(number(What::Down, &rounds).is_nan());
    }
}
