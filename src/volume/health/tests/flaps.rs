//! A volume that goes down again and again: how long it is held down, and what the log is told.

use std::time::Duration;

use super::{Event, FIRST_HOLD, File, LONGEST_HOLD, Line, Step, World};

/// The log lines of a volume that fails for further files as soon as it is up and answers every probe, for a
/// number of outages.
fn flap(world: &mut World, outages: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for outage in 0..outages {
        for file in 0..3 {
            let path = format!("/{:?}/{outage}/{file}", world.now);
            let failed = Event::FileFailed(File::read(&path));
            lines.extend(world.machine.on(failed, world.instant()).line);
        }
        assert!(world.machine.is_down() && !world.machine.is_silent());
        while world.machine.is_down() {
            let (step, _) = world.machine.next_step(world.instant());
            match step {
                Step::Wait(until) => world.now = until - world.base,
                _ => lines.extend(world.machine.on(Event::Probed(true), world.instant()).line),
            }
        }
    }
    lines
}

/// The reaper retries failed deletions when their volume is up again.
#[test]
fn files_that_are_known_to_fail_take_a_volume_down_once() {
    let mut world = World::new();
    let fail = |world: &mut World| {
        let files = ["/a", "/b", "/c"].map(File::written);
        let actions = files.map(|file| world.machine.on(Event::FileFailed(file), world.instant()));
        assert!(actions.iter().all(|actions| !actions.returned));
        world.machine.is_down()
    };
    assert!(fail(&mut world));
    while world.machine.is_down() {
        match world.machine.next_step(world.instant()).0 {
            Step::Wait(until) => world.now = until - world.base,
            _ => assert!(world.machine.on(Event::Probed(true), world.instant()).line.is_some()),
        }
    }
    assert!(!fail(&mut world) && world.machine.is_good());
}

#[test]
fn a_volume_that_flaps_is_held_down_for_up_to_a_minute_and_counted() {
    let mut world = World::new();
    let flaps = |times, held_for| Line::Flaps { times, held_for };
    let expected = [
        Line::Down,
        Line::Up { down_for: FIRST_HOLD },
        flaps(1, Duration::from_secs(1)),
        flaps(2, Duration::from_secs(2)),
        flaps(4, Duration::from_secs(8)),
        flaps(8, Duration::from_mins(1)),
        flaps(16, Duration::from_mins(1)),
    ];
    assert_eq!(flap(&mut world, 20), expected);
    // 0.5 + 1 + 2 + … + 32, and 13 minutes
    assert_eq!(world.now, Duration::from_millis(63_500) + 13 * LONGEST_HOLD);
    world.now += LONGEST_HOLD;
    let (step, actions) = world.machine.next_step(world.instant());
    assert_eq!(step, Step::End);
    let steady = Line::Steady { flapped: 19, since_first_down: world.now };
    assert_eq!(actions.line, Some(steady));
    // the next outage begins anew
    assert!(matches!(flap(&mut world, 1)[..], [Line::Down, Line::Up { down_for: FIRST_HOLD }]));
}
