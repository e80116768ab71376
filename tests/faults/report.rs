//! The statistics of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::linear::{Action, Operation, Outcome, When};
use crate::load::{Load, Request};

/// The maximum share of doubtful writes among those that the index could store; with more, the histories prove
/// nothing.
const DOUBT: f64 = 0.1;

/// Statistics of well-formed requests while the master was up.
pub struct Availability {
    /// Requests with a conclusive answer, and all requests.
    gets: (usize, usize),
    puts: (usize, usize),
    /// The same for reads through S3.
    s3_gets: (usize, usize),
    s3_puts: (usize, usize),
    completions: (usize, usize),
    /// From the request to the value's last byte, including redirects to volumes that were gone.
    get_p999: Duration,
}

impl Availability {
    /// Asserts the availability that is promised while one volume at a time is down.
    #[track_caller]
    pub fn assert_is_as_promised(&self) {
        assert_eq!(self.gets.0, self.gets.1, "GETs that were answered");
        assert!(share(self.puts) > 0.99, "{} of {} PUTs were carried out", self.puts.0, self.puts.1);
        assert_eq!(self.s3_gets.0, self.s3_gets.1, "GETs through the master that were answered");
        assert!(
            share(self.s3_puts) > 0.99,
            "{} of {} PUTs by S3 were carried out",
            self.s3_puts.0,
            self.s3_puts.1
        );
        assert!(self.get_p999 <= Duration::from_secs(2), "GET, 99.9th percentile: {:?}", self.get_p999);
    }
}

/// Prints the faults and the observations.
pub fn report(load: &Load, faults: &BTreeMap<String, usize>) -> Availability {
    println!("faults: {} {faults:?}", faults.values().sum::<usize>());
    let operations = load.operations();
    let mut kinds = BTreeMap::<&str, usize>::new();
    for operation in &operations {
        let action = match operation.action {
            Action::Get => "GET",
            Action::Put(When::Absent, _) => "PUT",
            Action::Put(When::Always, _) => "overwrite",
            Action::Put(When::Holds(_), _) => "overwrite if",
            Action::Delete | Action::Erase(_) => "DELETE",
            Action::Unlink => "UNLINK",
            Action::Relink => "RELINK",
            Action::Rebalance => "REBALANCE",
            Action::Complete(..) => "complete",
            Action::Abort(_) => "abort",
            Action::Touch(_) => "of parts",
        };
        *kinds.entry(action).or_default() += 1;
    }
    println!("operations checked: {} {kinds:?}, in doubt: {}", operations.len(), doubtful(load).0);
    let requests = load.requests_while_the_master_was_there();
    let mut answers = BTreeMap::<(&str, u16), usize>::new();
    for Request { method, status, .. } in &requests {
        *answers.entry((method, *status)).or_default() += 1;
    }
    println!(
        "answers while the master was there: {answers:?}; redirects to a volume that had gone: {}",
        load.retries()
    );
    let of = |wanted: &str, told: &dyn Fn(u16) -> bool| {
        let all: Vec<_> = requests.iter().filter(|request| request.method == wanted).collect();
        (all.iter().filter(|request| told(request.status)).count(), all.len())
    };
    let mut latencies = Histogram::<u64>::new(3).unwrap();
    for request in requests.iter().filter(|request| request.method == "GET") {
        latencies.record((request.answered - request.called) / 1000).unwrap();
    }
    let availability = Availability {
        gets: of("GET", &|status| matches!(status, 302 | 404)),
        puts: of("PUT", &|status| matches!(status, 201 | 403 | 409)),
        s3_gets: of("S3 GET", &|status| matches!(status, 200 | 404)),
        s3_puts: of("S3 PUT", &|status| matches!(status, 200 | 404 | 409 | 412)),
        completions: of("S3 COMPLETE", &|status| matches!(status, 200 | 400 | 404 | 409 | 412)),
        get_p999: Duration::from_micros(latencies.value_at_quantile(0.999)),
    };
    println!(
        "availability: GET {:.4} %, 99.9 % within {:?}, all within {:?}; PUT {:.3} %; by S3 GET {:.4} %, PUT {:.3} %, completion {:.3} %",
        100.0 * share(availability.gets),
        availability.get_p999,
        Duration::from_micros(latencies.max()),
        100.0 * share(availability.puts),
        100.0 * share(availability.s3_gets),
        100.0 * share(availability.s3_puts),
        100.0 * share(availability.completions),
    );
    availability
}

/// Asserts that few writes are doubtful; otherwise the history proves nothing.
#[track_caller]
pub fn assert_doubt_is_rare(load: &Load) {
    let (doubtful, writes) = doubtful(load);
    assert!(share((doubtful, writes)) < DOUBT, "{doubtful} of {writes} writes are in doubt");
}

fn doubtful(load: &Load) -> (usize, usize) {
    let reads = |action| matches!(action, Action::Get | Action::Touch(_));
    let counts = |operation: &Operation| {
        // a full index leaves every write in doubt, so their share says only how long it was full
        !reads(operation.action) && !load.index_could_not_be_written_at(operation.called)
    };
    let writes: Vec<_> = load.operations().into_iter().filter(counts).collect();
    (writes.iter().filter(|operation| operation.outcome == Outcome::Doubtful).count(), writes.len())
}

#[allow(clippy::cast_precision_loss, reason = "a share for people to read")]
fn share((part, whole): (usize, usize)) -> f64 {
    part as f64 / whole.max(1) as f64
}
